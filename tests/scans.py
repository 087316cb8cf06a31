"""Scans of mixed sizes with drawn defects, and the smallest parameters of `tile` mode."""

from pathlib import Path
from typing import Any

import numpy as np
from samples import GROUPS, write_picture

CATEGORY = "slab"
SIDE, TILE_SIDE = 128, 192  # trained on and inspected
SIZES = ((180, 300), (129, 201), (300, 140), (330, 190))  # (height, width)
TILE_DATA: dict[str, Any] = {
    "mode": "tile",
    "image_size": SIDE,
    "scale": 1.0,
    "tile_stride": 64,
    "tile_margin": 0,
    "tile_min_contrast": 0.0,
    "tile_side": TILE_SIDE,
}


def write_scans(
    category_dir: Path, photograph: np.ndarray, *, sizes: tuple[tuple[int, int], ...] = SIZES, roi: bool = False
) -> None:
    """A category of scans cut from a photograph (512, 512): one good scan per group, good and defective ones to test.

    `roi`: the left quarter is ignored; one scan's defect lies wholly there, one partly.
    """
    rng = np.random.default_rng(1)

    def cut(number: int) -> np.ndarray:
        height, width = sizes[number % len(sizes)]
        top, left = rng.integers(0, 513 - height), rng.integers(0, 513 - width)
        return photograph[top : top + height, left : left + width].copy()

    for number, group in enumerate(GROUPS):
        write_picture(category_dir / f"train/good/slab_{group}_0.png", cut(number))
    for number in range(3):
        write_picture(category_dir / f"test/good/slab_p{90 + number}_0.png", cut(number))
    for number in range(4):
        image = cut(number)
        height, width = image.shape[:2]
        left = (width // 2, 3 * width // 4 - 8, width // 4 - 10, width // 8)[number]  # the last two: see `roi`
        mask = np.zeros((height, width), dtype=bool)
        mask[height // 2 - 15 : height // 2 + 15, left : left + 20] = True
        if number == 3:
            mask[:, width // 4 :] = False
        image[mask] = 250
        write_picture(category_dir / f"test/spot/slab_p{80 + number}_0.png", image)
        write_picture(category_dir / f"ground_truth/spot/slab_p{80 + number}_0_mask.png", mask)
    if roi:
        height, width = sizes[0]
        inspected = np.zeros((height, width), dtype=bool)
        inspected[:, width // 4 :] = True
        write_picture(category_dir / "roi.png", inspected)


def seam_ratio(anomaly_map: np.ndarray, offsets: list[int], side: int) -> float:
    """Mean jump between neighbouring columns at tile borders over that between all others. (H, W)."""
    width = anomaly_map.shape[1]
    borders = sorted({edge for offset in offsets for edge in (offset, offset + side) if 0 < edge < width})
    jumps = np.abs(np.diff(anomaly_map, axis=1)).mean(axis=0)
    is_border = np.isin(np.arange(1, width), borders)
    return float(jumps[is_border].mean() / jumps[~is_border].mean())
