"""Values as people type and read them."""

import base64
import math
import time
from datetime import datetime
from typing import Any

from ndpnet.data.fitting import scale_mask
from ndpnet.data.images import read_header
from ndpnet.data.masks import check_mask, open_mask
from ndpnet.inference.overlay import encode_png
from ndpnet.metrics.drift import NOT_GOOD
from ndpnet.metrics.threshold import percent_of
from ndpnet.station.tables import ACKNOWLEDGED, DRIFT, MODEL, RESTARTED, RETRAIN, THRESHOLD

MAX_NUMBER = 1e38  # scores are float32


def moment(text: str) -> float:
    """Local time as seconds since 1970. ValueError: it is no time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no time (write it as 2026-01-31T06:00)") from error


def finite(value: Any) -> float:
    """A number. ValueError: it is none, or none to compare with."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{value!r} is no number") from error
    if not abs(result) < MAX_NUMBER:
        raise ValueError(f"{value!r} is no number to compare with")
    return result


def painted(encoded: str, size: tuple[int, int], max_pixels: int) -> bytes:
    """A painted area, PNG in base64 of any size, as PNG of size (height, width). ValueError: it is none, or empty."""
    name = "the painted area"
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError(f"{name} is no picture in base64") from error
    if read_header(content, name=name).num_pixels > max_pixels:
        raise ValueError(f"{name} has too many pixels")
    marked = scale_mask(open_mask(content, name=name).marked, size)
    check_mask(marked, name, is_good=False, size=size)
    return encode_png(marked)


def when(seconds: float | None) -> str:
    """Local time to the second."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def percent(share: float | None) -> str:
    """A share with its unit."""
    return "not known" if share is None else percent_of(share)


def number(value: float | None) -> str:
    """Four digits of a number."""
    return "" if value is None else f"{value:.4g}"


def of_property(name: str, value: float) -> str:
    """A property of pictures, with its unit: grey levels, shares, plain numbers."""
    if name == "brightness":
        return f"{number(value)} of 255"
    return percent(value) if name in ("contrast", "red", "blue", NOT_GOOD) else number(value)


def told(event: dict[str, Any]) -> str:
    """An event of the journal, as a person tells it."""
    facts, kind = event["facts"], event["kind"]
    if kind == DRIFT:
        surest = facts["changes"][0]
        before, now = (of_property(surest["name"], surest[name]) for name in ("before", "now"))
        return f"the line has changed: {surest['name']} {before} → {now}"
    if kind == MODEL:
        version = f" version {facts['version']}" if facts.get("version") else ""
        return f"judging with {facts['model']}{version}, {facts['hash'][:8]}, {facts['engine']}"
    if kind == THRESHOLD:
        value = "the model's own" if facts["value"] is None else number(facts["value"])
        return f"threshold {number(facts['before'])} → {value}: {facts['reason']}"
    if kind == RESTARTED:
        return f"the watch began anew after {facts['num_pictures']} pictures"
    words = {ACKNOWLEDGED: "alarm answered", RETRAIN: "training asked for"}
    return f"{words.get(kind) or 'training ' + facts['outcome']}: {facts['reason']}"


def evidence(statistic: float, limit: float) -> float:
    """How far a statistic is on the way to ringing, 0 to 1, by orders of magnitude."""
    return min(max(math.log(max(statistic, 1.0)) / math.log(limit), 0.0), 1.0)
