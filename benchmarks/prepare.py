"""How fast pictures become arrays: `prepare` on 1 and 2 cores against a plain loop; an epoch of arrays against PNG.

    python benchmarks/prepare.py [--count 128] [--rounds 5]

Pictures are 1024x1024 RGB PNG cut from a photograph (scikit-image's gravel, coloured, with noise), on a warm page
cache. Every variant runs in a process of its own, bound to its cores, interleaved with the others; printed are the
minimum, median and maximum over the rounds, and the ratio of the medians.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import alone, options
from PIL import Image

from ndpnet.config import load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.data.preparing import prepare

SIDE, IMAGE_SIZE = 1024, 256
SETTINGS = {"image_size": IMAGE_SIZE, "group_pattern": "", "calibration_fraction": 0.2, "validation_fraction": 0.1}


def main() -> None:
    """Make the pictures, time the variants, print the table."""
    arguments = options(__doc__, count=128, rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), arguments.count)
        cores = sorted(os.sched_getaffinity(0))
        runs = [("plain loop", 1), ("prepare", 1), ("prepare", 2), ("epoch of PNG", 1), ("epoch of arrays", 1)]
        runs = [(name, num_cores) for name, num_cores in runs if num_cores <= len(cores)]
        speeds: dict[tuple[str, int], list[float]] = {run: [] for run in runs}
        for _ in range(arguments.rounds):
            for name, num_cores in runs:
                speeds[name, num_cores].append(alone(time_variant, name, Path(folder), cores[-num_cores:]))
    print_table(speeds, arguments.count)


def write_pictures(folder: Path, count: int) -> None:
    """COUNT pictures under data/tile/train/good."""
    from skimage.data import gravel

    rng = np.random.default_rng(0)
    surface = np.tile(gravel(), (3, 3)).astype(np.float32)
    good = folder / "data/tile/train/good"
    good.mkdir(parents=True)
    for index in range(count):
        top, left = rng.integers(0, len(surface) - SIDE, 2)
        grey = surface[top : top + SIDE, left : left + SIDE, None] * np.array([1.0, 0.95, 0.9], dtype=np.float32)
        noisy = np.clip(grey + rng.normal(0, 3, grey.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(good / f"{index:06d}.png")


def time_variant(name: str, folder: Path, cores: list[int]) -> float:
    """Pictures per second of one variant, on the given cores."""
    os.sched_setaffinity(0, cores)
    run = VARIANTS[name](folder)
    started = time.perf_counter()
    count = run()
    return count / (time.perf_counter() - started)


def plain_loop(folder: Path) -> Callable[[], int]:
    """What one would write first: decode, resize, keep."""
    paths = sorted((folder / "data/tile/train/good").iterdir())
    size = (IMAGE_SIZE, IMAGE_SIZE)

    def run() -> int:
        arrays = [np.asarray(Image.open(p).convert("RGB").resize(size, Image.Resampling.BILINEAR)) for p in paths]
        return len(np.stack(arrays))

    return run


def with_prepare(folder: Path) -> Callable[[], int]:
    """The library: also hashes, checks, splits and writes."""

    def run() -> int:
        settings = load_params().data.model_copy(update=SETTINGS)
        counts = prepare(folder / "data", "tile", folder / "prepared", settings)
        return sum(counts[f"num_{split}"] for split in ("train", "validation", "calibration", "test"))

    return run


def epoch_of_arrays(folder: Path) -> Callable[[], int]:
    """Every prepared training picture once, in random order, as a training step reads it."""
    images = PreparedData.load(folder / "prepared").images("train")
    order = np.random.default_rng(0).permutation(len(images))

    def run() -> int:
        return sum(len(np.array(images[row])[None]) for row in order)

    return run


VARIANTS: dict[str, Callable[[Path], Callable[[], int]]] = {
    "plain loop": plain_loop,
    "prepare": with_prepare,
    "epoch of PNG": plain_loop,
    "epoch of arrays": epoch_of_arrays,
}


def print_table(speeds: dict[tuple[str, int], list[float]], count: int) -> None:
    """Minimum, median and maximum, and the ratio to the plain loop's median."""
    base = float(np.median(speeds["plain loop", 1]))
    print(f"{count} pictures of {SIDE}x{SIDE} to {IMAGE_SIZE}x{IMAGE_SIZE}, pictures per second over rounds")
    for (name, num_cores), values in speeds.items():
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        cores = f"{num_cores} core{'s' if num_cores > 1 else ''}"
        print(f"{name:16} {cores:8} {low:9.1f} {middle:9.1f} {high:9.1f}   x{middle / base:.2f}")


if __name__ == "__main__":
    main()
