"""The connected defects of an anomaly map, in pixels of the inspected picture."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

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
    (height, width), (H, W) = size, above.shape
    labels, _ = ndimage.label(above, structure=EIGHT_NEIGHBOURS)
    regions = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == label
        left, top = columns.start * width // W, rows.start * height // H
        right, bottom = -(-columns.stop * width // W), -(-rows.stop * height // H)  # rounded up
        area = max(1, round(int(inside.sum()) * height * width / (H * W)))
        score = float(anomaly_map[rows, columns][inside].max())
        regions.append(Region(left, top, right - left, bottom - top, area, score))
    return tuple(sorted(regions, key=lambda region: -region.score))


def scale_mask(mask: np.ndarray, num_rows: int) -> np.ndarray:
    """Scale the rows: nearest when there will be more, any of several when fewer. bool (H, W) -> (num_rows, W)."""
    H = len(mask)
    if num_rows >= H:
        return mask[(2 * np.arange(num_rows) + 1) * H // (2 * num_rows)]
    # a resize would lose regions between its samples: defective, and nothing to show
    return np.logical_or.reduceat(mask, np.arange(num_rows) * H // num_rows, axis=0)
