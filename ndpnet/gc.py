"""Removing what killed or abandoned work has left, by age: checkpoints, reproduced trees, unfinished outputs.

DVC's outputs are left to `dvc gc`; models and data are never touched.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ndpnet.locks import is_held

UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
CHECKPOINT = re.compile(r"phase[12]-[0-9a-f]{16}")
CHECKPOINT_FILES = {"state.pt", "state.tmp", "history.jsonl", "final.safetensors"}
UNFINISHED = re.compile(r"\.(.+)\.(?:[0-9a-f]{12}\.partial|fetching)")
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
    """What would go, largest first: not written for `older_than` seconds, and in no process's use. Changes nothing.

    Links are not followed, pinned data is not entered.
    """
    now = time.time()
    roots = dict.fromkeys(Path(folder).resolve() for folder in (build_dir, work_dir))
    measured = [_measure(path) for root in roots for path in _below(root, Path(work_dir).resolve() / REPRODUCED)]
    old = [entry for entry in measured if now - entry.modified >= older_than and not _is_locked(_lock_of(entry.path))]
    return sorted(old, key=lambda entry: -entry.num_bytes)


def remove(leftover: Leftover) -> str:
    """Remove it. -> what went wrong, "" if nothing: a process may have begun to use it meanwhile"""
    path = leftover.path
    if _is_locked(_lock_of(path)):
        return "in use by now"
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if (lock := _lock_of(path)) != path:
            lock.unlink(missing_ok=True)
    except OSError as error:
        return " ".join(str(error).split())
    return ""


def _below(folder: Path, reproduced_dir: Path) -> Iterator[Path]:
    for path in sorted(_entries(folder)):
        if path.is_symlink() or path.name == ".git" or path.with_name(f"{path.name}.dvc").exists():
            continue
        if _is_leftover(path, reproduced_dir):
            yield path
        elif path.is_dir() and path.parent != reproduced_dir and not UNFINISHED.fullmatch(path.name):
            yield from _below(path, reproduced_dir)


def _is_leftover(path: Path, reproduced_dir: Path) -> bool:
    if unfinished := UNFINISHED.fullmatch(path.name):
        # a process that was killed while it put a new model in place of the old one leaves the old one so
        is_model = all((path / name).is_file() for name in PACKAGE_FILES)
        return not is_model or path.with_name(unfinished[1]).exists()
    if path.parent == reproduced_dir:
        return (path / ".git").is_file()
    if not CHECKPOINT.fullmatch(path.name):
        return False
    names = [entry.name for entry in _entries(path)]
    return all(name in CHECKPOINT_FILES or UNFINISHED.fullmatch(name) for name in names)


def _lock_of(path: Path) -> Path:
    """What a process locks while it works there."""
    return path if UNFINISHED.fullmatch(path.name) else path.with_name(f"{path.name}.lock")


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file or folder, or nobody can tell; False where there is no such path."""
    held = is_held(path)
    return path.exists() if held is None else held


def _measure(path: Path) -> Leftover:
    num_bytes, modified = 0, 0.0
    for entry in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with contextlib.suppress(FileNotFoundError):  # somebody is at work there
            state = entry.lstat()
            num_bytes += state.st_blocks * 512
            modified = max(modified, state.st_mtime)
    return Leftover(path, num_bytes, modified)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
