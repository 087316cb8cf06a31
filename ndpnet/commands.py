"""Other programs: asked a short question, git above all; or this one's parent, with which it ends."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 300.0  # git may have a large tree to write
WITHOUT_LOCK = ":(top,exclude)dvc.lock"  # DVC's note of its runs changes no model


def git(folder: Path | str, *arguments: str) -> str:
    """What git says in a folder, without the last line end. ValueError: it fails, or there is none."""
    return output(["git", *arguments], folder).rstrip("\n")


def uncommitted(folder: Path | str) -> list[str]:
    """Changed and new files of the tree around a folder, `dvc.lock` apart. ValueError: there is no git tree."""
    return [line[3:] for line in git(folder, "status", "--porcelain", "--", ":/", WITHOUT_LOCK).splitlines()]


def output(command: Sequence[str], folder: Path | str, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a short command in a folder. ValueError: it failed, with what it said last."""
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        ).stdout
    except FileNotFoundError as error:
        raise ValueError(f"cannot run `{command[0]}` in {folder} (install it, check the folder)") from error
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise ValueError(f"`{' '.join(command[:3])}` failed in {folder}: {said[-1] if said else error}") from error


def end_with_parent() -> None:
    """End, with the whole group that this process may lead, when its parent is killed: nobody would wait for it."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    is_leader = os.getpgid(0) == os.getpid()
    os.kill(0 if is_leader else os.getpid(), signal.SIGKILL)
