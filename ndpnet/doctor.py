"""Is this machine fit to train and inspect: libraries, room, GPU, engines, tracking server."""

import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from ndpnet.files import some_names
from ndpnet.redaction import redact

LEAST_DISK, GOOD_DISK = 1e9, 10e9  # bytes; a demo takes 0.2e9, five surfaces of 256 px with checkpoints 6e9


class Finding(NamedTuple):
    """One thing that was looked at. verdict: ok, warning, FAILED or unknown; text: what was found, and what to do."""

    name: str
    verdict: str
    text: str


def check_machine(folder: Path = Path()) -> Iterator[Finding]:
    """Yield the checks of this machine and of `folder`; what cannot be found out never passes."""
    for check in (_check_libraries, _check_git, _check_disk, _check_gpu, _check_engines, _check_tracking):
        name = check.__name__.removeprefix("_check_")
        try:
            yield Finding(name, *check(folder))
        except (ImportError, ValueError, OSError, RuntimeError) as error:
            yield Finding(name, "unknown", redact(error) or type(error).__name__)


def _check_libraries(folder: Path) -> tuple[str, str]:
    from ndpnet.promotion.worktree import find_differences
    from ndpnet.tracking.identity import LOCK

    if not (folder / LOCK).is_file():
        return "unknown", f"no {LOCK} here (it is in a clone)"
    differences = find_differences(folder / LOCK)
    if not differences:
        return "ok", f"all as in {LOCK}"
    return "FAILED", f"{len(differences)} differ: {some_names(differences)} (pip install -r {LOCK})"


def _check_git(folder: Path) -> tuple[str, str]:
    from ndpnet.commands import uncommitted
    from ndpnet.tracking.identity import BUILD_PATH, run_identity

    if BUILD_PATH.is_file():
        built = run_identity()
        if built["git_dirty"] == "false":
            return "ok", f"an image of commit {built['git_commit'][:12]}"
        return "warning", f"an image of commit {built['git_commit'][:12]} with changes: its models cannot be promoted"
    try:
        changed = uncommitted(folder)
    except ValueError:
        return "ok", "no git tree here: models name no commit"
    if not changed:
        return "ok", "no changes since the last commit"
    return "warning", f"changed: {some_names(changed)} (commit them: models of this tree cannot be promoted)"


def _check_disk(folder: Path) -> tuple[str, str]:
    from ndpnet.files import readable_bytes

    free = shutil.disk_usage(folder).free
    verdict = "FAILED" if free < LEAST_DISK else "warning" if free < GOOD_DISK else "ok"
    return verdict, f"{readable_bytes(free)} free" + ("" if verdict == "ok" else " (ndpnet gc --dry-run, dvc gc -w)")


def _check_gpu(folder: Path) -> tuple[str, str]:
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return "ok", ", ".join(names) or "none: training runs on the CPU"


def _check_engines(folder: Path) -> tuple[str, str]:
    from ndpnet.inference.engines.runtimes import RUNTIME_MODULES, has_bf16, load_module

    names = [load_module(name).__name__ for name in RUNTIME_MODULES.values()]  # ValueError: not installed
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return "ok", f"{versions}; {'bf16, too' if has_bf16() else 'no bf16 on this processor'}"


def _check_tracking(folder: Path) -> tuple[str, str]:
    from ndpnet.tracking.client import connect, is_off, local_database, tracking_uri
    from ndpnet.tracking.versions import in_one_line

    if is_off():
        return "ok", "switched off (NDPNET_TRACKING)"
    if database := local_database():
        return "ok", f"{database}" + ("" if database.exists() else " (the first run makes it)")
    if not tracking_uri().startswith("http"):  # not shown: it may hold a password
        return "unknown", "MLFLOW_TRACKING_URI is no address of a server (http://HOST:PORT)"
    try:
        with in_one_line():
            connect().search_experiments(max_results=1)
    except ValueError as error:
        return "FAILED", f"{error}; `ndpnet tracking flush` delivers later"
    return "ok", f"{redact(tracking_uri())} answers"
