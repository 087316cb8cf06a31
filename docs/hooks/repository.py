"""Pages that lie elsewhere in the repository, and links to its files: the site shows these files as pages, too.

In the repository every link leads to the file itself, so it works there and here; one that leads nowhere is a warning,
which ends the strict build.
"""

import logging
import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# where people look for them first -> where the site has them
PLACES = {"README.md": "index.md", "benchmarks/README.md": "measurements.md"}
FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()([^()\s#:]+)(?=[)#])")
LANGUAGES = {".lock": "text", ".j2": "html+jinja"}
HIDDEN = "---\nsearch: {exclude: true}\nhide: [toc]\n---\n"

logger = logging.getLogger("mkdocs.hooks.repository")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, and one for each file of the repository that a page links to."""
    for path, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / path).read_text()))
    pages = [file for file in files if file.src_uri.endswith(".md")]
    linked = {path for file in pages for path in _linked(file.content_string, file.src_uri)}
    for path in sorted(path for path in linked if _is_outside(path)):
        files.append(File.generated(config, _place(path), content=_listing(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between places in the repository into links between places of the site."""
    src_uri = page.file.src_uri
    if src_uri.startswith("source/"):
        return markdown

    def relink(match: re.Match[str]) -> str:
        target = _in_repository(match[1], src_uri)
        if not (ROOT / target).exists():
            logger.warning("%s links to %s, which does not exist", _path_of(src_uri), target)
        return posixpath.relpath(_place(target), posixpath.dirname(src_uri) or ".")

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(relink, part) for part in parts)


def _linked(markdown: str, src_uri: str) -> set[str]:
    found = LINK.findall(FENCE.sub("", markdown))
    return {path for link in found if (ROOT / (path := _in_repository(link, src_uri))).exists()}


def _path_of(src_uri: str) -> str:
    """A page's path in the repository."""
    elsewhere = {place: path for path, place in PLACES.items()}
    return elsewhere.get(src_uri, f"docs/{src_uri}")


def _in_repository(link: str, src_uri: str) -> str:
    """What a page links to, as a path in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(_path_of(src_uri)), link))


def _is_outside(path: str) -> bool:
    return path not in PLACES and not path.startswith("docs/")


def _place(path: str) -> str:
    """Where the site has a file of the repository."""
    return f"source/{path}.md" if _is_outside(path) else PLACES.get(path, path.removeprefix("docs/"))


def _listing(path: Path) -> str:
    """A page that shows a file, or all files below a folder."""
    inner = [Path(folder) / name for folder, _, names in os.walk(path) for name in names if not name.endswith(".pyc")]
    files = sorted(inner) if path.is_dir() else [path]
    return HIDDEN + f"# {path.relative_to(ROOT)}\n\n" + "\n\n".join(_block(file, path) for file in files)


def _block(file: Path, listed: Path) -> str:
    text = file.read_text()
    fence = "`" * max(4, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    language = LANGUAGES.get(file.suffix, PurePosixPath(file.name).suffix.lstrip(".") or "text")
    heading = f"## {file.relative_to(listed)}\n\n" if file != listed else ""
    return f"{heading}{fence}{language}\n{text.rstrip()}\n{fence}"
