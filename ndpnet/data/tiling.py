"""Scans that are larger than the network's input: training tiles, and the tile grid of inspection."""

from dataclasses import dataclass

import numpy as np

from ndpnet.data.fitting import continue_surface

GRID = 64  # offsets are multiples of it: layer 5 and its patches lie alike in every tile
OVERLAP = GRID  # of neighbouring tiles at inspection


@dataclass(frozen=True)
class Tiling:
    """How a scan is inspected: scaled by `scale`, then in tiles of side x side that overlap by 64 pixels."""

    side: int
    scale: float = 1.0
    has_filters: bool = True  # mean and median of the anomaly map, once it is blended

    def offsets(self, length: int) -> list[int]:
        """First pixels of the tiles along an axis of `length` pixels, multiples of 64; the last tile may overhang."""
        last = -(-max(0, length - self.side) // GRID) * GRID
        return [*range(0, last, self.side - OVERLAP), last]

    def weights(self, length: int) -> np.ndarray:
        """Weight of each tile's pixels along an axis, smooth, summing to 1 at every pixel. -> float32 (tiles, side)."""
        offsets = self.offsets(length)
        rise = np.sin(np.pi / 2 * np.minimum((np.arange(self.side) + 0.5) / OVERLAP, 1.0)) ** 2
        window = rise * rise[::-1]
        total = np.zeros(offsets[-1] + self.side)
        for offset in offsets:
            total[offset : offset + self.side] += window
        return np.stack([window / total[offset : offset + self.side] for offset in offsets]).astype(np.float32)


def cut_tile(scan: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """A tile; beyond the scan's right and lower end its surface goes on. (H, W, C) -> (side, side, C)."""
    starts = [max(0, min(start, length - side)) for start, length in zip((top, left), scan.shape, strict=False)]
    seen = scan[starts[0] : starts[0] + side, starts[1] : starts[1] + side]
    below, right = top - starts[0], left - starts[1]  # what of it lies before the tile
    longer = continue_surface(seen, (max(len(seen), below + side), max(seen.shape[1], right + side)))
    return longer[below : below + side, right : right + side]


def training_origins(width: int, height: int, *, side: int, stride: int, margin: int) -> list[tuple[int, int]]:
    """(left, top) of the training tiles of a scan: every `stride` pixels and along the far margins, row by row."""
    columns, rows = (_training_offsets(length, side, stride, margin) for length in (width, height))
    return [(left, top) for top in rows for left in columns]


def _training_offsets(length: int, side: int, stride: int, margin: int) -> list[int]:
    last = length - margin - side
    if last < margin:
        return []
    return [*range(margin, last, stride), last]  # the last one to the margin, so that no strip is left unseen


def contrast(tile: np.ndarray) -> float:
    """Standard deviation of the grey levels, 0 to 127.5. uint8 (S, S, 3)."""
    return float(tile.mean(axis=2).std())
