"""Who may do what: bearer tokens with roles, and no request that another site's page has sent."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
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
BURST_SECONDS, MAX_CLIENTS = 2.0, 1000
MIN_TOKEN = 32
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


class Pace:
    """How fast one client may send: steadily, and some seconds' worth at once."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._due: dict[str, float] = {}

    def seconds_early(self, client: str) -> float:
        """How long a client has to wait; 0: the request counts."""
        now = time.monotonic()
        due = max(self._due.get(client, now), now)
        if due - now > BURST_SECONDS:
            return due - now - BURST_SECONDS
        if len(self._due) > MAX_CLIENTS:
            self._due = {name: until for name, until in self._due.items() if until > now}
        self._due[client] = due + self._interval
        return 0.0


def refusal(server: ServerConfig, method: str, headers: Headers) -> str | None:
    """Why a request is refused whoever sends it; None if it is not."""
    host = headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    known = LOOPBACK if server.is_loopback else [each.lower() for each in server.host_names]
    if known and name not in known:  # else a page could call this machine by a name of its own
        return f"no station is called {name!r} (server.host_names)"
    is_own = urlsplit(headers.get("origin", f"//{host}")).netloc == host
    is_own &= headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return None if is_own or method in SAFE_METHODS else "sent by a page of another site"


def person_of(request: Request, server: ServerConfig, journal: Journal) -> Person | None:
    """Who sends a request; None: nobody who is known."""
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    secret = secret.strip() if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")
    if secret:
        owner = journal.owner_of(secret)
        return None if owner is None else Person(owner["name"], owner["role"])
    return Person("", "engineer") if server.is_loopback and not journal.has_tokens() else None


def new_token(journal: Journal, name: str, role: str) -> str:
    """Make a token, of which the journal has the hash alone. ValueError: no such role, or a name that has one."""
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role (one of {', '.join(ROLES)})")
    secret = secrets.token_urlsafe(32)
    journal.add_token(name, role, secret)
    return secret


def read_secret(path: Path) -> bytes:
    """What a file has, without spaces around it. ValueError: it cannot be read."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"cannot read the secret {path}: {error.strerror}") from error


def read_tokens(journal: Journal, path: Path) -> None:
    """Give the tokens of a file their roles. ValueError: a line is none."""
    for number, line in enumerate(read_secret(path).decode().splitlines(), start=1):
        words = line.split()
        if len(words) != 3 or words[1] not in ROLES or len(words[2]) < MIN_TOKEN:
            raise ValueError(f"{path}:{number}: no token (NAME ROLE TOKEN, of {MIN_TOKEN} random characters at least)")
        journal.add_token(*words, is_replacing=True)
