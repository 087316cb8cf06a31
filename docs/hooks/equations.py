"""Equations become MathML while the site is built: browsers set it themselves, without a script or a font to load."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

# what arithmatex leaves of $...$ and of $$...$$
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace the LaTeX in a page."""
    return EQUATION.sub(_to_mathml, content)


def _to_mathml(match: re.Match[str]) -> str:
    is_block = match[2] == "["
    mathml = convert(html.unescape(match[3]).strip(), display="block" if is_block else "inline")
    return f'<div class="equation">{mathml}</div>' if is_block else mathml
