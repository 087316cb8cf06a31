"""Texts without secrets, for logs, messages and records."""

import os
import re
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
SECRET_VARIABLE = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL)", re.IGNORECASE)
SECRET_ARGUMENT = re.compile(
    r"\b([\w-]*(?:password|passwd|secret|token|signature|credential|access_?key(?:_?id)?|api_?key))"
    r"(\s*[=:]\s*)([^\s&,;)'\"]+)",
    re.IGNORECASE,
)
MIN_SECRET = 6  # characters: a shorter one would hide half of an ordinary text
MIN_USER = 4  # so would a shorter user name, as "git"


def redact(text: object, url: str = "") -> str:
    """A text in one line without credentials: those in addresses, in arguments and in this process's environment.

    url: an address whose user and password are hidden wherever they stand in the text.
    """
    text = " ".join(str(text).split())
    for secret in (*_secrets_of(url), *_secrets_of_environment()):
        text = text.replace(secret, HIDDEN)
    text = re.sub(r"(\w+://)[^/@\s]*@", r"\1", text)
    return SECRET_ARGUMENT.sub(rf"\1\2{HIDDEN}", text)


def _secrets_of(url: str) -> set[str]:
    try:
        parts = urlsplit(url if "://" in url else "")
    except ValueError:  # it is no address
        return set()
    user = parts.username if len(parts.username or "") >= MIN_USER else ""
    return {spelling for secret in (user, parts.password) if secret for spelling in (secret, unquote(secret))}


def _secrets_of_environment() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if SECRET_VARIABLE.search(name)
        and not name.upper().endswith(("FILE", "PATH", "DIR", "URI", "URL"))
        and len(value) >= MIN_SECRET
    ]
