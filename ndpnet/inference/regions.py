"""The connected defects of an anomaly map, in pixels of the inspected picture."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ndpnet.data.fitting import box_around

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class Region:
    """A connected defect in pixels of the inspected image: box (left, top, width, height), area, highest score."""

    left: int
    top: int
    width: int
    height: int
    area: int
    score: float


def find_regions(above: np.ndarray, anomaly_map: np.ndarray, *, size: tuple[int, int]) -> tuple[Region, ...]:
    """8-connected regions, highest score first; boxes hold every pixel they touch. (H, W) twice, size: the image's."""
    if not above.any():
        return ()
    (height, width), (H, W) = size, above.shape
    near = box_around(above)  # labels take four times the memory of the mask
    labels, _ = ndimage.label(above[near], structure=EIGHT_NEIGHBOURS)
    first_row, first_column = (side.start for side in near)
    regions = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == label
        left, top = (columns.start + first_column) * width // W, (rows.start + first_row) * height // H
        right = -(-(columns.stop + first_column) * width // W)  # rounded up
        bottom = -(-(rows.stop + first_row) * height // H)
        area = max(1, round(int(inside.sum()) * height * width / (H * W)))
        score = float(anomaly_map[near][rows, columns][inside].max())
        regions.append(Region(left, top, right - left, bottom - top, area, score))
    return tuple(sorted(regions, key=lambda region: -region.score))


def without_small(above: np.ndarray, num_pixels: int) -> np.ndarray:
    """Only the 8-connected regions with at least so many pixels. bool (H, W) -> bool (H, W)."""
    if num_pixels == 1:
        return above
    labels, _ = ndimage.label(above, structure=EIGHT_NEIGHBOURS)
    is_large = np.bincount(labels.ravel()) >= num_pixels
    is_large[0] = False
    return is_large[labels]


def area_score(anomaly_map: np.ndarray, num_pixels: int) -> float:
    """The highest level that a connected region of at least `num_pixels` reaches everywhere; 1: the map's maximum.

    So a score is above a threshold just where a region of that size is. (H, W) -> float
    """
    levels = np.unique(anomaly_map)
    num_reached = bisect_left(
        levels, True, lo=1, key=lambda level: not without_small(anomaly_map >= level, num_pixels).any()
    )
    return float(levels[num_reached - 1])
