"""Bringing one picture from a source into a folder: read once, hashed, decoded, judged, copied."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from ndpnet.data.fitting import MIN_SIDE
from ndpnet.data.images import ImageFacts, open_image
from ndpnet.data.importing.sources.plan import Ellipse, SourceImage
from ndpnet.data.manifest import GOOD
from ndpnet.data.masks import check_mask, open_mask
from ndpnet.data.png import encode_png
from ndpnet.data.threads import map_in_threads, pixels_in, read_bytes
from ndpnet.storage.urls import MAX_NAME_BYTES


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture in the folder; paths are relative to it."""

    image: SourceImage
    path: str
    split: str
    defect_type: str
    sha256: str
    facts: ImageFacts
    mask_path: str | None
    mask_sha256: str | None
    mask_note: str | None


@dataclass(frozen=True)
class Placer:
    """Places pictures of the source `root` in `folder`; called from several threads."""

    root: Path
    folder: Path
    is_ours: bool = False  # nobody else has the source: its files become the folder's

    def place_all(self, images: list[SourceImage], title: str) -> tuple[list[Placed], dict[str, str]]:
        """Place pictures in the order of their paths. -> those, and why others are not to be used, by their paths.

        ValueError: the first one in this order.
        """

        def pixels_of(image: SourceImage) -> int:
            return pixels_in(*(self.root / path for path in (image.path, image.mask_path) if path))

        placed, rejected = list[Placed](), dict[str, str]()
        ordered = sorted(images, key=lambda image: image.path)
        results = map_in_threads(self._place, ordered, pixels_of=pixels_of)
        progress = tqdm(results, title, unit="file", total=len(images), disable=None)
        for image, result in zip(ordered, progress, strict=True):
            if isinstance(result, Placed):
                placed.append(result)
            else:
                rejected[image.path] = result
        return placed, rejected

    def _place(self, image: SourceImage) -> Placed | str:
        """Copy a picture and its mask, decoding both; ValueError for a mask that contradicts its picture."""
        mask_content = read_bytes(self.root / image.mask_path, name=image.mask_path) if image.mask_path else None
        mask = None if mask_content is None else open_mask(mask_content, name=image.mask_path)
        is_good = image.defect_type == GOOD or (image.is_label and mask is not None and not mask.marked.any())
        defect_type = GOOD if is_good else image.defect_type
        split = "test" if not is_good else image.split or "train"
        path = f"{split}/{defect_type}/{image.name}"
        content = read_bytes(self.root / image.path, name=str(self.root / image.path))
        try:
            facts = self._describe(image, content)
        except ValueError as error:
            return str(error).removeprefix(f"cannot read {image.path}: ")
        sha256 = self._write(path, content, self.root / image.path)
        marked = None if mask is None else mask.marked
        if image.ellipses:
            marked = draw_ellipses(image.ellipses, facts.height, facts.width)
        named = self._place_mask(image, marked, facts, defect_type, mask_content)
        note = mask.note if mask and named[0] else None
        return Placed(image, path, split, defect_type, sha256, facts, *named, mask_note=note)

    def _describe(self, image: SourceImage, content: bytes) -> ImageFacts:
        """Decode a picture. ValueError: it is not to be used."""
        check_name(image.path + image.name + image.defect_type)
        check_length(image.name, image.mask_path)
        facts = open_image(content, name=image.path).facts()
        if min(facts.width, facts.height) < MIN_SIDE:
            raise ValueError(f"{facts.width}x{facts.height} pixels, a side below {MIN_SIDE} (use larger pictures)")
        return facts

    def _place_mask(
        self, image: SourceImage, mask: np.ndarray | None, facts: ImageFacts, defect_type: str, content: bytes | None
    ) -> tuple[str | None, str | None]:
        """Write the mask of a defective picture. -> its path and hash, or nothing for a good one."""
        if mask is None:
            return None, None
        name = f"mask {image.mask_path or 'of ' + image.path}"
        check_mask(mask, name, is_good=defect_type == GOOD, size=(facts.height, facts.width))
        if defect_type == GOOD:
            return None, None
        path = f"ground_truth/{defect_type}/{mask_name(image.name, image.mask_path)}"
        source = self.root / image.mask_path if image.mask_path else None
        return path, self._write(path, content or encode_png(mask), source)

    def _write(self, path: str, content: bytes, source: Path | None) -> str:
        """Write a new file. -> its sha256."""
        target, sha256 = self.folder / path, hashlib.sha256(content).hexdigest()
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.is_ours and source:
            with suppress(OSError):  # a file system without hard links
                os.link(source, target)  # what was unpacked or downloaded does not take the disk twice
                return sha256
        with target.open("xb") as writer:
            writer.write(content)
        return sha256


def check_name(name: str) -> None:
    """Refuse a file name that would trouble people or tools."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("its name is not UTF-8 (rename it)") from None
    if any(ord(letter) < 32 for letter in name):
        raise ValueError("its name has control characters (rename it)")


def check_length(name: str, mask_path: str | None) -> None:
    """Refuse a picture's name that is too long for a file, or leaves no room for that of its mask."""
    num_bytes = max(len(each.encode()) for each in (name, mask_name(name, mask_path)))
    if num_bytes > MAX_NAME_BYTES:
        reason = f"{num_bytes} bytes with its folders and _mask, at most {MAX_NAME_BYTES} are possible"
        raise ValueError(f"the name {name} has {reason} (shorten it)")


def mask_name(picture: str, mask_path: str | None) -> str:
    """The name of a picture's mask in a category, with the ending of its own file."""
    return f"{PurePosixPath(picture).stem}_mask{PurePosixPath(mask_path or 'drawn.png').suffix}"


def draw_ellipses(ellipses: tuple[Ellipse, ...], height: int, width: int) -> np.ndarray:
    """Draw filled ellipses; angles are counter-clockwise while rows grow downwards. -> bool (height, width)."""
    rows, columns = np.mgrid[0:height, 0:width]
    mask = np.zeros((height, width), dtype=bool)
    for major, minor, angle, x, y in ellipses:
        right, up = columns - x, y - rows
        along = right * np.cos(angle) + up * np.sin(angle)
        across = up * np.cos(angle) - right * np.sin(angle)
        mask |= (along / major) ** 2 + (across / minor) ** 2 <= 1
    return mask
