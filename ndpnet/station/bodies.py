"""What a browser sends: JSON, who sends it and why."""

import json
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ndpnet.station.journal import check_name
from ndpnet.station.web import read_body

MAX_JSON_BYTES, MAX_MASK_BYTES = 1e5, 4e6  # from anybody; from those who may write


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
