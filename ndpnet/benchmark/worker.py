"""One task in a process of its own."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ndpnet import steps
from ndpnet.benchmark import tasks
from ndpnet.benchmark.peers.launch import run_peer
from ndpnet.benchmark.peers.worker.settings import PeerSettings
from ndpnet.benchmark.results import score_model, score_peer, time_model
from ndpnet.files import write_json

Inputs = dict[str, Path]  # kind -> its folder
Metrics = dict[str, Any]
CPU = "cpu"


def run_task(task: tasks.Task, out: Path, device: str, num_threads: int) -> None:
    """Run a task on a device, print to its log, write what it returned beside its output; exit code 1 if it fails."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(task.log(out))
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if device == CPU else device
    torch.set_num_threads(num_threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    inputs = {kind: out / kind / key[:16] for kind, key in task.needs.items()}
    try:
        metrics = RUNNERS[task.kind](inputs, task.folder(out), out / "work", **task.arguments)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(" ".join(str(error).split()))
    write_json(task.done(out), metrics)


def _end_with_parent() -> None:
    """The next run would meet it at work."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)


def _print_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)


def _train_phase1(inputs: Inputs, folder: Path, work: Path, *, params: str) -> Metrics:
    return steps.train_phase1(inputs[tasks.PREPARE], inputs[tasks.BANK], folder, params, work)


def _train_phase2(inputs: Inputs, folder: Path, work: Path, *, params: str) -> Metrics:
    given = (inputs[tasks.PREPARE], inputs[tasks.BANK], inputs[tasks.PHASE1])
    return steps.train_phase2(*given, folder, params, work)


def _run_peer(inputs: Inputs, folder: Path, _: Path, *, settings: dict[str, Any], python: str) -> Metrics:
    info = run_peer(inputs[tasks.PREPARE], folder, PeerSettings(**settings), python=Path(python)).info
    timing = {"milliseconds": 1000 * info["seconds_per_image"]["p50"], "gmac": info["gmac"]}
    return {"seconds": info["seconds_train"], **timing, "is_untrained": info.get("untrained", False)}


RUNNERS: dict[str, Callable[..., Metrics]] = {
    tasks.PREPARE: lambda _inputs, folder, _work, *, data_dir, category, params: steps.prepare(
        Path(data_dir), category, folder, params, allow_unpinned=True
    ),
    tasks.BANK: lambda _inputs, folder, _work, *, params: steps.synthesize(folder, params),
    tasks.PHASE1: _train_phase1,
    tasks.PHASE2: _train_phase2,
    tasks.SCORE: lambda inputs, folder, _work, **how: score_model(
        inputs[tasks.PREPARE], inputs[tasks.PHASE2], folder, **how
    ),
    tasks.TIME: lambda inputs, folder, _work: time_model(inputs[tasks.PHASE2], folder),
    tasks.PEER: _run_peer,
    tasks.PEER_SCORE: lambda inputs, folder, _work, **how: score_peer(
        inputs[tasks.PREPARE], inputs[tasks.PEER], folder, **how
    ),
}
