"""The connected defects of an anomaly map, in pixels of the inspected picture."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)
BAND_ROWS = 512  # labelled at once: labels take four times the memory of what they label


@dataclass(frozen=True)
class Region:
    """A connected defect in pixels of the inspected image: box (left, top, width, height), area, highest score."""

    left: int
    top: int
    width: int
    height: int
    area: int
    score: float


@dataclass(frozen=True)
class _Part:
    """What of a region lies in one band of rows, or in several, in pixels of the map."""

    left: int
    top: int
    right: int
    bottom: int
    num_pixels: int
    score: float

    def __add__(self, other: "_Part") -> "_Part":
        return _Part(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.num_pixels + other.num_pixels,
            max(self.score, other.score),
        )


def find_regions(above: np.ndarray, anomaly_map: np.ndarray, *, size: tuple[int, int]) -> tuple[Region, ...]:
    """8-connected regions, highest score first; boxes hold every pixel they touch. (H, W) twice, size: the image's."""
    (height, width), (H, W) = size, above.shape
    regions = []
    for part in _connected_parts(above, anomaly_map):
        left, top = part.left * width // W, part.top * height // H
        right, bottom = -(-part.right * width // W), -(-part.bottom * height // H)  # rounded up
        area = max(1, round(part.num_pixels * height * width / (H * W)))
        regions.append(Region(left, top, right - left, bottom - top, area, part.score))
    return tuple(sorted(regions, key=lambda region: -region.score))


def scale_mask(mask: np.ndarray, num_rows: int) -> np.ndarray:
    """Scale the rows: nearest when there will be more, any of several when fewer. bool (H, W) -> (num_rows, W)."""
    H = len(mask)
    if num_rows >= H:
        return mask[(2 * np.arange(num_rows) + 1) * H // (2 * num_rows)]
    # a resize would lose regions between its samples: defective, and nothing to show
    return np.logical_or.reduceat(mask, np.arange(num_rows) * H // num_rows, axis=0)


def _connected_parts(above: np.ndarray, anomaly_map: np.ndarray) -> list[_Part]:
    """Every region once, in the order of their first pixels: bands of rows, joined where they touch."""
    parts: list[_Part] = []
    parents: list[int] = []  # of each part the first one of its region, by way of others

    def root(number: int) -> int:
        while parents[number] != number:
            number = parents[number]
        return number

    last_row = np.full(above.shape[1], -1)  # number of the part at each pixel of the row above, -1: none
    for top in range(0, len(above), BAND_ROWS):
        labels, num_labels = ndimage.label(above[top : top + BAND_ROWS], structure=EIGHT_NEIGHBOURS)
        first = len(parts)
        parts += _measure(labels, anomaly_map[top : top + BAND_ROWS], top)
        parents += range(first, first + num_labels)
        first_row = np.where(labels[0] > 0, labels[0] + first - 1, -1)
        for upper, lower in _touching(last_row, first_row):
            older, younger = sorted((root(upper), root(lower)))
            parents[younger] = older
        last_row = np.where(labels[-1] > 0, labels[-1] + first - 1, -1)
    joined: dict[int, _Part] = {}
    for number, part in enumerate(parts):
        first = root(number)
        joined[first] = joined[first] + part if first in joined else part
    return list(joined.values())


def _measure(labels: np.ndarray, anomaly_map: np.ndarray, top: int) -> list[_Part]:
    parts = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == label
        score = float(anomaly_map[rows, columns][inside].max())
        box = (columns.start, top + rows.start, columns.stop, top + rows.stop)
        parts.append(_Part(*box, int(inside.sum()), score))
    return parts


def _touching(upper: np.ndarray, lower: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of parts that touch across two rows, by a side or a corner. (W,) twice."""
    pairs: set[tuple[int, int]] = set()
    for shift in (-1, 0, 1):
        above = upper[max(0, shift) : len(upper) + min(0, shift)]
        below = lower[max(0, -shift) : len(lower) + min(0, -shift)]
        both = (above >= 0) & (below >= 0)
        pairs.update(zip(above[both].tolist(), below[both].tolist(), strict=True))
    return sorted(pairs)
