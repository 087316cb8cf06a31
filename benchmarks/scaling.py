"""How import, pin and prepare grow with the number of files: seconds and peak memory at 1,000, 10,000 and 100,000.

    python benchmarks/scaling.py [--counts 1000 10000 100000]

Generated 64x64 grey PNG of noise (a few kilobytes), in the layout `folder`; a new DVC repository for each count; every
stage is a process of its own, its peak memory the kernel's. The last column is the time of one file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
NDPNET = (sys.executable, "-c", "from ndpnet.cli import main; main()")
DVC = (sys.executable, "-m", "dvc")
PREPARE = ("-P", f"data.image_size={SIDE}", "-P", "data.group_pattern=''", "-P", f"synthesis.patch_size={SIDE}")


def main() -> None:
    """Measure every count and print one row per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), count)


def measure(folder: Path, count: int) -> None:
    """Run the stages over COUNT files."""
    write_pictures(folder / "source/good", count)
    for command in (("git", "init", "-q"), (*DVC, "init", "-q")):
        subprocess.run(command, cwd=folder, check=True)
    prepare = ("prepare", "--data", "data", "--category", "tile", "--out", "build/prepared", *PREPARE)
    stages = {
        "import": (*NDPNET, "import", "folder", "source", "--out", "data/tile"),
        "pin (dvc add)": (*DVC, "add", "-q", "data"),
        "data status": (*NDPNET, "data", "status"),
        "prepare": (*NDPNET, *prepare),
    }
    for stage, command in stages.items():
        seconds, peak = run(command, folder)
        print(
            f"{count:7d} {stage:14} {seconds:8.1f} s {peak:7.0f} MiB {1e3 * seconds / count:7.2f} ms/file", flush=True
        )


def write_pictures(folder: Path, count: int) -> None:
    """COUNT pictures of noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(folder / f"{index:06d}.png")


def run(command: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Seconds and peak resident memory (MiB) of one process; its output only if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{output.decode(errors='replace')}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
