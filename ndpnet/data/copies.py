"""Pictures that show the same: equal pixels count once, never in train and in test; nearly equal ones are said."""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

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

Item = TypeVar("Item")


def pair_copies(pictures: Iterable[Item], pixels_of: Callable[[Item], Hashable]) -> list[tuple[Item, Item]]:
    """Return (copy, the first picture with the same pixels) in the given order."""
    first: dict[Hashable, Item] = {}
    pairs = [(picture, first.setdefault(pixels_of(picture), picture)) for picture in pictures]
    return [(picture, original) for picture, original in pairs if original is not picture]


def refuse_leaks(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse pictures, given as (trained, tested) names, that are both."""
    if pairs:
        trained, tested = pairs[0]
        raise ValueError(
            f"{len(pairs)} pictures are in train and in test, first {trained} = {tested} "
            "(remove them from one: what was trained on cannot be tested on)"
        )


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
            if np.isfinite(distances[row - start, other]) and _distance(stacked[row], stacked[other]) <= NEARLY_EQUAL:
                pairs.append((int(row), int(other)))
    return pairs


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.sqrt(np.mean((first - second) ** 2)))
