"""What of an engine's speed reaches the user of `ndpnet inspect`: a folder's throughput beside that of inference alone.

    python benchmarks/folder.py --model DIR [--engine torch] [--precision fp32] [--count 64] [--side 1024] [--rounds 3]

The pictures are RGB PNG of --side pixels, cuts of scikit-image's gravel. Inference alone: `Inspector.predict` on
pictures that are decoded and resized already. A folder: decoding, inference, regions, overlays, PNG and tables, with
and without overlays. In turn, one thread for the engine; decoding and drawing have threads of their own, so a second
core is what makes them free.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import in_turn, middle, options
from PIL import Image
from skimage.data import gravel

from ndpnet.inference import Inspector
from ndpnet.inference.folder import inspect_folder


def main() -> None:
    """Write pictures, time the three in turn, print rates and ratios."""
    arguments = options(
        __doc__, model="build/brick/model", engine="torch", precision=None, count=64, side=1024, rounds=3
    )
    torch.set_num_threads(1)
    inspector = Inspector.load(arguments.model, engine=arguments.engine, precision=arguments.precision, threshold=0.5)
    with tempfile.TemporaryDirectory() as scratch:
        pictures, out = Path(scratch) / "pictures", Path(scratch) / "out"
        fitted = [inspector.fit(image) for image in write_pictures(pictures, arguments.count, arguments.side)]
        ways = {
            "inference alone": lambda: [inspector.predict(image) for image in fitted],
            "folder, no overlays": lambda: inspect_folder(inspector, pictures, out, with_overlays=False),
            "folder, overlays": lambda: inspect_folder(inspector, pictures, out),
        }
        taken = in_turn(ways, arguments.rounds, time.perf_counter)
    rates = {name: [arguments.count / each for each in seconds] for name, seconds in taken.items()}
    cores = len(os.sched_getaffinity(0))
    print(f"{inspector.engine_name}, {arguments.count} PNG of {arguments.side} px, {cores} cores; images/s, median")
    first = statistics.median(rates["inference alone"])
    for name, values in rates.items():
        share = statistics.median(values) / first
        print(f"{name:20} {middle(values, 2)}  {share:.0%} of inference alone")


def write_pictures(folder: Path, count: int, side: int) -> list[np.ndarray]:
    """PNG files, and their pixels."""
    folder.mkdir()
    texture = np.pad(gravel(), side, mode="reflect")
    rng, images = np.random.default_rng(0), []
    for number in range(count):
        top, left = rng.integers(0, len(texture) - side + 1, 2)
        images.append(np.repeat(texture[top : top + side, left : left + side, None], 3, axis=2))
        Image.fromarray(images[-1]).save(folder / f"{number:04d}.png")
    return images


if __name__ == "__main__":
    main()
