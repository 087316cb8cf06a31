"""A suite from request to report: its rows, the processes that make them, the report."""

import logging
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ndpnet import __version__
from ndpnet.benchmark.peers import PYTHON, Peer, is_available
from ndpnet.benchmark.rows import Row
from ndpnet.benchmark.suites import SUITES
from ndpnet.benchmark.tables import Measured, make_tables
from ndpnet.benchmark.variants import check_fits, choose_variants
from ndpnet.config import load_params
from ndpnet.files import write_json, write_text
from ndpnet.lineage import code_hash, library_versions
from ndpnet.locks import locked

CPU = "cpu"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuiteRequest:
    """What the command line says, parsed."""

    suite: str
    data_dir: Path
    out: Path
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    ablations: tuple[str, ...]
    peers: tuple[Peer, ...]
    devices: tuple[str, ...]
    params_path: Path | None
    profile: str | None
    overrides: tuple[str, ...]


def parse_devices(text: str) -> tuple[str, ...]:
    """`cpu` once per process, or indices of CUDA devices. ValueError: neither, or no such device."""
    devices = tuple(part.strip() for part in text.split(","))
    if set(devices) == {CPU}:
        return devices
    if not all(device.isascii() and device.isdigit() for device in devices):
        raise ValueError(f"--devices {text!r} names no devices (cpu, cpu,cpu for two processes, or CUDA: 0,1)")
    num_there = torch.cuda.device_count()
    if max(int(device) for device in devices) >= num_there:
        raise ValueError(f"--devices {text!r}: {num_there} CUDA devices are here (count from 0, or cpu)")
    return tuple(str(int(device)) for device in devices)


def rows_of(request: SuiteRequest) -> list[Row]:
    """Every row that the request names. ValueError: an unknown suite, category or ablation, or no data."""
    if request.suite not in SUITES:
        raise ValueError(f"no suite {request.suite!r} (one of {', '.join(SUITES)})")
    for name in (*request.overrides, *request.ablations):
        if name.partition("=")[0].strip() == "seed":
            raise ValueError(f"{name!r}: a benchmark takes its seeds from --seeds (leave it out)")
    if len({peer.text for peer in request.peers}) < len(request.peers):
        raise ValueError("two --peer are the same (leave one out)")
    suite, rows = SUITES[request.suite], []
    common = (*suite.overrides, *request.overrides, "runtime.devices=1")
    plain = load_params(request.params_path, profile=request.profile, overrides=common)
    variants = choose_variants(request.ablations, plain.model.encoder)
    for category in suite.find_categories(request.data_dir, request.categories):
        for seed in request.seeds:
            for variant in variants:
                overrides = (*common, *variant.overrides, f"seed={seed}")
                params = load_params(request.params_path, profile=request.profile, overrides=overrides)
                check_fits(variant, params.model.encoder)
                row = Row(suite.name, request.data_dir.resolve(), request.out, category, seed, params, variant)
                rows.append(row)
            own = rows[-len(variants)]
            rows += [
                replace(own, variant=None, peer=peer, with_filters=filters)
                for peer in request.peers
                for filters in (False, True)
            ]
    return rows


def run(request: SuiteRequest, rows: Sequence[Row]) -> tuple[list[str], str]:
    """Make the rows that are not finished, write report.md and results.json. -> why rows failed; the tables."""
    if request.peers and not is_available(PYTHON):
        raise ValueError(f"no anomalib at {PYTHON} (run `make peers`)")
    busy = f"another process works in {request.out} (wait for it, or choose another one)"
    with locked(request.out, busy, is_folder=True):
        reasons = sorted(set(make_rows(rows, request.out, request.devices)))
        measured = [_measured(row) for row in rows]
        tables = "\n".join(table.to_markdown() for table in make_tables(SUITES[request.suite], measured))
        setup = [f"- {name}: {value}" for name, value in _setup(rows[0].params, request.devices).items()]
        failures = [f"- FAILED: {reason}" for reason in reasons]
        write_json(request.out / "results.json", [asdict(each) for each in measured])
        write_text(
            request.out / "report.md",
            "\n".join([f"# Benchmark: {request.suite}", "", *setup, "", *failures, tables]),
        )
    return reasons, tables


def make_rows(rows: Sequence[Row], out: Path, devices: Sequence[str]) -> list[str]:
    """Make what is not finished, as many at once as there are devices. -> why rows failed.

    On an interrupt the processes end, too.
    """
    waiting = [row for row in rows if row.result() is None]
    logger.info("%d of %d rows to make", len(waiting), len(rows))
    context = multiprocessing.get_context("forkserver")  # forked from a process that has not touched a GPU
    context.set_forkserver_preload([__name__])
    queue = context.SimpleQueue()
    for device in devices:
        queue.put(device)
    num_threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // len(devices)))
    pool = ProcessPoolExecutor(
        len(devices), mp_context=context, initializer=_start_worker, initargs=(queue, num_threads)
    )
    reasons = []
    try:
        futures = {pool.submit(_make_row, row): row for row in waiting}
        for number, future in enumerate(as_completed(futures), start=1):
            row, error = futures[future], future.exception()
            if isinstance(error, ValueError | OSError | RuntimeError):
                reasons.append(f"{row.name}: {' '.join(str(error).split())}")
            elif error is not None:
                raise error
            logger.info("%d of %d: %s", number, len(waiting), reasons[-1] if error else row.name)
    finally:
        for process in multiprocessing.active_children():
            process.kill()
        pool.shutdown(cancel_futures=True)
    return reasons


def _start_worker(devices: Any, num_threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    device = devices.get()
    os.environ |= {"CUDA_VISIBLE_DEVICES": "" if device == CPU else device, "NDPNET_TRACKING": "off"}
    torch.set_num_threads(num_threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")


def _end_with_parent() -> None:
    """The next run would meet it at work."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)


def _make_row(row: Row) -> None:
    """Make a row; what is printed goes to a log beside its result."""
    row.path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(row.path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    row.make("cuda" if torch.cuda.is_available() else "cpu")


def _measured(row: Row) -> Measured:
    result = row.result() or {}
    mark = "" if result.get("is_trained", True) else " [backbone untrained]"
    values = (result.get(key) for key in ("scores", "seconds", "timing"))
    return Measured(row.method + mark, row.category, row.seed, row.variant, *values)


def _setup(params: Any, devices: Sequence[str]) -> Mapping[str, str]:
    """What was run, for the head of the report."""
    train, libraries = params.train, (f"{name} {version}" for name, version in library_versions().items())
    epochs = f"{train.phase1.epochs:g} + {train.phase2.epochs:g}"
    return {
        "profile": params.profile,
        "image size": f"{params.data.image_size} px",
        "training": f"{epochs} epochs, batches of {train.batch_size}; the last weights are judged",
        "machine": f"{platform.machine()}, devices: {', '.join(devices)}",
        "ndpnet": f"{__version__}, training code {code_hash()[:12]}; {', '.join(libraries)}",
    }
