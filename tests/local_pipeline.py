"""The project in a repository of its own, small enough to run the whole pipeline on."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from documents import ROOT
from mlflow_servers import new_database
from processes import TIME_LIMIT, wait_until
from repositories import NDPNET, Repository
from samples import CATEGORY, write_category

RUN = (*NDPNET, "pipeline", "run")
LOOSE = {"floors": {}, "false_alarm_budget": 1.0, "max_latency_ratio": 20.0}


def make_project(folder: Path, *, is_tracked: bool = True) -> Repository:
    """The project with tiny parameters and two pinned categories, of which one, "broken", cannot be trained.

    is_tracked: into a database of its own.
    """
    from skimage.data import brick

    data_dir = folder.with_name("pictures")
    write_category(data_dir / CATEGORY, brick())
    shutil.copytree(data_dir / CATEGORY, data_dir / "broken")
    next((data_dir / "broken/test").rglob("*.png")).write_bytes(b"no picture")
    repository = Repository.make(folder, data_dir)
    repository.add_project(promotion=LOOSE, cluster={"work_pvc": ""})
    for name in (".gitignore", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    repository.commit("all of it")
    repository.environment |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    if is_tracked:
        repository.environment["MLFLOW_TRACKING_URI"] = new_database(folder)
        repository.environment.pop("NDPNET_TRACKING", None)
    return repository


def num_lines(work_dir: Path, phase: str) -> int:
    """Finished lines in the history of the phase that is being trained below a work folder."""
    return sum(path.read_bytes().count(b"\n") for path in work_dir.glob(f"{phase}-*/history.jsonl"))


def kill_in_training(
    repository: Repository,
    *command: object,
    work_dir: str = ".work",
    is_alone: bool = False,
    time_limit: float = TIME_LIMIT,
) -> None:
    """Start a run, and kill it in the middle of phase 1, with all processes that it started or alone."""
    process = subprocess.Popen(
        [str(each) for each in command],
        cwd=repository.folder,
        env=repository.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = repository.folder / work_dir
    wait_until(lambda: num_lines(folder, "phase1") >= 2 or process.poll() is not None, time_limit)
    assert process.poll() is None, "it ended before it was killed"
    (os.kill if is_alone else os.killpg)(process.pid, signal.SIGKILL)
    process.wait()
