"""A version's sources, data and pipeline once more: a git worktree of its commit, run with this interpreter."""

import contextlib
import ctypes
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import yaml

from ndpnet.commands import git, output
from ndpnet.files import write_text
from ndpnet.locks import locked
from ndpnet.storage.pins import is_lock, pull

logger = logging.getLogger(__name__)

PARAMS, DATA = "ndpnet/params.yaml", "data.dvc"
BEGUN = ".dvc/tmp/ndpnet-reproduce"  # in a worktree whose pipeline has begun
DVC = (sys.executable, "-m", "dvc")
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
# that a run changes nothing outside of its worktree: no tracking, nothing of another git or DVC run
UNSET = re.compile(r"GIT_(DIR|WORK_TREE|INDEX_FILE)|DVC_(STAGE|ROOT|EXP.*|CHECKPOINT)|PYTHON(HOME|STARTUP)")


class Worktree:
    """A checked out commit in a folder of its own, in which the pipeline can run. Nothing of the caller's tree is used
    but git's objects and DVC's cache.
    """

    def __init__(self, folder: Path, repository: Path, commit: str) -> None:
        self.folder, self.repository, self.commit = folder, repository, commit

    def environment(self) -> dict[str, str]:
        """For processes in it: its own ndpnet, this interpreter, no tracking."""
        inherited = {name: value for name, value in os.environ.items() if not UNSET.fullmatch(name)}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        own = {"PYTHONPATH": str(self.folder), "PATH": path, "NDPNET_TRACKING": "off", "DVC_NO_ANALYTICS": "1"}
        return inherited | own

    def params_hash(self) -> str:
        """Hash of the parameters that the commit resolves to, as its own code computes it."""
        code = (
            "from ndpnet.config import load_params; from ndpnet.lineage import params_hash; "
            f"print(params_hash(load_params({PARAMS!r})))"
        )
        return self._output([sys.executable, "-c", code]).strip()

    def add_category(self, category: str) -> None:
        """Have `dvc repro` know a category, whichever ones the commit names."""
        path = self.folder / PARAMS
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if category not in values["categories"]:
            write_text(path, yaml.safe_dump(values | {"categories": [category]}, sort_keys=False, allow_unicode=True))

    def bring_data(self) -> None:
        """Check out what the commit pins, from the caller's DVC cache, else from the remote. ValueError: neither."""
        cache = self._output([*DVC, "cache", "dir"], cwd=self.repository).strip()
        self._output([*DVC, "config", "--local", "cache.dir", str(self.repository / cache)])
        if self._run([*DVC, "checkout", "--quiet", DATA]):
            try:
                pull(self.folder, self.repository, DATA)
            except ValueError as error:
                raise ValueError(
                    f"the data of commit {self.commit} are not in this clone's cache: {error} "
                    "(`dvc push --all-commits` where they are)"
                ) from error

    def run_pipeline(self, target: str) -> None:
        """Run what is not done yet up to a stage, whatever DVC knows from elsewhere. ValueError: a stage failed."""
        # a commit's dvc.lock and the run cache would have DVC take the outputs from the cache, and nothing would be run
        if not (self.folder / BEGUN).exists():
            (self.folder / "dvc.lock").unlink(missing_ok=True)
            write_text(self.folder / BEGUN, "")
        _drop_cut_lock(self.folder / "dvc.lock")
        if self._run([*DVC, "repro", "--no-run-cache", target]):
            raise ValueError(f"the pipeline of commit {self.commit} failed in {self.folder} (see above)")

    def _output(self, command: list[str], cwd: Path | None = None) -> str:
        return output(command, cwd or self.folder, self.environment())

    def _run(self, command: list[str]) -> int:
        """Its output goes to standard error: what this process prints is the result alone."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            preexec_fn=_end_with_parent,  # one call into libc; nothing else runs here
            check=False,
        ).returncode


@contextlib.contextmanager
def checked_out(repository: Path, commit: str, folder: Path, *, is_kept: bool = False) -> Iterator[Worktree]:
    """A worktree of a commit in `folder`, for this process alone; removed after success, unless `is_kept`.

    One that a killed or failed run has left is taken up again: finished stages are not run twice.
    """
    root = Path(git(repository, "rev-parse", "--show-toplevel"))
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    busy = f"another process works in {folder} (wait for it, or choose another --work-dir)"
    with locked(folder.with_name(f"{folder.name}.lock"), busy):
        _add(root, commit, folder)
        yield Worktree(folder, root, commit)
        if not is_kept:
            git(root, "worktree", "remove", "--force", str(folder))
            folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def find_differences(lock_path: Path) -> list[str]:
    """Libraries that are installed in another version than a lock file pins; what is not installed is not used."""
    differences = []
    for line in lock_path.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("#")[0].partition(";")[0].strip().partition("==")
        with contextlib.suppress(metadata.PackageNotFoundError, ValueError):  # a line without a name
            version = metadata.version(name.partition("[")[0].strip())  # the first on the path: what is imported
            if version.partition("+")[0] != pinned.strip().partition("+")[0]:
                differences.append(f"{name} {version} instead of {pinned.strip()}")
    return differences


def _add(root: Path, commit: str, folder: Path) -> None:
    try:
        git(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except ValueError as error:
        raise ValueError(f"commit {commit} is not in {root} (run `git fetch origin {commit}`)") from error
    if (folder / BEGUN).is_file() and git(folder, "rev-parse", "HEAD") == commit:
        logger.info("going on in %s", folder)
        # a DVC killed while it wrote this leaves it damaged; this process alone works here, so nobody needs it
        (folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
        return
    if folder.exists():
        shutil.rmtree(folder)
    # twice: a git killed here before has left the folder's name locked
    git(root, "worktree", "add", "--force", "--force", "--quiet", "--detach", str(folder), commit)


def _drop_cut_lock(path: Path) -> None:
    """Remove the dvc.lock that a DVC killed while it wrote it has left: it would not be read, and nothing be run."""
    if path.exists() and not is_lock(path):
        logger.warning("%s was cut off by a kill: the pipeline is run from its start", path)
        path.unlink()


def _end_with_parent() -> None:
    # a killed process would leave DVC behind, and the next call would meet it at work
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
