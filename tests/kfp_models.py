"""JSON held to the models of kfp-server-api, which themselves take whatever they are given."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import kfp_server_api

INT64_AS_TEXT = ("max_concurrency", "interval_second")  # JSON of protobuf takes both a number and a text


def parse(content: Any, type_name: str, where: str = "") -> Any:
    """JSON as one of kfp-server-api's types. ValueError: an unknown field, or another type than the model has."""
    listed = re.fullmatch(r"list\[(.*)\]", type_name)
    mapped = re.fullmatch(r"dict\(str, (.*)\)", type_name)
    if listed:
        return [parse(each, listed[1], f"{where}[]") for each in _of_type(content, list, where)]
    if mapped:
        return {key: parse(each, mapped[1], f"{where}.{key}") for key, each in _of_type(content, dict, where).items()}
    if type_name in PLAIN_TYPES:
        is_count = where.rpartition(".")[2] in INT64_AS_TEXT and isinstance(content, int)
        return PLAIN_TYPES[type_name](str(content) if is_count else content, where)
    return _parse_model(content, getattr(kfp_server_api.models, type_name), where or type_name)


def _parse_model(content: Any, model: Any, where: str) -> Any:
    if hasattr(model, "allowable_values"):
        if content not in model.allowable_values:
            raise ValueError(f"{where}: {content!r} is none of {model.allowable_values}")
        return content
    names = {key: attribute for attribute, key in model.attribute_map.items()}
    unknown = _of_type(content, dict, where).keys() - names.keys()
    if unknown:
        raise ValueError(f"{where} has no field {sorted(unknown)}")
    values = {
        names[key]: parse(each, model.openapi_types[names[key]], f"{where}.{key}") for key, each in content.items()
    }
    return model(**values)


def _of_type(content: Any, kind: type, where: str) -> Any:
    if not isinstance(content, kind) or (kind is int and isinstance(content, bool)):
        raise ValueError(f"{where} is {type(content).__name__}, not {kind.__name__}")
    return content


PLAIN_TYPES: dict[str, Callable[[Any, str], Any]] = {
    "object": lambda content, where: content,
    "datetime": lambda content, where: datetime.fromisoformat(_of_type(content, str, where)),
    "str": lambda content, where: _of_type(content, str, where),
    "bool": lambda content, where: _of_type(content, bool, where),
    "int": lambda content, where: _of_type(content, int, where),
}
