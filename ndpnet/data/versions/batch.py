"""The pictures that are to join a category: read, measured and matched with their masks, before any is copied."""

import hashlib
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndpnet.data.images import MIN_SIDE, ImageFacts, open_image
from ndpnet.data.layouts import MASK_SUFFIXES
from ndpnet.data.listing import READ_SUFFIXES, list_pictures, say_others
from ndpnet.data.masks import read_mask
from ndpnet.data.versions.changes import Look, measure

NUM_THREADS = 4
NUM_NAMES = 5  # of files, in an error


@dataclass(frozen=True)
class NewPicture:
    """A readable picture of the batch, its mask, and how it looks; `name` is its path in the source."""

    name: str
    path: Path
    md5: str
    facts: ImageFacts
    look: Look
    mask_path: Path | None = None
    mask_md5: str | None = None


def read_batch(root: Path, masks: Path | None, source: str) -> list[NewPicture]:
    """Decode every picture below a folder, and its mask. ValueError lists those that cannot be read."""
    root = root.resolve()
    masks_dir = _masks_dir(root, masks)
    found = list_pictures(root)
    say_others(found.others)
    paths = [path for path in found.pictures if masks_dir is None or masks_dir not in path.parents]
    if not paths and not found.problems:
        raise ValueError(f"no pictures in {source} (known endings: {', '.join(READ_SUFFIXES)})")
    found_masks = _find_masks(masks_dir) if masks_dir else {}
    with ThreadPoolExecutor(min(NUM_THREADS, os.cpu_count() or 1)) as pool:
        read = list(pool.map(lambda path: _read(root, path, found_masks if masks_dir else None), paths))
    problems = [*found.problems.values(), *(each for each in read if isinstance(each, str))]
    if not problems:
        used = {picture.mask_path for picture in read}
        problems = [f"mask {path} has no picture" for path in found_masks.values() if path not in used]
    if problems:
        more = f"; and {len(problems) - NUM_NAMES} more" if len(problems) > NUM_NAMES else ""
        raise ValueError(f"nothing was added: {'; '.join(problems[:NUM_NAMES])}{more}")
    return read


def md5_of(content: bytes) -> str:
    """The md5 that DVC gives a picture."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _masks_dir(root: Path, masks: Path | None) -> Path | None:
    if masks is None:
        return None
    for folder in (Path(masks), root / masks):
        if folder.is_dir():
            return folder.resolve()
    raise ValueError(f"no folder {masks} with masks (check the path)")


def _find_masks(masks_dir: Path) -> dict[str, Path]:
    """Return masks by the path of their picture without its ending."""
    masks: dict[str, Path] = {}
    for path in sorted(masks_dir.rglob("*")):
        if path.is_file() and path.suffix.lower() in MASK_SUFFIXES and not path.name.startswith("."):
            key = _mask_key(path.relative_to(masks_dir).with_name(path.stem.removesuffix("_mask")))
            if key in masks:
                raise ValueError(f"two masks for one picture: {masks[key]} and {path} (remove one)")
            masks[key] = path
    return masks


def _mask_key(path: Path) -> str:
    return unicodedata.normalize("NFC", path.as_posix())


def _read(root: Path, path: Path, masks: dict[str, Path] | None) -> NewPicture | str:
    """Decode one picture and its mask. -> the picture, or what is wrong with it."""
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
        content = path.read_bytes()
        opened = open_image(content, name=name)
        facts, image = opened.facts(), opened.rgb()
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(f"{name} has {width}x{height} pixels, a side below {MIN_SIDE}")
        if any(ord(letter) < 32 for letter in name):
            raise ValueError(f"{name!r} has control characters in its name (rename it)")
        mask_path = _mask_of(name, (height, width), masks) if masks is not None else None
    except UnicodeEncodeError:
        return f"{os.fsencode(name)!r} has a name that is not UTF-8 (rename it)"
    except OSError as error:
        return f"cannot read {name}: {error.strerror}"
    except ValueError as error:
        return str(error)
    mask_md5 = md5_of(mask_path.read_bytes()) if mask_path else None
    return NewPicture(name, path, md5_of(content), facts, measure(image), mask_path, mask_md5)


def _mask_of(name: str, size: tuple[int, int], masks: dict[str, Path]) -> Path:
    path = masks.get(_mask_key(Path(name).with_suffix("")))
    if path is None:
        raise ValueError(f"{name} has no mask (add {PurePosixPath(name).stem}_mask.png)")
    mask = read_mask(path)
    if mask.shape != size:
        sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, its picture {size[1]}x{size[0]}"
        raise ValueError(f"mask {path} has {sizes} (draw it at the picture's size)")
    if not mask.any():
        raise ValueError(f"mask {path} is empty (mark the defect, or add its picture to test/good)")
    return path
