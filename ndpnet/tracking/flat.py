"""Nested values as flat names that the tracking server takes: parameters as text, metrics as numbers."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 5000  # characters; the server's limits, for tags below it
HASH_DIGITS = 8


def flat_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text by dotted name; what is too long ends in a hash of the whole."""
    return {metric_key(name): shorten(_as_text(value), MAX_PARAM) for name, value in leaves(values)}


def flat_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Every finite number by dotted name; `a.value` is called `a`. Text, booleans and n/a are no metrics."""
    metrics = {}
    for name, value in leaves(values):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            metrics[metric_key(name.removesuffix(".value"))] = float(value)
    return metrics


def metric_key(name: str) -> str:
    """A name as the server takes it; a changed one ends in a hash, so that two names never become one."""
    plain = re.sub(r"[^\w.\- /]", "_", name)
    if plain.startswith("/") or any(part in ("", ".", "..") for part in plain.split("/")):
        plain = plain.replace("/", "_").replace("..", "_.")
    return name if plain == name and len(name) <= MAX_KEY else _with_hash(plain, name, MAX_KEY)


def shorten(text: str, limit: int) -> str:
    """A text of at most `limit` characters; a cut one ends in a hash of the whole."""
    return text if len(text) <= limit else _with_hash(text, text, limit)


def _with_hash(text: str, whole: str, limit: int) -> str:
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    return f"{text[: limit - HASH_DIGITS - 1]}-{digest}"


def leaves(values: Mapping[str, Any], prefix: str = "", *, has_lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Everything in nested mappings by dotted name; has_lists: and in lists, by number."""
    for key, value in values.items():
        is_list = has_lists and isinstance(value, list)
        inner = {str(index): item for index, item in enumerate(value)} if is_list else value
        if isinstance(inner, Mapping):
            yield from leaves(inner, f"{prefix}{key}.", has_lists=has_lists)
        else:
            yield f"{prefix}{key}", value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
