"""The anomaly map of a scan of any size: overlapping tiles, blended before the filters, in bounded memory."""

from collections.abc import Iterator

import numpy as np
import torch

from ndpnet.data.tiling import Tiling, cut_tile
from ndpnet.inference.engines.engine import Engine
from ndpnet.model.segmentation import FILTER_REACH, filter_map

# constant, whatever the machine: the bits of a convolution may depend on the batch
TILES_PER_BATCH = 4
FILTER_BLOCK = 256  # side of the blocks that are filtered at once, in pixels


def predict_scan(
    engine: Engine, scan: np.ndarray, tiling: Tiling, *, with_reconstruction: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Anomaly map, the reconstruction if asked for. uint8 (H, W, 3) -> float32 (H, W), uint8 (H, W, 3) or None.

    Besides these two nothing grows with the scan.
    """
    height, width = scan.shape[:2]
    anomaly_map = np.zeros((height, width), dtype=np.float32)
    rebuilt = np.zeros((height, width, 3), dtype=np.float32) if with_reconstruction else None
    row_weights, column_weights = tiling.weights(height), tiling.weights(width)
    for tiles in _batches(height, width, tiling):
        cut = [cut_tile(scan, top, left, tiling.side) for _, top, _, left in tiles]
        raw_maps, reconstructions = engine.predict_raw(np.stack(cut))
        for index, (row, top, column, left) in enumerate(tiles):
            weight = row_weights[row][:, None] * column_weights[column]  # (S, S)
            _add(anomaly_map, weight * raw_maps[index], top, left)
            if rebuilt is not None:
                _add(rebuilt, weight[..., None] * reconstructions[index].transpose(1, 2, 0), top, left)
    if tiling.has_filters:
        filter_in_place(anomaly_map)
    return anomaly_map, None if rebuilt is None else (rebuilt * 255).round().clip(0, 255).astype(np.uint8)


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


def _batches(height: int, width: int, tiling: Tiling) -> Iterator[list[tuple[int, int, int, int]]]:
    """(row, top, column, left) of the tiles, row by row: which ones share a batch depends on the size alone."""
    tops, lefts = tiling.offsets(height), tiling.offsets(width)
    for row, top in enumerate(tops):
        for start in range(0, len(lefts), TILES_PER_BATCH):
            batch = enumerate(lefts[start : start + TILES_PER_BATCH], start=start)
            yield [(row, top, column, left) for column, left in batch]


def _add(total: np.ndarray, tile: np.ndarray, top: int, left: int) -> None:
    """Add the part of a tile that lies on the scan."""
    inside = total[top : top + tile.shape[0], left : left + tile.shape[1]]
    inside += tile[: inside.shape[0], : inside.shape[1]]
