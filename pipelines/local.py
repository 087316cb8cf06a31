"""The training pipeline on this machine, by KFP's own local engine: same components, same graph, a process per task.

What the engine does otherwise than a cluster, and what is done about it:
- it cannot run a task after one that failed: the page of all categories is written here, from the rows that came;
- it knows no GPUs, limits, secrets or volumes: tasks see this process's environment and files;
- it retries without the checkpoint's machine being gone: nothing is retried, the same command goes on where it was;
- its cache knows no code: the image's name holds the hash of ours.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndpnet.config import Params
    from ndpnet.data.versions.resolving import DataSource

STARTED = re.compile(r"Executing task \S*?'([\w-]+)'")
ENDED = re.compile(r"Task \S*?'([\w-]+)'\S* finished with status \S*?(SUCCESS|FAILURE)")
CACHED = re.compile(r"Task ([\w-]+) cache hit")
LOG, PAGE = "run.log", "overview.html"
NUM_LOG_LINES = 20  # of a failed task


@dataclass
class LocalRun:
    """What came out: one row per category, the failed ones too, and what the gate said."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    promotions: list[dict[str, Any]] = field(default_factory=list)
    failed_tasks: list[str] = field(default_factory=list)
    page_path: Path = Path()
    log_path: Path = Path()


@dataclass(frozen=True)
class TaskEvent:
    """One line of progress: what happened to a task."""

    task: str
    event: str  # started, finished, failed, reused


def run_locally(
    params: "Params", source: "DataSource", out_dir: Path, *, work_dir: str, categories: list[str]
) -> Iterator[TaskEvent | LocalRun]:
    """Run the whole pipeline; yields what happens to each task, and at last the LocalRun. ValueError: nothing to run.

    Finished tasks are reused, a killed training goes on: run the same again.
    """
    from ndpnet.data.versions.resolving import resolve

    resolved = resolve(source)
    chosen = list(categories) or list(resolved.counts())
    for category in chosen:
        resolved.category_hash(category)  # refuses one that is not there, before anything runs
    job = _job(params, source, out_dir, work_dir, chosen, resolved.source.version)
    run = LocalRun(page_path=Path(out_dir) / PAGE, log_path=job["run_dir"] / LOG)
    yield from _follow(job, run)
    yield _collected(run, job["run_dir"], chosen)


def _job(
    params: "Params", source: "DataSource", out_dir: Path, work_dir: str, categories: list[str], version: str
) -> dict[str, Any]:
    """All that the engine's process is told, and the environment of the tasks."""
    from ndpnet.files import hash_of
    from ndpnet.tracking.identity import run_identity
    from ndpnet.tracking.plan import sources_hash

    code = sources_hash()
    identity = run_identity()
    run_id = "local-" + hash_of([params.to_json(), categories, version, code, identity["git_commit"]])[:16]
    run_dir = Path(out_dir).resolve() / run_id
    cluster = params.cluster.model_copy(
        update={"image": f"python-ndpnet:{code[:16]}", "num_retries": 0, "parallel_categories": 1}
    )
    arguments = {"params": params.to_json(), "work_dir": str(Path(work_dir).resolve()), "categories": categories}
    return {
        "settings": params.model_copy(update={"cluster": cluster}).model_dump_json(),
        "arguments": arguments | {name: value for name, value in source.named().items() if name != "version"},
        "run_dir": run_dir,
        "cache_dir": Path(out_dir).resolve() / "cache",
        "environment": {"NDPNET_KFP_RUN_ID": run_id},
    }


def _follow(job: dict[str, Any], run: LocalRun) -> Iterator[TaskEvent]:
    """Run the engine in a process of its own, its whole output in a log; yield what happens to tasks."""
    run.log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "pipelines.local_engine"]
    told = {name: str(value) if isinstance(value, Path) else value for name, value in job.items()}
    environment = {**os.environ, **job["environment"]}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with run.log_path.open("w") as log, subprocess.Popen(command, env=environment, **pipes) as engine:
        try:
            engine.stdin.write(json.dumps(told))
            engine.stdin.close()
            last = None
            for line in engine.stdout:
                log.write(line)
                log.flush()
                event = _event_of(line)
                if event and event != last:  # the engine's threads print some lines twice
                    last = event
                    yield event
                    if event.event == "failed" and event.task not in run.failed_tasks:
                        run.failed_tasks.append(event.task)
        except BaseException:
            engine.terminate()
            raise
    if engine.returncode and not run.failed_tasks:
        raise ValueError(f"KFP's local engine failed: {last_lines(run.log_path)[-1]} (see {run.log_path})")


def _event_of(line: str) -> TaskEvent | None:
    if found := STARTED.search(line):
        return TaskEvent(found[1], "started")
    if found := CACHED.search(line):
        return TaskEvent(found[1], "reused")
    if found := ENDED.search(line):
        return TaskEvent(found[1], "finished" if found[2] == "SUCCESS" else "failed")
    return None


def _collected(run: LocalRun, run_dir: Path, categories: list[str]) -> LocalRun:
    """Rows and decisions of the newest run in the folder, and the page of all categories."""
    from ndpnet.evaluation.overview import complete, write_overview

    newest = max((path for path in run_dir.iterdir() if path.is_dir()), key=lambda path: path.name, default=run_dir)
    rows = [json.loads(_output_of(path)) for path in newest.glob("**/category-row/executor_output.json")]
    run.rows = complete(rows, categories)
    found = sorted(newest.glob("**/promote/promotion/promotion.json"))
    run.promotions = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    write_overview(run.page_path, run.rows)
    return run


def _output_of(path: Path) -> str:
    return json.loads(path.read_text(encoding="utf-8"))["parameterValues"]["Output"]


def last_lines(log_path: Path, task: str = "") -> list[str]:
    """The end of the log; of a task: the lines before the one that says that it failed."""
    lines = [line.rstrip() for line in log_path.read_text(encoding="utf-8", errors="replace").splitlines()]
    failures = [number for number, line in enumerate(lines) if f"'{task}'" in line and "FAILURE" in line]
    end = failures[0] if task and failures else len(lines)
    kept = [line for line in lines[:end] if line.strip()]
    return kept[-NUM_LOG_LINES:] or ["(the log is empty)"]
