"""Asking an image registry whether it has an image, as a node that pulls it would. HTTP API v2; nothing is pulled."""

import base64
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from pipelines.image import DEFAULT_REGISTRY, Image, parse_image

SECONDS = 10.0
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def find_image(image: str) -> str:
    """The digest under which the registry has an image. ValueError: it has not.

    ConnectionError, PermissionError: from here it cannot be told; a node has another network, and secrets of its own.
    """
    parsed = parse_image(image)
    login = _login(parsed.registry)
    authorization = f"Basic {login}" if login else ""
    status, headers = _head(parsed, authorization)
    if status == 401:
        challenge = headers.get("WWW-Authenticate", "")
        if challenge.lower().startswith("bearer"):
            status, headers = _head(parsed, f"Bearer {_token(challenge, parsed, login)}")
    if status == 200:
        digest = headers.get("Docker-Content-Digest", "") or parsed.digest
        if parsed.digest and digest != parsed.digest:
            raise ValueError(f"{parsed.registry} answers with {digest}, not with the digest of {image}")
        return digest
    if status in (401, 403):
        raise PermissionError(f"{parsed.registry} does not let us see {image} (run `docker login {parsed.registry}`)")
    if status == 404:
        raise ValueError(f"{parsed.registry} has no {image} (push it)")
    raise ValueError(f"{parsed.registry} answers HTTP {status} for {image}")


def _head(image: Image, authorization: str) -> tuple[int, dict[str, str]]:
    # as Docker: a registry on this machine needs no TLS
    host = image.registry.partition(":")[0]
    scheme = "http" if host in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{image.registry}/v2/{image.name}/manifests/{image.digest or image.tag or 'latest'}"
    return _request(url, {"Accept": MANIFESTS} | ({"Authorization": authorization} if authorization else {}), "HEAD")[
        :2
    ]


def _token(challenge: str, image: Image, login: str) -> str:
    """A token that lets this image be pulled, from where the registry says."""
    fields = dict(CHALLENGE.findall(challenge))
    realm = fields.get("realm", "")
    if not realm.startswith(("https://", f"http://{image.registry}/")):
        raise ValueError(f"{image.registry} sends logins to {realm or 'nowhere'}, which is not encrypted")
    scope = fields.get("scope", f"repository:{image.name}:pull")
    query = urllib.parse.urlencode({"service": fields.get("service", ""), "scope": scope})
    status, _, body = _request(f"{realm}?{query}", {"Authorization": f"Basic {login}"} if login else {}, "GET")
    try:
        content = json.loads(body)
        return content.get("token") or content["access_token"]
    except (ValueError, KeyError, AttributeError) as error:
        raise PermissionError(
            f"{image.registry} gives no token (HTTP {status}; run `docker login {image.registry}`)"
        ) from error


class _KeepLogin(urllib.request.HTTPRedirectHandler):
    """Follows to another host without the login for the first."""

    def redirect_request(self, request: urllib.request.Request, *about: Any) -> urllib.request.Request | None:
        """The request that follows."""
        following = super().redirect_request(request, *about)
        if following is not None and following.host != request.host:
            following.remove_header("Authorization")
        return following


def _request(url: str, headers: dict[str, str], method: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.build_opener(_KeepLogin).open(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers, answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read(1 << 20)
    except OSError as error:
        where = urllib.parse.urlsplit(url).netloc
        raise ConnectionError(f"{where} does not answer from here: {getattr(error, 'reason', error)}") from error


def _login(registry: str) -> str:
    """User and password in base64, as `docker login` has stored them; "" where it has not, or a helper keeps them."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()
    names = ["https://index.docker.io/v1/", "docker.io"] if registry == DEFAULT_REGISTRY else [registry]
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auths", {})
    except (OSError, ValueError, AttributeError):
        return ""
    for name in (*names, f"https://{registry}"):
        entry = stored.get(name, {})
        if entry.get("auth"):
            return entry["auth"]
        if entry.get("username"):
            return base64.b64encode(f"{entry['username']}:{entry.get('password', '')}".encode()).decode()
    return ""
