"""How long before anything happens: `import ndpnet`, `ndpnet --help`, and a training step before its first batch.

    python benchmarks/startup.py [--rounds 5] [--images 200]

Each in a process of its own, on one thread; seconds of processor time and of the clock, from the process's start:
minimum, median, maximum. The first line is the bare interpreter. A training step counts until it asks for its first
batch: imports, reading the prepared folder and a bank of 256 masks, the network, for phase 2 the choice of the
reference image among all, the optimiser. Pictures of noise, 128 px, the demo's settings.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import options, run, spread
from PIL import Image

SIDE = 128
CLI = "from ndpnet.cli import main; "
UNTIL_FIRST_BATCH = (
    "import os, time; from ndpnet.synthesis.compose import DefectComposer; "
    "DefectComposer.batch = lambda *_, **__: os._exit(0); "
)
OPTIONS = ("--allow-unpinned",)
SETTINGS = ("-P", "data.group_pattern=''", "-P", "synthesis.num_masks=256", "-P", "synthesis.num_sources=32")
SETTINGS += ("-P", "train.num_validations=0")
ONE_STEP = ("-P", "train.phase1.epochs=0.001", "-P", "train.phase1.min_steps=0")


def main() -> None:
    """Print a line for each."""
    arguments = options(__doc__, rounds=5, images=200)
    cases = {
        "python": ["-c", "pass"],
        "import ndpnet": ["-c", "import ndpnet"],
        "ndpnet --help": ["-c", CLI + "main(['--help'])"],
    }
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder), arguments.images)
        for phase in (1, 2):
            verb = [f"train-phase{phase}", *inputs, *(["--phase1", f"{folder}/phase1"] if phase == 2 else [])]
            verb += ["--out", f"{folder}/never{phase}", "--work-dir", f"{folder}/work", *SETTINGS]
            cases[f"train-phase{phase}"] = ["-c", f"{UNTIL_FIRST_BATCH}{CLI}main({verb!r})"]
        for name, command in cases.items():
            costs = [run([sys.executable, *command]) for _ in range(arguments.rounds)]
            processor, clock = ([cost[index] for cost in costs] for index in (0, 1))
            print(f"{name:14} processor {spread(processor)} s, clock {spread(clock)} s", flush=True)


def make_inputs(folder: Path, count: int) -> list[str]:
    """Pictures, prepared; a bank; phase 1 after one step. -> the options that name them."""
    rng = np.random.default_rng(0)
    (folder / "data/tile/train/good").mkdir(parents=True)
    for index in range(count):
        picture = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
        picture.save(folder / f"data/tile/train/good/{index:04d}.png")
    inputs = ["--prepared", f"{folder}/prepared", "--bank", f"{folder}/bank"]
    prepare = ["prepare", "--data", f"{folder}/data", "--category", "tile", "--out", f"{folder}/prepared", *OPTIONS]
    train = ["train-phase1", *inputs, "--out", f"{folder}/phase1", "--work-dir", f"{folder}/work"]
    for verb in (prepare, ["synthesize", "--out", f"{folder}/bank"], [*train, *ONE_STEP]):
        run([sys.executable, "-c", f"{CLI}main({[*verb, *SETTINGS]!r})"])
    return inputs


if __name__ == "__main__":
    main()
