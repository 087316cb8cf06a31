"""What the pages for people share: their look, and the script of gallery and threshold slider."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from ndpnet.templates import open_template

STYLE, SCRIPT = "page.css.j2", "gallery.js.j2"


def render(folder: str, template: str, filters: Mapping[str, Callable[..., str]] | None = None, **values: Any) -> str:
    """A page of a template in `ndpnet/FOLDER`, readable offline; nothing but our own script may run in it."""
    # our own: not escaped
    style, script = (Markup(open_template("ndpnet.inference", name, finalize=str).render()) for name in (STYLE, SCRIPT))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    shared = {"style": style, "script": script, "script_hash": digest}
    return open_template(f"ndpnet.{folder}", template, filters=filters).render(**shared, **values)
