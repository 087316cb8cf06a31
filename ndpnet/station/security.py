"""Who may do what: bearer tokens with roles, and no request that another site's page has sent."""

import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from ndpnet.station.config import LOOPBACK, ServerConfig
from ndpnet.station.journal import Journal

READ, REVIEW, INSPECT, DECIDE = "read", "review", "inspect", "decide"
ROLES = {
    "camera": {INSPECT},
    "reader": {READ},
    "operator": {READ, REVIEW},
    "engineer": {READ, REVIEW, INSPECT, DECIDE},
}
COOKIE = "ndpnet_token"
SAFE_METHODS = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True)
class Person:
    """Who asks; a person without a name is at this machine, and says it where it matters."""

    name: str
    role: str

    def may(self, action: str) -> bool:
        """Whether the role has this right."""
        return action in ROLES[self.role]


class Guard:
    """Decides on requests."""

    def __init__(self, server: ServerConfig, journal: Journal) -> None:
        self._server, self._journal = server, journal

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused whoever sends it; None if it is not."""
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        known = LOOPBACK if self._server.is_loopback else self._server.host_names
        if known and name not in known:  # else a page could call this machine by a name of its own
            return f"no station is called {name!r} (server.host_names)"
        if method in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "sent by a page of another site"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "sent by a page of another site"
        return None

    def person(self, request: Request) -> Person | None:
        """Who sends a request; None: nobody who is known."""
        secret = _secret_of(request)
        if secret:
            owner = self._journal.owner_of(secret)
            return owner and Person(owner["name"], owner["role"])
        if self._server.is_loopback and not self._journal.has_tokens():
            return Person("", "engineer")
        return None


def new_token(journal: Journal, name: str, role: str) -> str:
    """Make a token, of which the journal has the hash alone. ValueError: no such role, or a name that has one."""
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role (one of {', '.join(ROLES)})")
    secret = secrets.token_urlsafe(32)
    journal.add_token(name, role, secret)
    return secret


def _secret_of(request: Request) -> str:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")
