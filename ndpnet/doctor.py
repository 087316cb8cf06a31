"""Is this machine fit to train and inspect: libraries, sources, data, room, GPU, engines, tracking server."""

import base64
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from ndpnet.data.versions.status import readable_bytes

Verdict = Literal["ok", "warning", "FAILED", "not checked"]
GIGABYTE = 1e9
LEAST_DISK, GOOD_DISK = 1 * GIGABYTE, 10 * GIGABYTE  # a demo takes 0.2, five surfaces of 256 px with checkpoints 6
LEAST_MEMORY = 2 * GIGABYTE  # torch, a network of width 16 and its batch
TRACKING_SECONDS = 5.0
MAX_NAMED = 3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `mend` says what to do about it."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def check_machine(folder: Path = Path()) -> Iterator[Check]:
    """Yield the checks of this machine and of the sources in `folder`, one by one: some ask a server."""
    checks = (_check_libraries, _check_git, _check_data, _check_disk, _check_memory, _check_gpu, _check_engines)
    for check in (*checks, _check_tracking):
        name = check.__name__.removeprefix("_check_")
        yield attempt(name, lambda check=check: check(folder))


def attempt(name: str, check: Callable[[], Check]) -> Check:
    """The check's result; what cannot be found out is not checked, and never passes."""
    try:
        return check()
    except (ValueError, OSError, RuntimeError) as error:
        return Check(name, "not checked", " ".join(str(error).split()) or type(error).__name__)


def format_checks(checks: Iterable[Check]) -> str:
    """A table, and a line that counts."""
    from ndpnet.promotion.table import format_rows

    checks = list(checks)
    rows = [("check", "verdict", "found", "what to do")]
    rows += [(check.name, check.verdict, check.found, check.mend) for check in checks]
    verdicts = [check.verdict for check in checks]
    counts = {name: verdicts.count(name) for name in ("ok", "warning", "FAILED", "not checked")}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return "\n".join([*format_rows(rows), f"{len(checks)} checks: {said}"])


def has_failed(checks: Iterable[Check]) -> bool:
    """Whether any of them failed."""
    return any(check.verdict == "FAILED" for check in checks)


def check_url(name: str, url: str, mend: str, *, login: str = "") -> Check:
    """Whether an HTTP server answers with 200, as seen from here. url: without a login, which is USER:PASSWORD."""
    request = urllib.request.Request(url)
    if login:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=TRACKING_SECONDS) as answer:
            return Check(name, "ok", f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        return Check(name, "FAILED", f"{url} answers {error.code}", mend)
    except OSError as error:
        return Check(name, "FAILED", f"{url} does not answer: {getattr(error, 'reason', error)}", mend)


def check_tracking_server() -> Check:
    """Whether the tracking server that the environment names is there."""
    from ndpnet.tracking.client import is_off, is_remote, redact, tracking_login, tracking_uri

    if is_off():
        return Check("tracking", "ok", "switched off (NDPNET_TRACKING)")
    uri = tracking_uri()
    if not is_remote():
        return Check("tracking", "ok", f"{uri}, in this folder")
    if not uri.startswith(("http://", "https://")):
        return Check("tracking", "not checked", f"{redact(uri)} is no HTTP server")
    mend = "start it, or set MLFLOW_TRACKING_URI; runs are kept meanwhile (`ndpnet tracking flush`)"
    return check_url("tracking", f"{redact(uri).rstrip('/')}/health", mend, login=tracking_login())


def _check_libraries(folder: Path) -> Check:
    from ndpnet.promotion.worktree import LOCK, find_differences

    path = folder / LOCK
    if not path.is_file():
        return Check("libraries", "not checked", f"no {LOCK} here", "run it in the repository")
    differences = find_differences(path)
    python = f"Python {sys.version.split()[0]}"
    if not differences:
        return Check("libraries", "ok", f"{python}, all as in {LOCK}")
    named = ", ".join(differences[:MAX_NAMED]) + (", ..." if len(differences) > MAX_NAMED else "")
    mend = f"pip install -r {LOCK}"
    return Check("libraries", "FAILED", f"{python}, {len(differences)} differ: {named}", mend)


def _check_git(folder: Path) -> Check:
    mend = "work in a clone: models name their commit"
    try:
        commit = _git(folder, "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return Check("git", "warning", f"no commit in {folder.resolve()}", mend)
    changed = _git(folder, "status", "--porcelain").splitlines()
    if changed:
        mend = "git commit: a model of a changed tree is not promoted"
        return Check("git", "warning", f"commit {commit[:12]}, {len(changed)} changed files", mend)
    return Check("git", "ok", f"commit {commit[:12]}, clean")


def _check_data(folder: Path) -> Check:
    from ndpnet.data.versions.status import read_status

    status = read_status(folder / "data")
    pinned = status.lines[0].removeprefix("pinned").strip()
    if status.is_as_pinned:
        return Check("data", "ok", f"as pinned: {pinned}")
    return Check("data", "warning", f"not as pinned: {pinned}", "ndpnet data status")


def _check_disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    verdict: Verdict = "FAILED" if free < LEAST_DISK else "warning" if free < GOOD_DISK else "ok"
    mend = "" if verdict == "ok" else "ndpnet gc --dry-run shows what can go"
    return Check("disk", verdict, f"{readable_bytes(free)} free in {folder.resolve()}", mend)


def _check_memory(folder: Path) -> Check:
    import psutil

    free = psutil.virtual_memory().available
    found = f"{readable_bytes(free)} available"
    if free < LEAST_MEMORY:
        return Check("memory", "warning", found, f"a training wants {readable_bytes(LEAST_MEMORY)}")
    return Check("memory", "ok", found)


def _check_gpu(folder: Path) -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", "ok", "none: training runs on the CPU")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Check("gpu", "ok", ", ".join(names))


def _check_engines(folder: Path) -> Check:
    from ndpnet.inference.engines.runtimes import RUNTIME_MODULES, has_bf16, load_module

    names = [load_module(name).__name__ for name in RUNTIME_MODULES.values()]  # ValueError: not installed
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return Check("engines", "ok", f"{versions}; {'bf16, too' if has_bf16() else 'no bf16 on this processor'}")


def _check_tracking(folder: Path) -> Check:
    return check_tracking_server()


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
