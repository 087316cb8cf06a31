"""Pages and cards from templates: one way to open them, and what the pages for people share."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

STYLE, SCRIPT = "page.css.j2", "gallery.js.j2"  # of all pages for people: their look; gallery, threshold slider


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


def render(folder: str, template: str, filters: Mapping[str, Callable[..., str]] | None = None, **values: Any) -> str:
    """A page of a template in `ndpnet/FOLDER`, readable offline; nothing but our own script may run in it."""
    # our own: not escaped
    style, script = (Markup(open_template("ndpnet.inference", name, finalize=str).render()) for name in (STYLE, SCRIPT))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    shared = {"style": style, "script": script, "script_hash": digest}
    return open_template(f"ndpnet.{folder}", template, filters=filters).render(**shared, **values)
