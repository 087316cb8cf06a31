"""`ndpnet speed`: latency, throughput and memory of every engine of a model, each in a process of its own."""

import logging
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ndpnet.inference.engines import engine_name
from ndpnet.inference.engines.stored import engine_names
from ndpnet.inference.package import read_package
from ndpnet.table import format_rows

logger = logging.getLogger(__name__)

NUM_WARM, NUM_LEAST = 3, 5  # predictions that are not counted, and how many are at least
COLUMNS = {"engine": "", **dict.fromkeys(("p50 ms", "p95 ms", "p99 ms", "images/s"), ".1f")}  # and their digits
COLUMNS |= {"of torch": ".2f", "peak MiB": ".0f", "load s": ".1f", "images": "d"}

Timing = dict[str, Any]  # what one engine took, by column


def measure(model: Path, *, seconds: float, num_threads: int) -> list[Timing]:
    """Time torch and every engine that the package carries; one that cannot run here is named in a warning.

    ValueError: no package.
    """
    package = read_package(model)
    # a new process for each: what one engine allocates or starts must not count against the next
    context = multiprocessing.get_context("spawn")
    first = engine_name("torch", "fp32")
    timings = []
    for name in (first, *engine_names(package)):
        logger.info("measuring %s for %g seconds", name, seconds)
        with ProcessPoolExecutor(1, mp_context=context) as process:
            try:
                timings.append(process.submit(time_engine, model, name, seconds, num_threads).result())
            except ValueError as error:
                if name == first:
                    raise
                logger.warning("left out: %s", error)
    return timings


def time_engine(model: Path, name: str, seconds: float, num_threads: int) -> Timing:
    """Time one engine in this process, on the model's own reference image: one whole picture, or one tile."""
    import torch

    from ndpnet.inference.inspector import Inspector

    torch.set_num_threads(num_threads)
    engine, precision = name.split("-")
    started = time.perf_counter()
    inspector = Inspector.load(model, engine=engine, precision=precision)
    load_seconds = time.perf_counter() - started
    bare = Inspector.of(inspector.opened_package, inspector.engine)
    image = inspector.opened_package.references()[0]
    for _ in range(NUM_WARM):
        bare.predict(image)
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < NUM_LEAST:
        started = time.perf_counter()
        bare.predict(image)
        taken.append(time.perf_counter() - started)
    latencies = {f"p{share} ms": 1000 * float(np.percentile(taken, share)) for share in (50, 95, 99)}
    about = {"engine": name, "images/s": len(taken) / sum(taken), "peak MiB": peak_mib(), "load s": load_seconds}
    return latencies | about | {"images": len(taken)}


def peak_mib() -> float:
    """Largest resident set of this process so far; not the kernel's ru_maxrss, which a child inherits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def format_table(timings: Sequence[Timing], *, num_threads: int) -> str:
    """One row per engine; its median latency also as a share of the first one's, torch's."""
    timings = [timing | {"of torch": timing["p50 ms"] / timings[0]["p50 ms"]} for timing in timings]
    rows = [tuple(format(timing[name], digits) for name, digits in COLUMNS.items()) for timing in timings]
    note = f"one image at a time, {num_threads} thread{'s' if num_threads > 1 else ''}"
    return "\n".join([*format_rows([tuple(COLUMNS), *rows], are_numbers=True), note])
