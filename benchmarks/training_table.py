"""Images per second and memory of a training step against base width and image size; what a full training would take.

    python benchmarks/training_table.py [--cases 16x128x8 32x128x4 ...] [-P NAME=VALUE ...]

A case is base width, image size and batch. Each is a process of its own on one thread: one step to warm up, then
--steps more. Printed are images per second of processor time (median), peak memory above the libraries, and the
floating-point operations of a step per image, counted by PyTorch: products and sums of convolutions and matrix
products. The last lines are a CALCULATION, not a measurement: operations of the paper's training of one category
(400 epochs of phase 1, 200 of phase 2, VGG included) divided by what a GPU would do at the share of its peak named.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode
from training_step import make_steps, peak_mib

from ndpnet.model.denormals import denormals_flushed

CASES = ("16x128x8", "16x256x4", "32x128x4", "32x256x2", "64x128x2", "64x256x1")
PAPER = {1: 400, 2: 200}  # epochs of each phase
NUM_IMAGES = 280  # of carpet
GPUS = {"V100, fp32": 15.7e12, "A100, bf16": 312e12, "H100, bf16": 989e12}  # peak of dense products, by the makers
SHARE = 0.3


def main() -> None:
    """One line per case and phase, then the calculation; as a child, measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("-P", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--vgg", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "PHASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return measure(arguments, arguments.child[0], int(arguments.child[1]))
    print("width x px x batch, phase: images/s, peak MiB, GFLOP an image", flush=True)
    for case in arguments.cases:
        for phase in (1, 2):
            speed, peak, operations = run_child(case, phase)
            print(f"{case:>9}, phase {phase}: {speed:7.2f} {peak:7.0f} {operations / 1e9:8.1f}", flush=True)
    return calculate()


def calculate() -> None:
    """Print the paper's training on a GPU that is not here."""
    operations = sum(
        NUM_IMAGES * PAPER[phase] * run_child("64x256x1", phase, "--vgg", "--steps", "0")[2] for phase in PAPER
    )
    print(
        f"calculated, not measured: {operations:.2e} operations for {NUM_IMAGES} images; at {SHARE:.0%} of the peak of"
    )
    for name, peak in GPUS.items():
        print(f"  {name}: {operations / (SHARE * peak) / 3600:.1f} h")


def measure(arguments: argparse.Namespace, case: str, phase: int) -> None:
    """Print the three figures of a case."""
    before = peak_mib()
    width, size, batch = (int(part) for part in case.split("x"))
    settings = {"width": width, "size": size, "batch": batch, "memory_of": "ndpnet"}
    with denormals_flushed(), tempfile.TemporaryDirectory() as folder:
        step = make_steps(argparse.Namespace(**vars(arguments) | settings), phase, Path(folder))["ndpnet"]
        with FlopCounterMode(display=False) as counter:
            step()
        seconds = []
        for _ in range(arguments.steps):
            started = time.process_time()
            step()
            seconds.append(time.process_time() - started)
    speed = batch / statistics.median(seconds) if seconds else float("nan")
    print(speed, peak_mib() - before, counter.get_total_flops() / batch)


def run_child(case: str, phase: int, *options: str) -> list[float]:
    """Run this file again for one case with the options it was given. -> the three figures."""
    given = [option for option in sys.argv[1:] if option not in CASES and option != "--cases"]
    command = [sys.executable, __file__, *given, *options, "--child", case, str(phase)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(finished.stderr)
    return [float(figure) for figure in finished.stdout.splitlines()[-1].split()]


if __name__ == "__main__":
    main()
