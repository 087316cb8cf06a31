"""Who runs a step: commit, lock file, image and pipeline run of this process, and the person at the keyboard."""

import getpass
import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from ndpnet import __version__

KFP_RUN_VARIABLE = "NDPNET_KFP_RUN_ID"
SECONDS_FOR_GIT = 30


def run_identity() -> dict[str, str]:
    """Commit, lock file, image and pipeline run of this process, as tags; "unknown" where nothing can tell."""
    lock_path = Path("requirements.lock")
    lock_hash = hashlib.sha256(lock_path.read_bytes()).hexdigest() if lock_path.is_file() else "unknown"
    return {
        **_git_identity(),
        "lock_hash": lock_hash,
        "image_digest": os.environ.get("NDPNET_IMAGE_DIGEST", ""),
        "kfp_run_id": os.environ.get(KFP_RUN_VARIABLE, ""),
    }


def report_identity() -> dict[str, str]:
    """Commit and machine of this process, for people who read a report; no commit where git cannot tell."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    machine = f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {system}"
    identity = {"ndpnet": __version__, "machine": machine}
    try:
        commit = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return identity
    return identity | {"git commit": commit}


def _processor() -> str:
    """Its name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def author() -> dict[str, str]:
    """Who calls, and when (ISO 8601)."""
    who = os.environ.get("NDPNET_USER") or f"{getpass.getuser()}@{platform.node()}"
    run_id = os.environ.get(KFP_RUN_VARIABLE)
    return {
        "who": f"{who} (pipeline run {run_id})" if run_id else who,
        "when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _git_identity() -> dict[str, str]:
    try:
        commit = _git("rev-parse", "HEAD")
        # a new file that is not committed can change a result as much as a changed one, DVC's note of its runs cannot
        is_dirty = bool(_git("status", "--porcelain", "--", ":/", ":(top,exclude)dvc.lock"))
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {"git_commit": commit, "git_dirty": "true" if is_dirty else "false"}


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS_FOR_GIT).stdout.strip()
