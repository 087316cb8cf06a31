"""What earlier work has left on the disk and this project knows how to make again; nothing else is recognised."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ndpnet.files import LIST

Kind = Literal["checkpoint", "run record", "bank", "prepared data", "reproduced tree", "unfinished output"]

CHECKPOINT = re.compile(r"phase[12]-[0-9a-f]{16}")
CHECKPOINT_FILES = {"state.pt", "state.tmp", "history.jsonl", "history.tmp", "final.safetensors"}
BANK_FILES = {"bank.json", "masks.npy", "sources.npy"}
PREPARED_FILES = {"prepared.json", "manifest.json", "masks.npy"}
PREPARED_ARRAY = re.compile(r"[a-z_]+\.npy|roi\.png")
UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{12}\.partial|\.(.+)\.fetching")
RUN_RECORDS = re.compile(r"\.(.+)\.run")
REPRODUCED = "reproduce"  # the folder of them, in a work folder


@dataclass(frozen=True)
class Leftover:
    """One thing that may go. modified: seconds since 1970, of its newest file; busy: why nobody may touch it now."""

    path: Path
    kind: Kind
    num_bytes: int
    modified: float
    busy: str = ""


def find_leftovers(build_dir: Path, work_dir: Path) -> Iterator[Leftover]:
    """Yield what is recognised below two folders; links are not followed, pinned data is not entered."""
    for root in dict.fromkeys(Path(folder).resolve() for folder in (build_dir, work_dir)):
        yield from _below(root, work_dir=Path(work_dir).resolve())


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file or folder, or nobody can tell; False where there is no such path."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def lock_of(leftover: Leftover) -> Path:
    """What a process locks while it works there."""
    if leftover.kind in ("checkpoint", "reproduced tree"):
        return leftover.path.with_name(f"{leftover.path.name}.lock")
    return leftover.path


def _below(folder: Path, *, work_dir: Path) -> Iterator[Leftover]:
    for path in sorted(_entries(folder)):
        if path.is_symlink() or path.with_name(f"{path.name}.dvc").exists():
            continue
        kind = _kind_of(path, work_dir)
        if kind == "run record":
            yield from _records_in(path)
        elif kind is not None:
            yield _measure(path, kind)
        elif path.is_dir() and path.name != ".git":
            yield from _below(path, work_dir=work_dir)


def _kind_of(path: Path, work_dir: Path) -> Kind | None:
    if UNFINISHED.fullmatch(path.name):
        return "unfinished output"
    if not path.is_dir():
        return None
    if RUN_RECORDS.fullmatch(path.name):
        return "run record"
    if path.parent == work_dir / REPRODUCED:
        return "reproduced tree" if (path / ".git").is_file() else None
    return _kind_by_content(path)


def _kind_by_content(path: Path) -> Kind | None:
    names = {entry.name for entry in _entries(path)} - {LIST}
    if CHECKPOINT.fullmatch(path.name):
        return "checkpoint" if names <= CHECKPOINT_FILES else None
    is_prepared = names >= {"prepared.json", "manifest.json"}
    if is_prepared and all(name in PREPARED_FILES or PREPARED_ARRAY.fullmatch(name) for name in names):
        return "prepared data"
    return "bank" if names == BANK_FILES else None


def _records_in(folder: Path) -> Iterator[Leftover]:
    for path in sorted(_entries(folder)):
        if (path / "run.json").is_file():
            yield _measure(path, "run record")


def _measure(path: Path, kind: Kind) -> Leftover:
    num_bytes, modified = 0, 0.0
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with contextlib.suppress(FileNotFoundError):  # somebody is at work there
            state = each.lstat()
            num_bytes += state.st_blocks * 512
            modified = max(modified, state.st_mtime)
    found = Leftover(path, kind, num_bytes, modified)
    busy = "in use" if kind != "run record" and is_locked(lock_of(found)) else ""
    return Leftover(path, kind, num_bytes, modified, busy)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
