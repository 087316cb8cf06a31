"""The station over HTTP: pictures in, verdicts out, health for machines; the page for people is in routes.py."""

import asyncio
import base64
import hashlib
import json
import math
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ndpnet.station.journal import FullError, JournalError, check_name
from ndpnet.station.security import HEADERS, Pace, person_of, refusal
from ndpnet.station.store import suffix_of

if TYPE_CHECKING:
    from ndpnet.station.station import Station

NO_ROOM = 507  # Insufficient Storage
BODY_SECONDS = 30.0  # how long the body of a request may take
MAX_JSON_BYTES, MAX_MASK_BYTES = 1e5, 4e6  # from anybody; from those who may write
HEALTH_PATHS = ("/healthz", "/readyz")  # of a cluster, which asks by address, and from where pictures come, too
OPEN_PATHS = ("/login", "/static/station.css", "/static/station.js", "/static/icon.svg")
KEY = re.compile(r"[\x21-\x7e]{1,200}")

Handler = Callable[[Request], Awaitable[Response]]


class Shield:
    """Before every request: is it from here, and from whom. After it: headers that keep the page to itself."""

    def __init__(self, app: Any, station: "Station") -> None:
        self._app, self._server, self._journal = app, station.config.server, station.journal
        self._pace = Pace(self._server.requests_per_second)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = Request(scope)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        try:
            await self._check(request)
        except (HTTPException, ValueError) as error:
            answer = await in_one_line(request, error)
            return await answer(scope, receive, send_with_headers)
        return await self._app(scope, receive, send_with_headers)

    async def _check(self, request: Request) -> None:
        """HTTPException: it is refused; ValueError: its host or origin is no address."""
        path = request.scope["path"]
        if path in HEALTH_PATHS:
            return
        if (reason := refusal(self._server, request.method, request.headers)) is not None:
            raise HTTPException(403, reason)
        early = self._pace.seconds_early(request.client.host if request.client else "")
        if early:
            wait = {"Retry-After": str(math.ceil(early))}
            raise HTTPException(429, "too many requests (server.requests_per_second)", wait)
        if path in OPEN_PATHS:
            return
        request.state.person = await run_in_threadpool(person_of, request, self._server, self._journal)
        if request.state.person is None:
            is_page = "text/html" in request.headers.get("accept", "")
            status, headers = (303, {"Location": "/login"}) if is_page else (401, {"WWW-Authenticate": "Bearer"})
            raise HTTPException(status, "a token is needed (`ndpnet station --add-token`)", headers)


def needs(handler: Handler, *actions: str) -> Handler:
    """A handler for those whose role has one of these rights."""

    async def checked(request: Request) -> Response:
        if not any(map(request.state.person.may, actions)):
            raise HTTPException(403, f"the role {request.state.person.role} may not do this ({actions[0]})")
        return await handler(request)

    return checked


class Inspection:
    """Pictures by POST, and what machines ask."""

    def __init__(self, station: "Station") -> None:
        self._station, self._limits = station, station.config.server
        self._num_requests = 0

    async def inspect(self, request: Request) -> Response:
        """Judge the picture in a request: its bytes, or the first file of a form."""
        self._num_requests += 1
        try:
            if self._num_requests > self._limits.max_waiting:
                raise FullError
            answer = await self._inspect(request)
            self._station.problems.pop("disk", None)
            return answer
        except FullError as error:
            seconds = max(1, math.ceil(self._limits.max_waiting * self._station.judge.mean_seconds / 2))
            raise HTTPException(429, "too many pictures wait", {"Retry-After": str(seconds)}) from error
        except ClientDisconnect:
            return Response(status_code=400)
        except OSError as error:
            reason = error.strerror or str(error)
            self._station.problems["disk"] = f"cannot take a picture: {reason}"
            raise HTTPException(NO_ROOM, f"the picture was not taken: {reason}", {"Retry-After": "60"}) from error
        finally:
            self._num_requests -= 1

    async def _inspect(self, request: Request) -> Response:
        line = self._line(request.query_params.get("line"))
        key = request.headers.get("idempotency-key") or uuid.uuid4().hex
        if not KEY.fullmatch(key):
            raise HTTPException(400, "Idempotency-Key: up to 200 visible ASCII characters")
        name, content = await self._picture(request)
        key = f"http|{key}|{hashlib.sha256(content).hexdigest()}"  # whose count began anew gets no other part's verdict
        entry = line, name or f"http{suffix_of(content)}", key, content
        picture_id = await run_in_threadpool(self._station.intake.take, *entry)
        verdict = await run_in_threadpool(self._station.judge.verdict_of, picture_id)
        is_done, _ = await asyncio.wait([asyncio.wrap_future(verdict)], timeout=self._limits.answer_seconds)
        if not is_done:
            about = {"id": picture_id, "verdict": None, "error": "no verdict yet (ask again where Location says)"}
            return JSONResponse(about, 202, {"Location": f"/api/pictures/{picture_id}"})
        row = await run_in_threadpool(self._station.journal.picture, picture_id)
        assert row is not None  # no row is ever removed
        answer = public(row)
        if request.query_params.get("map") in ("1", "true") and row["map"]:
            with suppress(FileNotFoundError, ValueError):  # the bucket may keep maps for a shorter time, or be away
                answer["map"] = base64.b64encode(await run_in_threadpool(self._station.store.read, row["map"])).decode()
        return JSONResponse(answer, 422 if row["verdict"] == "error" else 200)

    def _line(self, name: str | None) -> str:
        names = list(self._station.lines)
        if name is None and len(names) == 1:
            return names[0]
        if name not in names:
            reason = "which line?" if name is None else f"no line {name!r}"
            raise HTTPException(404, f"{reason} (?line= one of {', '.join(names)})")
        return name

    async def _picture(self, request: Request) -> tuple[str, bytes]:
        content = await read_body(request, self._limits.max_megabytes * 1e6)
        kind = request.headers.get("content-type", "")
        name = ""
        if kind.lower().startswith("multipart/form-data"):
            name, content = await _first_file(request, content, int(self._limits.max_megabytes * 1e6))
        if not content:
            raise HTTPException(400, "no picture (send its bytes, or a form with one file)")
        return name, content

    async def healthz(self, request: Request) -> Response:
        """200 while all threads are alive."""
        dead = self._station.dead_threads()
        return PlainTextResponse(f"ended: {', '.join(dead)}\n" if dead else "ok\n", 500 if dead else 200)

    async def readyz(self, request: Request) -> Response:
        """200 while pictures can be taken and judged."""
        reasons = self._station.hindrances()
        return PlainTextResponse("\n".join(reasons or ["ok"]) + "\n", 503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        """Numbers for Prometheus."""
        text = await run_in_threadpool(self._station.measures.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def read_body(request: Request, max_bytes: float) -> bytes:
    """The body of a request. HTTPException 413: it has more bytes, announced or not; 408: it does not come."""
    too_large = HTTPException(413, f"more than {max_bytes / 1e6:g} MB")
    if int(request.headers.get("content-length") or 0) > max_bytes:
        raise too_large
    parts, num_bytes = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                num_bytes += len(part)
                if num_bytes > max_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not come within {BODY_SECONDS:g} seconds") from error
    return b"".join(parts)


async def read_json(request: Request, max_bytes: float = MAX_JSON_BYTES) -> dict[str, Any]:
    """The body of a request. HTTPException: it is no JSON object, or too large."""
    try:
        body = json.loads(await read_body(request, max_bytes))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is no JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is no JSON object")
    return body


def text_of(body: dict[str, Any], name: str) -> str:
    """What was written, empty if nothing was. ValueError: it is no text."""
    text = body.get(name) or ""
    # half a character can be stored, but never shown, and PostgreSQL takes no NUL
    if not isinstance(text, str) or re.search("[\0\ud800-\udfff]", text):
        raise ValueError(f"{name} {text!r} is no text")
    return text.strip()


def reason_of(body: dict[str, Any]) -> str:
    """Why a person does something. ValueError: not said."""
    reason = text_of(body, "reason")[:500]
    if not reason:
        raise ValueError("a reason is missing (it is in the history for those who come after you)")
    return reason


def who_of(request: Request, body: dict[str, Any]) -> str:
    """The name of the token; at this machine, without tokens, the name that a person gives."""
    who = request.state.person.name or text_of(body, "who")
    check_name(who)
    return who


def public(row: dict[str, Any]) -> dict[str, Any]:
    """What is told of a picture: nothing of where it lies."""
    hidden = ("file", "map", "key", "num_crashes", "num_bytes")
    return {name: value for name, value in row.items() if name not in hidden} | {"has_map": bool(row["map"])}


async def _first_file(request: Request, body: bytes, max_bytes: int) -> tuple[str, bytes]:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body}

    form = await Request(request.scope, receive).form(max_files=1, max_part_size=max_bytes)
    for part in form.values():
        if isinstance(part, UploadFile):
            return _plain_name(part.filename or ""), await part.read()
    raise HTTPException(400, "no file in the form")


def _plain_name(name: str) -> str:
    """A client's name for a picture, to show: never a path."""
    return re.sub(r"[^\w .()+-]", "_", name.replace("\\", "/").rpartition("/")[2])[:120]


async def in_one_line(request: Request, error: Exception) -> Response:
    """What a caller is told of an error."""
    if isinstance(error, JournalError):
        error = HTTPException(503, str(error), {"Retry-After": "10"})
    elif not isinstance(error, HTTPException):
        error = HTTPException(400, " ".join(str(error).split()))
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
