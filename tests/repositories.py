"""Real git and DVC repositories for the tests, small and with local remotes or S3."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import mask, picture
from documents import ROOT
from PIL import Image
from processes import TIME_LIMIT, Finished
from samples import write_params, write_picture

from ndpnet.commands import git

DVC = (sys.executable, "-m", "dvc")
NDPNET = (sys.executable, "-c", "from ndpnet.cli import main; main()")
CATEGORIES = ("wall", "tile")


class Repository:
    """A git and DVC repository whose data/ has two small categories, pinned and committed."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = Path(folder)
        self.data_dir = self.folder / "data"
        nobody = {f"GIT_{role}_{what}": "test@test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **nobody,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            **(environment or {}),
        }

    @classmethod
    def make(cls, folder: Path, data_dir: Path | None = None) -> "Repository":
        """Make one, with these pictures if there are any; copies of its folder are repositories of their own."""
        from dvc.repo import Repo

        repository = cls(folder)
        if data_dir is not None:
            shutil.copytree(data_dir, repository.data_dir)
        for number, category in enumerate(CATEGORIES if data_dir is None else ()):
            write_small_category(repository.data_dir / category, seed=number)
        repository.run("git", "init", "--quiet", "--initial-branch=main")
        Repo.init(str(folder)).close()
        repository._keep_caches_here()
        repository.pin()
        repository.commit("first data")
        return repository

    def copy(self, folder: Path) -> "Repository":
        """Copy everything, DVC's cache too."""
        shutil.copytree(self.folder, folder)
        copied = Repository(folder, self.environment)
        copied._keep_caches_here()
        return copied

    def add_project(self, **params: Any) -> None:
        """Copy the project's stages and library here, with tiny parameters."""
        for name in ("dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, self.folder)
        shutil.copytree(ROOT / "ndpnet", self.folder / "ndpnet", ignore=shutil.ignore_patterns("__pycache__"))
        write_params(self.folder / "ndpnet/params.yaml", **params)

    def pin(self) -> None:
        """Do what `dvc add data` does, in this process."""
        from dvc.repo import Repo

        with Repo(str(self.folder)) as repo:
            repo.add([str(self.data_dir)])

    def commit(self, message: str) -> str:
        """Commit all that changed. -> the commit."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def set_remote(self, url: str, endpoint_url: str | None = None) -> None:
        """Write what `dvc remote add -d storage URL` writes."""
        lines = ["[core]", "    remote = storage", "['remote \"storage\"']", f"    url = {url}"]
        lines += [f"    endpointurl = {endpoint_url}"] if endpoint_url else []
        (self.folder / ".dvc/config").write_text("\n".join(lines) + "\n")

    def run(self, *command: object, is_expected_to_fail: bool = False, time_limit: float = TIME_LIMIT) -> Finished:
        """Run a command in the repository; time_limit: seconds."""
        finished = self.start(*command)
        stdout, stderr = finished.communicate(timeout=time_limit)
        result = Finished(finished.returncode, stdout, stderr)
        assert is_expected_to_fail == (result.exit_code != 0), result
        return result

    def start(self, *command: object) -> "subprocess.Popen[str]":
        """Start a command in the repository."""
        return subprocess.Popen(
            [str(each) for each in command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _keep_caches_here(self) -> None:
        # DVC would leave them in /var/tmp
        (self.folder / ".dvc/config.local").write_text(f"[core]\n    site_cache_dir = {self.folder}/.dvc/site\n")
        (self.folder / ".git/info").mkdir(exist_ok=True)
        (self.folder / ".git/info/exclude").write_text(".dvc/site\n")


def write_small_category(category_dir: Path, *, seed: int) -> None:
    """Write a category in MVTec's layout: noise, 12 good training pictures, 3 good and 2 defective ones to test."""
    names = [f"train/good/p{number:02d}" for number in range(12)]
    names += [*(f"test/good/t{number}" for number in range(3)), "test/hole/h0", "test/hole/h1"]
    for number, name in enumerate(names):
        write_picture(category_dir / f"{name}.png", picture(100 * seed + number))
    for name in ("h0", "h1"):
        write_picture(category_dir / f"ground_truth/hole/{name}_mask.png", mask())


def commit_all(folder: Path) -> str:
    """Make a git repository of a folder, with one commit of all in it. -> the commit"""
    who = ("-c", "user.name=test", "-c", "user.email=test@test")
    for command in (("init", "--quiet"), ("add", "--all"), (*who, "commit", "--quiet", "--allow-empty", "-m", "all")):
        git(folder, *command)
    return git(folder, "rev-parse", "HEAD")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change_pixels(path: Path) -> None:
    """Replace a picture by another of its size."""
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(255 - pixels).save(path)
