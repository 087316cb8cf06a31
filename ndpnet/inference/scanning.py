"""The anomaly map of a scan of any size: overlapping tiles, blended before the filters, in bounded memory."""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch

from ndpnet.data.tiling import Tiling, cut_tile
from ndpnet.inference.engines.engine import Engine
from ndpnet.model.segmentation import FILTER_REACH, filter_map

FILTER_BLOCK = 256  # side of the blocks that are filtered at once, in pixels


def predict_scan(engine: Engine, scan: np.ndarray, tiling: Tiling) -> np.ndarray:
    """Anomaly map; besides it nothing grows with the scan. uint8 (H, W, 3) -> float32 (H, W)."""
    anomaly_map = np.zeros(scan.shape[:2], dtype=np.float32)
    _blend(engine.predict, scan, tiling, anomaly_map)
    if tiling.has_filters:
        filter_in_place(anomaly_map)
    return anomaly_map


def rebuild_scan(engine: Engine, scan: np.ndarray, tiling: Tiling) -> np.ndarray:
    """Reconstruction. uint8 (H, W, 3) -> float32 (3, H, W) in [0, 1]."""
    rebuilt = np.zeros((3, *scan.shape[:2]), dtype=np.float32)
    _blend(engine.rebuild, scan, tiling, rebuilt)
    return rebuilt


def _blend(run: Callable[[np.ndarray], np.ndarray], scan: np.ndarray, tiling: Tiling, total: np.ndarray) -> None:
    """Add what `run` makes of the tiles, weighted. run: uint8 (1, S, S, 3) -> (1, ..., S, S); total: (..., H, W)."""
    axes = scan.shape[:2]
    rows, columns = (list(zip(tiling.offsets(side), tiling.weights(side), strict=True)) for side in axes)
    for (top, row_weight), (left, column_weight) in product(rows, columns):
        # one by one: the bits of a convolution may depend on the batch
        planes = run(np.array(cut_tile(scan, top, left, tiling.side))[None])[0]  # a copy: torch warns of read-only ones
        inside = total[..., top : top + tiling.side, left : left + tiling.side]
        inside += (row_weight[:, None] * column_weight * planes)[..., : inside.shape[-2], : inside.shape[-1]]


def filter_in_place(anomaly_map: np.ndarray) -> None:
    """5x5 mean and 5x5 median as over the whole map, borders replicated, block by block. float32 (H, W)."""
    height, width = anomaly_map.shape
    above = anomaly_map[:0]
    for top in range(0, height, FILTER_BLOCK):
        bottom = min(top + FILTER_BLOCK, height)
        # the rows above are filtered by now: what the next strip needs of them was kept
        strip = np.concatenate([above, anomaly_map[top : bottom + FILTER_REACH]])  # (<= block + 2 reaches, W)
        first = top - len(above)
        above = anomaly_map[max(top, bottom - FILTER_REACH) : bottom].copy()
        for left in range(0, width, FILTER_BLOCK):
            right = min(left + FILTER_BLOCK, width)
            start = max(0, left - FILTER_REACH)
            block = torch.from_numpy(strip[:, start : right + FILTER_REACH].copy())
            filtered = filter_map(block[None, None])[0, 0].numpy()
            anomaly_map[top:bottom, left:right] = filtered[top - first : bottom - first, left - start : right - start]
