"""The site reads without a network: whatever a page would load from elsewhere ends the build."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(|@import )\s*['"]?((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


class Loads(HTMLParser):
    """Addresses elsewhere that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads; a link to follow is none."""
        address = dict(attrs).get(LOADING.get(tag, ""), "") or ""
        if ELSEWHERE.match(address):
            self.found.append(address)


def on_post_build(config: Any) -> None:
    """Look through the site."""
    site_dir = Path(config.site_dir)
    found = []
    for path in sorted(site_dir.rglob("*")):
        if path.suffix == ".html":
            page = Loads()
            page.feed(path.read_text())
            found += [(path, address) for address in (*page.found, *IN_STYLE.findall(path.read_text()))]
        elif path.suffix == ".css":
            found += [(path, address) for address in IN_STYLE.findall(path.read_text())]
    if found:
        path, address = found[0]
        others = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise PluginError(f"the site needs a network: {path.relative_to(site_dir)} loads {address}{others}")
