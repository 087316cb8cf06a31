"""Pictures that show the same: equal pixels count once, never in train and in test; nearly equal ones are said."""

import logging
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from PIL import Image

from ndpnet.data.manifest import FileRecord

SIDE = 16  # of a thumbnail
# grey levels of 256, root mean square over a thumbnail: JPEG at quality 75 and above changes it by up to 0.31, another
# picture of the same product, aligned to a pixel, by 0.5 and more
NEARLY_EQUAL = 0.35
MIN_STRUCTURE = 2.0  # standard deviation of a thumbnail: smooth surfaces differ in their noise alone, which it averages
CHUNK = 1024

logger = logging.getLogger(__name__)


class CopyIndex:
    """Tells which pictures show the same, by their decoded pixels: none is trained and tested on, or good and bad."""

    def __init__(self) -> None:
        self.copies: dict[str, str] = {}  # name -> that of the first picture that shows the same
        self.leaks: list[tuple[str, str]] = []  # (trained, tested)
        self.contradictions: list[tuple[str, str]] = []  # (good or defective, the other)
        self._first: dict[Hashable, tuple[str, bool, bool]] = {}

    def add(self, name: str, hashes: Iterable[Hashable], *, is_test: bool, is_good: bool = True) -> str | None:
        """Enter a picture by the hashes of its pixels. -> the first one that shows the same; None: this one."""
        hashes = list(hashes)
        first = next((self._first[key] for key in hashes if key in self._first), None)
        for key in hashes:
            self._first.setdefault(key, (name, is_test, is_good))
        if first is None:
            return None
        self.copies[name] = first[0]
        if is_test != first[1]:
            self.leaks.append((first[0], name) if is_test else (name, first[0]))
        elif is_good != first[2]:
            self.contradictions.append((first[0], name))
        return first[0]

    def refuse_leaks(self) -> None:
        """ValueError names a picture that is trained and tested on, or tested on as good and as defective."""
        said = {"in train and in test": self.leaks, "said to be good and defective": self.contradictions}
        for what, pairs in said.items():
            if pairs:
                first, second = pairs[0]
                raise ValueError(f"{len(pairs)} pictures are {what}, first {first} = {second} (remove them from one)")


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return a picture's mean grey levels over SIDE x SIDE fields. uint8 (H, W, 3) -> float32 (SIDE^2,)."""
    # eight times finer first: PIL rounds to whole levels
    small = Image.fromarray(image).convert("L").resize((8 * SIDE, 8 * SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(SIDE, 8, SIDE, 8).mean(axis=(1, 3)).ravel()


def warn_of_alike(thumbnails: Sequence[np.ndarray], records: Sequence[FileRecord]) -> None:
    """Say which pictures of different groups look nearly as another one. thumbnails: of the records."""
    alike = nearly_equal(thumbnails, [record.group for record in records])
    if alike:
        first, second = (records[index].path for index in reversed(alike[0]))
        advice = "if they show one piece they are not independent (remove them, or give them one group by its pattern)"
        logger.warning("%d pictures look nearly as another one, first %s and %s: %s", len(alike), first, second, advice)


def nearly_equal(thumbnails: Sequence[np.ndarray], groups: Sequence[str]) -> list[tuple[int, int]]:
    """Return (index, index of the most similar earlier one) of pictures of different groups that look the same."""
    if not thumbnails:
        return []
    stacked = np.stack(thumbnails)  # (N, SIDE^2)
    has_structure, squares = stacked.std(axis=1) >= MIN_STRUCTURE, (stacked**2).sum(axis=1, dtype=np.float64)
    names = np.unique(groups, return_inverse=True)[1]
    pairs = []
    for start in range(0, len(stacked), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(stacked)))
        products = (stacked[rows] @ stacked[: rows[-1] + 1].T).astype(np.float64)
        distances = squares[rows, None] + squares[: rows[-1] + 1] - 2 * products  # (rows, earlier)
        is_other = np.arange(rows[-1] + 1) < rows[:, None]
        is_other &= (names[rows, None] != names[: rows[-1] + 1]) & has_structure[rows, None]
        distances[~is_other] = np.inf
        nearest = distances.argmin(axis=1)
        for row, other in zip(rows, nearest, strict=True):
            # once more from the thumbnails: the squares above are large, their difference is not exact
            is_near = np.isfinite(distances[row - start, other])
            if is_near and np.sqrt(np.mean((stacked[row] - stacked[other]) ** 2)) <= NEARLY_EQUAL:
                pairs.append((int(row), int(other)))
    return pairs
