"""Bringing one picture from a source into a category's folder: copied, hashed, decoded once, judged."""

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ndpnet.data.demo import encode_png
from ndpnet.data.images import MIN_SIDE, ImageFacts, describe_image, num_pixels
from ndpnet.data.importing.sources.plan import Ellipse, SourceImage
from ndpnet.data.manifest import GOOD
from ndpnet.data.masks import Mask, open_mask
from ndpnet.files import CHUNK_BYTES, sha256_of

# larger pictures are decoded one at a time, so that memory does not grow with the number of threads
LARGE_PIXELS = 16_000_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture in the category's folder, or the reason why it is not there; paths are relative to that folder."""

    image: SourceImage
    path: str
    split: str
    defect_type: str
    sha256: str
    facts: ImageFacts | None  # None for a rejected picture
    mask_path: str | None = None
    mask_sha256: str | None = None
    reason: str | None = None
    mask_note: str | None = None


class Placer:
    """Places the pictures of one source; called from several threads."""

    def __init__(self, root: Path, folder: Path, *, is_ours: bool, is_test_good: Callable[[SourceImage], bool]) -> None:
        self._root, self._folder, self._is_ours = root, folder, is_ours
        self._is_test_good = is_test_good
        self._one_large = threading.Lock()

    def place(self, image: SourceImage) -> Placed:
        """Copy a picture and its mask, decoding both; ValueError for a mask that contradicts its picture."""
        reason = _name_problem(image.defect_type + image.name)
        opened = None if reason else self._read_mask(image)
        mask = opened and opened.marked
        is_good = image.defect_type == GOOD or (image.is_label and mask is not None and not mask.any())
        defect_type = GOOD if is_good else image.defect_type
        split = self._split_of(image, is_good)
        path = f"{split}/{defect_type}/{image.name}"
        if reason:
            return Placed(image, path, split, defect_type, "", None, reason=reason)
        sha256 = self._copy(self._root / image.path, path)
        try:
            facts = self._describe(image, path)
        except ValueError as error:
            (self._folder / path).unlink()
            reason = str(error).removeprefix(f"cannot read {image.path}: ")
            return Placed(image, path, split, defect_type, "", None, reason=reason)
        if image.ellipses:
            mask = draw_ellipses(image.ellipses, facts.height, facts.width)
        mask_path, mask_sha256 = self._place_mask(image, mask, facts, defect_type)
        note = opened.note if opened and mask_path else None
        return Placed(image, path, split, defect_type, sha256, facts, mask_path, mask_sha256, mask_note=note)

    def copy_file(self, source: str, path: str) -> None:
        """Copy what lies beside the pictures."""
        self._copy(self._root / source, path)

    def _split_of(self, image: SourceImage, is_good: bool) -> str:
        if not is_good:
            return "test"
        return image.split or ("test" if self._is_test_good(image) else "train")

    def _describe(self, image: SourceImage, path: str) -> ImageFacts:
        with self._room(self._folder / path, image.path):
            facts = describe_image(self._folder / path, name=image.path)
        if min(facts.width, facts.height) < MIN_SIDE:
            raise ValueError(f"{facts.width}x{facts.height} pixels, a side below {MIN_SIDE}")
        return facts

    def _read_mask(self, image: SourceImage) -> Mask | None:
        """Decode the mask where it is."""
        if image.mask_path is None:
            return None
        with self._room(self._root / image.mask_path, image.mask_path):
            return open_mask(self._root / image.mask_path, name=image.mask_path)

    def _place_mask(
        self, image: SourceImage, mask: np.ndarray | None, facts: ImageFacts, defect_type: str
    ) -> tuple[str | None, str | None]:
        """Write the mask of a defective picture. -> its path and hash, or nothing for a good one."""
        if mask is None:
            return None, None
        name = f"mask {image.mask_path or 'of ' + image.path}"
        if mask.shape != (facts.height, facts.width):
            sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, its picture {facts.width}x{facts.height}"
            raise ValueError(f"{name} has {sizes} (draw it at the picture's size)")
        if defect_type == GOOD and mask.any():
            raise ValueError(f"{name} marks a defect, but its picture is said to be good (move one of them)")
        if defect_type == GOOD:
            return None, None
        if not mask.any():
            raise ValueError(f"{name} is empty (mark the defect, or call its picture good)")
        folder, stem = f"ground_truth/{defect_type}", PurePosixPath(image.name).stem
        if image.mask_path:
            path = f"{folder}/{stem}_mask{PurePosixPath(image.mask_path).suffix}"
            return path, self._copy(self._root / image.mask_path, path)
        return f"{folder}/{stem}_mask.png", self._write(f"{folder}/{stem}_mask.png", encode_png(mask))

    def _room(self, path: Path, name: str) -> AbstractContextManager[object]:
        return self._one_large if num_pixels(path, name=name) > LARGE_PIXELS else nullcontext()

    def _copy(self, source: Path, path: str) -> str:
        """Copy a file, or take it over where nobody else has it. -> its sha256."""
        target = self._new_path(path)
        try:
            if self._is_ours and _can_link(source, target):
                return sha256_of(target)
            with source.open("rb") as reader, target.open("xb") as writer:
                digest = hashlib.sha256()
                while chunk := reader.read(CHUNK_BYTES):
                    digest.update(chunk)
                    writer.write(chunk)
            return digest.hexdigest()
        except FileExistsError:
            raise ValueError(f"two files of the source would become {path}, one of them {source} (rename it)") from None
        except PermissionError as error:
            raise ValueError(f"cannot read {source}: {error.strerror} (check its permissions)") from error

    def _write(self, path: str, content: bytes) -> str:
        with self._new_path(path).open("xb") as writer:
            writer.write(content)
        return hashlib.sha256(content).hexdigest()

    def _new_path(self, path: str) -> Path:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


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


def _can_link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        return False
    return True


def _name_problem(name: str) -> str | None:
    """Why a file name would trouble people or tools, if it would."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8 (rename it)"
    return "its name has control characters (rename it)" if any(ord(letter) < 32 for letter in name) else None
