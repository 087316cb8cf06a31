"""Prepared pictures as they lie on disk, and as batches that a network takes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

Scaling = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and deviation of each channel, in [0, 1]
PLAIN: Scaling = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
HALVES: Scaling = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET: Scaling = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def open_split(prepared_dir: Path, split: str) -> np.ndarray:
    """One split's pictures, mapped. -> uint8 (N, S, S, 3)."""
    return np.load(prepared_dir / f"{split}.npy", mmap_mode="r")


def draw_batches(num_pictures: int, batch_size: int, num_steps: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of each step: one shuffled epoch behind the other, cut into batches."""
    rng = np.random.default_rng([seed, 7])
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(num_steps):
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, rng.permutation(num_pictures)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]
