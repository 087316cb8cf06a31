"""Which files of a folder are pictures: one answer for all that read folders, and nothing is left out in silence."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndpnet.data.names import without_own
from ndpnet.files import some_names
from ndpnet.folders import LIST, LITTER

READ_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".tga"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm", ".avif"),
)
# listed as well: each is then named as one that cannot be read
UNREAD_SUFFIXES = (
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
    *(".psd", ".exr", ".hdr", ".pfm", ".dcm", ".fits", ".pcx"),
)
IMAGE_SUFFIXES = (*READ_SUFFIXES, *UNREAD_SUFFIXES)
IMPORTED = "import.json"  # the marker of an output that holds pictures to work on

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """What lies below a folder.

    problems: what may be or hold pictures and cannot be read, and why; others: no pictures, hidden files, own results;
    left_out: folders of pictures that are none to judge, and what they hold.
    """

    pictures: list[Path] = field(default_factory=list)
    problems: dict[Path, str] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)

    def checked(self) -> list[Path]:
        """The pictures, the others being named in the log. ValueError: some may be pictures, and cannot be read."""
        say_others(self.others)
        if self.problems:
            more = f"; and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
            raise ValueError(f"{next(iter(self.problems.values()))}{more}")
        return self.pictures


def list_images(target: Path) -> tuple[Path, Listing]:
    """The root and the pictures of a file or folder. ValueError: there is nothing that might be one."""
    target = Path(target)
    if target.is_file():
        return target.parent, Listing([target])
    if not target.is_dir():
        raise ValueError(f"no file or folder {target} (check the path)")
    listing = list_pictures(target)
    judged, left_out = without_own(target, [*listing.pictures, *listing.problems], is_file=Path.is_file)
    say_left_out(left_out)
    if not judged:
        raise ValueError(f"no images under {target} (known endings: {', '.join(READ_SUFFIXES)})")
    chosen = set(judged)
    pictures = [path for path in listing.pictures if path in chosen]
    problems = {path: why for path, why in listing.problems.items() if path in chosen}
    return target, replace(listing, pictures=pictures, problems=problems, left_out=left_out)


def list_pictures(root: Path) -> Listing:
    """All pictures below a folder, by path. Links to folders are not followed: they may lead in circles."""
    found: dict[str, list[Path]] = {"pictures": [], "folders": [Path(root)], "links": [], "others": []}
    problems, seen = dict[Path, str](), set[Path]()
    while found["folders"]:
        folder = found["folders"].pop()
        seen.add(folder.resolve())
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            problems[folder] = f"cannot read folder {folder}: {error.strerror} (check its permissions)"
            continue
        for path in entries:
            try:
                found[kind_of(path)].append(path)
            except ValueError as error:
                problems[path] = str(error)
    for path in found["links"]:
        if path.resolve() in seen:
            found["others"].append(path)  # its pictures are listed where they are
        else:
            problems[path] = f"{path} is a link to a folder, not followed (give that folder itself)"
    return Listing(sorted(found["pictures"]), dict(sorted(problems.items())), sorted(found["others"]))


def kind_of(path: Path) -> str:
    """The list of what lies at a path: pictures, folders, links (to folders), others.

    ValueError: it may be a picture, and cannot be read as one.
    """
    if is_litter(path.name):
        return "others"
    try:
        if path.is_dir():
            return "links" if path.is_symlink() else "others" if is_result(path) else "folders"
        if path.is_file():
            return "pictures" if has_picture_name(path.name) else _without_ending(path)
        is_there = path.exists()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror} (check the file and its permissions)") from error
    if not has_picture_name(path.name):
        return "others"
    raise ValueError(f"cannot read {path}: {'no plain file' if is_there else 'the link leads nowhere'} (remove it)")


def is_litter(name: str) -> bool:
    """Whether it is hidden, or what file managers leave."""
    return name.startswith(".") or name.casefold() in (*LITTER, "__macosx")


def has_picture_name(name: str) -> bool:
    """Whether a file of this name is taken for a picture."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def is_result(folder: Path) -> bool:
    """Whether a folder is an output of this project with other pictures than those to work on, as overlays."""
    try:
        return json.loads((folder / LIST).read_text(encoding="utf-8"))["marker"] != IMPORTED
    except (OSError, ValueError, KeyError, TypeError):
        return False


def say_left_out(folders: Mapping[Any, str]) -> None:
    """Name folders of pictures that are none to judge, with what they hold, in the log."""
    for folder, content in folders.items():
        logger.warning("left out %s: it holds %s, no pictures to judge", folder, content)


def say_others(paths: Iterable[Path | str]) -> None:
    """Name what is no picture, in the log."""
    if names := [str(path) for path in paths]:
        logger.info("no pictures, left out: %d (%s)", len(names), some_names(names))


def _without_ending(path: Path) -> str:
    from ndpnet.data.images import format_of  # slow to import, and rarely needed

    kind = format_of(path)
    if kind is None:
        return "others"
    raise ValueError(f"cannot tell what {path} is: its content is a {kind} picture, its name is not (rename it)")
