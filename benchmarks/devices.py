"""What several processes gain: images per second, memory and losses of both phases on one device and on more.

    python benchmarks/devices.py [--devices 1 2] [--steps 40] [--accelerator cpu] [-P NAME=VALUE ...]

The same global batch, the steps of `ndpnet train-phase1` and `train-phase2` through Fabric (gloo on the CPU, one thread
each; NCCL on CUDA), the paper's network at the demo's size, with group norm: batch norm would need SyncBatchNorm, which
the CPU lacks.
Images per second as the step itself reports them, without start-up; peak memory of the largest process; the largest
relative difference of a logged loss to the first row's of that phase: sums of several processes round otherwise, and
training carries that on. Pictures of noise, 128 px.
"""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

from measuring import alone, options
from startup import SETTINGS, make_inputs
from training_step import METHOD

from ndpnet import steps
from ndpnet.config import load_params
from ndpnet.files import read_json_lines

NUM_IMAGES = 64


def main() -> None:
    """Print a line per phase and number of devices."""
    arguments = options(__doc__, devices=[1, 2], steps=40, accelerator="cpu")
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), NUM_IMAGES)
        rows = [alone(train, arguments, Path(folder), devices) for devices in arguments.devices]
    print(f"{'':8} devices  images/s  of one  peak MiB  losses differ by")
    for phase in ("phase1", "phase2"):
        first = rows[0][phase]
        for devices, row in zip(arguments.devices, rows, strict=True):
            speed, losses = row[phase]["speed"], row[phase]["losses"]
            off = max(abs(loss - known) / abs(known) for loss, known in zip(losses, first["losses"], strict=True))
            print(
                f"{phase:8} {devices:7d} {speed:9.2f} {speed / first['speed']:7.2f} {row['peak_mib']:9.0f} {off:17.1e}"
            )


def train(arguments: argparse.Namespace, folder: Path, devices: int) -> dict[str, Any]:
    """Both phases on so many devices. -> speeds and losses of each, peak memory of the largest process."""
    epochs = arguments.steps * 8 / NUM_IMAGES  # of batches of 8
    overrides = [*SETTINGS[1::2], *METHOD, "model.norm=group", f"runtime.devices={devices}"]
    overrides += [f"runtime.accelerator={arguments.accelerator}", "runtime.log_seconds=0"]
    overrides += [f"train.phase{phase}.{name}" for phase in (1, 2) for name in (f"epochs={epochs}", "min_steps=0")]
    params = load_params(overrides=[*overrides, *arguments.overrides])
    inputs, out = (folder / "prepared", folder / "bank"), folder / f"on{devices}"
    results = {
        "phase1": steps.train_phase1(*inputs, out / "phase1", params, out / "work"),
        "phase2": steps.train_phase2(*inputs, out / "phase1", out / "model", params, out / "work"),
    }
    histories = {"phase1": out / "phase1/history.jsonl", "phase2": out / "model/history_phase2.jsonl"}
    found: dict[str, Any] = {
        phase: {
            "speed": result["images_per_second"],
            "losses": [row["loss"] for row in read_json_lines(histories[phase]) if "loss" in row],
        }
        for phase, result in results.items()
    }
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return found | {"peak_mib": max(own, children) / 1024}


if __name__ == "__main__":
    main()
