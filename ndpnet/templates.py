"""Pages and cards from templates: one way to open them."""

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2


def open_template(
    package: str,
    name: str,
    *,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    finalize: Callable[[Any], str] | None = None,
) -> jinja2.Template:
    """A template of a package. Values are escaped as HTML or, where another format needs it, by `finalize`."""
    environment = jinja2.Environment(
        autoescape=finalize is None,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters or {}
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))
