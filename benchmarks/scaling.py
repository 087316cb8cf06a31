"""How import, pin and prepare grow with the number of files: seconds and peak memory at 1,000, 10,000 and 100,000.

    python benchmarks/scaling.py [--counts 1000 10000 100000]

Generated 64x64 grey PNG of noise (a few kilobytes), in the layout `folder`; a new DVC repository for each count; every
stage is a process of its own, its peak memory the kernel's. The last column is the time of one file.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import options, run
from PIL import Image

SIDE = 64
NDPNET = (sys.executable, "-c", "from ndpnet.cli import main; main()")
DVC = (sys.executable, "-m", "dvc")
PREPARE = ("-P", f"data.image_size={SIDE}", "-P", "data.group_pattern=''", "-P", f"synthesis.patch_size={SIDE}")


def main() -> None:
    """Measure every count and print one row per stage."""
    for count in options(__doc__, counts=[1_000, 10_000, 100_000]).counts:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), count)


def measure(folder: Path, count: int) -> None:
    """Run the stages over COUNT files."""
    write_pictures(folder / "source/good", count)
    for command in (("git", "init", "-q"), (*DVC, "init", "-q")):
        run(command, folder)
    prepare = ("prepare", "--data", "data", "--category", "tile", "--out", "build/prepared", *PREPARE)
    stages = {
        "import": (*NDPNET, "import", "folder", "source", "--out", "data/tile"),
        "pin (dvc add)": (*DVC, "add", "-q", "data"),
        "data status": (*NDPNET, "data", "status"),
        "prepare": (*NDPNET, *prepare),
    }
    for stage, command in stages.items():
        cost = run(command, folder)
        per_file = 1e3 * cost.clock / count
        print(f"{count:7d} {stage:14} {cost.clock:8.1f} s {cost.peak_mib:7.0f} MiB {per_file:7.2f} ms/file", flush=True)


def write_pictures(folder: Path, count: int) -> None:
    """COUNT pictures of noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(folder / f"{index:06d}.png")


if __name__ == "__main__":
    main()
