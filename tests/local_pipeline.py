"""The project in a repository of its own, small enough to run the whole pipeline on."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import yaml
from documents import ROOT
from processes import TIME_LIMIT, wait_until
from repositories import NDPNET, Repository
from samples import CATEGORY, TINY, lay_over, write_category

from ndpnet.config import PARAMS_PATH

RUN = (*NDPNET, "pipeline", "run")
LOOSE = {"floors": {}, "false_alarm_budget": 1.0, "max_latency_ratio": 20.0}


def make_project(folder: Path) -> Repository:
    """The project with tiny parameters and two pinned categories, of which one, "broken", cannot be trained.

    It tracks into a database of its own.
    """
    from dvc.repo import Repo
    from skimage.data import brick

    repository = Repository(folder)
    for name in ("ndpnet", "components", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    values = lay_over(yaml.safe_load(PARAMS_PATH.read_text()), TINY)
    values["promotion"] |= LOOSE
    values["cluster"]["work_pvc"] = ""
    (folder / "ndpnet/params.yaml").write_text(yaml.safe_dump(values))
    # before the installed one on the path: processes on this machine need no docker
    (folder / "docker.py").write_text('raise ImportError("as if it were not installed")\n')
    write_category(repository.data_dir / CATEGORY, brick())
    shutil.copytree(repository.data_dir / CATEGORY, repository.data_dir / "broken")
    next((repository.data_dir / "broken/test").rglob("*.png")).write_bytes(b"no picture")
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    Repo.init(str(folder)).close()
    repository.pin()
    repository.commit("all of it")
    repository.environment |= {
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    repository.environment.pop("NDPNET_TRACKING", None)
    return repository


def kill_in_training(
    repository: Repository,
    *command: object,
    work_dir: str = ".work",
    phase: str = "phase1",
    is_alone: bool = False,
    log_path: Path = Path(os.devnull),
    time_limit: float = TIME_LIMIT,
) -> None:
    """Start a run, and kill it in the middle of a phase, with all processes that it started or alone."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(each) for each in command],
            cwd=repository.folder,
            env=repository.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_training() -> bool:
        histories = (repository.folder / work_dir).glob(f"{phase}-*/history.jsonl")
        return any(path.read_bytes().count(b"\n") >= 2 for path in histories)

    wait_until(lambda: is_training() or process.poll() is not None, time_limit)
    assert process.poll() is None, "it ended before it was killed"
    (os.kill if is_alone else os.killpg)(process.pid, signal.SIGKILL)
    process.wait()
