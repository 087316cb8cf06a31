"""Run a plan's tasks, each in a process of its own, as many at once as there are devices; a failure stops its own."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ndpnet.benchmark.tasks import Plan, Task
from ndpnet.benchmark.worker import run_task

POLL_SECONDS = 0.2
# forked from a process that has torch loaded and has not touched a GPU
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ndpnet.benchmark.worker"])

logger = logging.getLogger(__name__)


@dataclass
class _Running:
    task: Task
    device: str
    process: BaseProcess
    started: float = field(default_factory=time.monotonic)


def run_plan(plan: Plan, out: Path, devices: Sequence[str]) -> dict[str, str]:
    """Run what is not finished; what a killed run left goes on. devices: cpu or a CUDA index, one per process.

    -> key -> why it failed, also of the tasks that needed it. On an interrupt the processes end, too.
    """
    out = Path(out)
    waiting = [task for task in plan.tasks.values() if task.metrics(out) is None]
    logger.info("%d of %d tasks to run", len(waiting), len(plan.tasks))
    failed: dict[str, str] = {}
    running: list[_Running] = []
    free, total, num_threads = list(devices), len(waiting), _threads_of_each(devices)
    try:
        while waiting or running:
            waiting = _fail_dependents(waiting, failed)
            for task in _ready(waiting, running):
                if not free:
                    break
                waiting.remove(task)
                running.append(_start(task, free.pop(), out, num_threads=num_threads))
            wait([each.process.sentinel for each in running], timeout=POLL_SECONDS)
            for each in [one for one in running if not one.process.is_alive()]:
                running.remove(each)
                free.append(each.device)
                reason = _why(each, out)
                if reason:
                    failed[each.task.key] = reason
                said = f"FAILED {reason}" if reason else f"{each.task.name}: {time.monotonic() - each.started:.0f} s"
                logger.info("%d left of %d; %s", len(waiting) + len(running), total, said)
    finally:
        for each in running:
            each.process.kill()
            each.process.join()
    return failed


def _ready(waiting: Sequence[Task], running: Sequence[_Running]) -> list[Task]:
    unfinished = {task.key for task in waiting} | {each.task.key for each in running}
    return [task for task in waiting if not unfinished & set(task.needs.values())]


def _fail_dependents(waiting: Sequence[Task], failed: dict[str, str]) -> list[Task]:
    """Take out what can never run. The tasks come in an order in which each follows what it needs."""
    kept = []
    for task in waiting:
        broken = next((key for key in task.needs.values() if key in failed), None)
        if broken is None:
            kept.append(task)
        else:
            failed[task.key] = failed[broken]
    return kept


def _start(task: Task, device: str, out: Path, *, num_threads: int) -> _Running:
    task.folder(out).parent.mkdir(parents=True, exist_ok=True)
    process = PROCESSES.Process(target=run_task, args=(task, out, device, num_threads), name=task.name)
    process.start()
    return _Running(task, device, process)


def _threads_of_each(devices: Sequence[str]) -> int:
    """What the environment or the number of cores gives one of so many processes."""
    asked = os.environ.get("OMP_NUM_THREADS")
    return int(asked) if asked else max(1, (os.cpu_count() or 1) // len(devices))


def _why(each: _Running, out: Path) -> str | None:
    """Why a task failed: the last line of its log, and where that is; None: it did not."""
    if each.process.exitcode == 0:
        return None
    path, code = each.task.log(out), each.process.exitcode
    if code < 0:
        return f"{each.task.name}: killed by {signal.Signals(-code).name} (log: {path})"
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    last = lines[-1] if lines else "it said nothing"
    return f"{each.task.name}: {last} (exit code {code}; log: {path})"
