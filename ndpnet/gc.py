"""Removing what killed or abandoned work has left, by age: checkpoints, reproduced trees, unfinished outputs.

DVC's outputs are left to `dvc gc`; models and data are never touched.
"""

import contextlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ndpnet.locks import is_held

UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
HEX = "[0-9a-f]"
LEFT = (f"**/.*.{HEX * 12}.partial", f"**/.*.{HEX * 12}.fetching", f"**/phase[12]-{HEX * 16}")
REPRODUCED = "reproduce"  # the folder of reproduced trees, in a work folder
PACKAGE_FILES = ("config.json", "weights.safetensors")  # a trained model's


@dataclass(frozen=True)
class Leftover:
    """Something that may go. modified: seconds since 1970, of its newest file."""

    path: Path
    num_bytes: int
    modified: float


def parse_age(text: str) -> float:
    """An age as 12h, 14d or 2w in seconds. ValueError: another text."""
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no age (write 30m, 12h, 14d or 2w)")
    return int(match[1]) * UNITS[match[2]]


def find_old(build_dir: Path, work_dir: Path, older_than: float) -> list[Leftover]:
    """What would go, largest first: not written for `older_than` seconds, and in no process's use. Changes nothing."""
    trees = {path.parent for path in Path(work_dir).resolve().glob(f"{REPRODUCED}/*/.git") if path.is_file()}
    roots = {Path(folder).resolve() for folder in (build_dir, work_dir)}
    paths = trees | {path for root in roots for pattern in LEFT for path in root.glob(pattern)}
    outermost = [path for path in paths if not paths & set(path.parents) and not path.is_symlink()]
    before = time.time() - older_than
    measured = [_measure(path) for path in outermost if not _is_locked(path) and not _is_last_model(path)]
    return sorted((entry for entry in measured if entry.modified <= before), key=lambda entry: -entry.num_bytes)


def remove(leftover: Leftover) -> str:
    """Remove it. -> what went wrong, "" if nothing: a process may have begun to use it meanwhile"""
    path = leftover.path
    if _is_locked(path):
        return "in use by now"
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    except OSError as error:
        return " ".join(str(error).split())
    return ""


def _is_last_model(path: Path) -> bool:
    """A process that was killed while it put a new model in place of the old one leaves the old one so."""
    is_model = all((path / name).is_file() for name in PACKAGE_FILES)
    return is_model and not path.with_name(path.name[1:].rsplit(".", 2)[0]).exists()


def _is_locked(path: Path) -> bool:
    """Whether a process works there, or nobody can tell: it has locked the folder itself, or a file beside it."""
    lock = path if path.name.startswith(".") else path.with_name(f"{path.name}.lock")
    held = is_held(lock)
    return lock.exists() if held is None else held


def _measure(path: Path) -> Leftover:
    num_bytes, modified = 0, 0.0
    for entry in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # somebody is at work there
            state = entry.lstat()
            num_bytes += state.st_blocks * 512
            modified = max(modified, state.st_mtime)
    return Leftover(path, num_bytes, modified)
