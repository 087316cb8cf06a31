"""Who runs a step: commit, lock file, image and pipeline run of this process, and the person at the keyboard."""

import getpass
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from ndpnet import __version__
from ndpnet.commands import git, uncommitted
from ndpnet.files import sha256_of, some_names

KFP_RUN_VARIABLE = "NDPNET_KFP_RUN_ID"
LOCK = "requirements.lock"
# in images alone: deploy/image/identity.py writes it
BUILD_PATH = Path(__file__).parents[1] / "build.json"


def run_identity() -> dict[str, str]:
    """Commit, lock file, image and pipeline run of this process, as tags; "unknown" where nothing can tell.

    An image has commit and lock in its package, from its build; its digest, which only a built image has, and the
    pipeline run come from whoever starts it.
    """
    known = (
        json.loads(BUILD_PATH.read_text())
        if BUILD_PATH.is_file()
        else _git_identity() | {"lock_hash": lock_hash(Path())}
    )
    return known | {
        "image_digest": os.environ.get("NDPNET_IMAGE_DIGEST", ""),
        "kfp_run_id": os.environ.get(KFP_RUN_VARIABLE, ""),
    }


def report_identity() -> dict[str, str]:
    """Commit and machine of this process, for people who read a report; no commit where nothing can tell."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    machine = f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {system}"
    identity, known = {"ndpnet": __version__, "machine": machine}, run_identity()
    if known["git_commit"] == "unknown":
        return identity
    return identity | {"git commit": known["git_commit"] + ("-dirty" if known["git_dirty"] == "true" else "")}


def _processor() -> str:
    """Its name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def author() -> dict[str, str]:
    """`who` calls, and `when`: now, in UTC (ISO 8601)."""
    who = os.environ.get("NDPNET_USER") or f"{user_name()}@{platform.node()}"
    run_id = os.environ.get(KFP_RUN_VARIABLE)
    when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"who": f"{who} (pipeline run {run_id})" if run_id else who, "when": when}


def user_name() -> str:
    """Who runs this process; its number where the system has no name for it, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def lock_hash(folder: Path) -> str:
    """The sha256 of a tree's lock file; "unknown" without one."""
    path = folder / LOCK
    return sha256_of(path) if path.is_file() else "unknown"


def _git_identity() -> dict[str, str]:
    try:
        commit, changed = git(".", "rev-parse", "HEAD"), uncommitted(".")
    except ValueError:
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    names = {"git_changes": some_names(changed)} if changed else {}
    return {"git_commit": commit, "git_dirty": "true" if changed else "false"} | names
