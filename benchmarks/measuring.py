"""What the measurements share: their options, processes of their own, and how figures are printed."""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NDPNET_TRACKING": "off"}


class Cost(NamedTuple):
    """What a process took: seconds of the processor and of the clock, the kernel's peak of its memory."""

    processor: float
    clock: float
    peak_mib: float


def options(text: str, **defaults: Any) -> argparse.Namespace:
    """The command line: -P, and an option for every default; a list takes several values, None a text."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-P", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true")
        elif isinstance(default, Sequence) and not isinstance(default, str):
            parser.add_argument(flag, type=type(default[0]) if default else str, nargs="*", default=default)
        else:
            parser.add_argument(flag, type=str if default is None else type(default), default=default)
    return parser.parse_args()


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a new process, on one thread."""
    os.environ |= ENVIRONMENT
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run(command: Sequence[str], folder: Path | None = None) -> Cost:
    """Run a command to its end, on one thread; what it says is shown if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{output.decode(errors='replace')}")
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024)


def in_turn(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each in every round, one after the other, of the processor by default; a round before warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(1 + rounds):
        for name, run in runs.items():
            started = clock()
            run()
            if number:
                seconds[name].append(clock() - started)
    return seconds


def spread(values: Sequence[float]) -> str:
    """Minimum, median, maximum."""
    return f"{min(values):.2f} / {statistics.median(values):.2f} / {max(values):.2f}"


def middle(values: Sequence[float], digits: int = 1) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
