"""Removing what earlier work has left, by policy: old, not the newest of its kind, in use or needed by nothing."""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndpnet.leftovers import RUN_RECORDS, UNFINISHED, Kind, Leftover, find_leftovers, is_locked, lock_of
from ndpnet.tracking.record import RUN, load_record, records_below

DAY = 86400.0
UNITS = {"m": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}
COUNTED: tuple[Kind, ...] = ("checkpoint", "bank", "prepared data", "reproduced tree")  # of these the newest stay
PACKAGE_FILES = ("config.json", "weights.safetensors")  # a trained model's


@dataclass(frozen=True)
class Policy:
    """older_than: seconds since its newest file was written; keep_last: of each kind, however old."""

    older_than: float = 14 * DAY
    keep_last: int = 1


@dataclass(frozen=True)
class Verdict:
    """What becomes of a leftover, and why."""

    leftover: Leftover
    is_removed: bool
    reason: str


def parse_age(text: str) -> float:
    """An age as 12h, 14d or 2w in seconds. ValueError: another text."""
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no age (write 12h, 14d or 2w)")
    return int(match[1]) * UNITS[match[2]]


def judge(build_dir: Path, work_dir: Path, policy: Policy, *, now: float | None = None) -> list[Verdict]:
    """What there is, and what would go; nothing is changed. Largest first."""
    now = time.time() if now is None else now
    found = list(find_leftovers(build_dir, work_dir))
    needed = _needed(build_dir)
    newest: dict[Kind, list[Leftover]] = {}
    for each in sorted(found, key=lambda each: each.modified, reverse=True):
        newest.setdefault(each.kind, []).append(each)
    verdicts = []
    for each in found:
        reason = each.busy or needed.get(each.path, "") or _reason_to_keep(each)
        if not reason and each.kind in COUNTED and each in newest[each.kind][: policy.keep_last]:
            reason = f"among the newest {policy.keep_last}"
        age = now - each.modified
        if not reason and age < policy.older_than:
            reason = f"written {_readable_age(age)} ago"
        verdicts.append(Verdict(each, not reason, reason or f"{each.kind}, written {_readable_age(age)} ago"))
    return sorted(verdicts, key=lambda verdict: -verdict.leftover.num_bytes)


def collect(verdicts: list[Verdict]) -> Iterator[tuple[Leftover, str]]:
    """Remove what is to be removed, one by one. -> each of them, and what went wrong ("" if nothing)."""
    for verdict in verdicts:
        if verdict.is_removed:
            yield verdict.leftover, _remove(verdict.leftover)


def _remove(leftover: Leftover) -> str:
    from ndpnet.promotion.worktree import remove_worktree
    from ndpnet.training.checkpoint import only_process

    try:
        if leftover.kind == "checkpoint":
            with only_process(leftover.path, wait_seconds=0):
                shutil.rmtree(leftover.path)
        elif leftover.kind == "reproduced tree":
            remove_worktree(leftover.path)
        elif is_locked(lock_of(leftover)):
            return "in use by now"
        elif leftover.path.is_dir():
            shutil.rmtree(leftover.path)
        else:
            leftover.path.unlink()
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())
    _remove_empty_records(leftover)
    return ""


def _remove_empty_records(leftover: Leftover) -> None:
    folder = leftover.path.parent
    if leftover.kind == "run record" and {each.name for each in folder.iterdir()} <= {".gitignore"}:
        shutil.rmtree(folder)


def _needed(build_dir: Path) -> dict[Path, str]:
    """Folders that a run or DVC refers to, and which one does."""
    needed: dict[Path, str] = {}
    if Path(build_dir).is_dir():
        for record in records_below(Path(build_dir)):
            needed.update({Path(folder): f"input of {record.name}" for folder in record.inputs.values()})
    lock = next((path for path in (each / "dvc.lock" for each in _parents(build_dir)) if path.is_file()), None)
    if lock is not None:
        needed.update({path: f"an output in {lock.name}" for path in _outputs(lock)})
    return needed


def _outputs(lock: Path) -> Iterator[Path]:
    import yaml

    content: Any = yaml.safe_load(lock.read_text(encoding="utf-8")) or {}
    for stage in content.get("stages", {}).values():
        for out in stage.get("outs", ()):
            yield (lock.parent / out["path"]).resolve()


def _reason_to_keep(leftover: Leftover) -> str:
    """Why something must stay whatever its age; "" if nothing speaks for it."""
    if leftover.kind == "run record":
        return _reason_to_keep_record(leftover.path)
    if leftover.kind == "unfinished output" and leftover.path.is_dir():
        name = next(filter(None, UNFINISHED.fullmatch(leftover.path.name).groups()))
        # a process that was killed while it put a new model in place of the old one leaves the old one so
        is_model = all((leftover.path / each).is_file() for each in PACKAGE_FILES)
        if is_model and not leftover.path.with_name(name).exists():
            return f"a model whose own folder is gone: rename it to {name}, or remove it"
    return ""


def _reason_to_keep_record(folder: Path) -> str:
    record = load_record(folder / RUN)
    if record is None:
        return "unreadable"
    if record.is_alive():
        return "running"
    if not record.is_delivered:
        return "not delivered yet (`ndpnet tracking flush`)"
    name = RUN_RECORDS.fullmatch(folder.parent.name)[1]
    if folder.parent.with_name(name).exists():
        return f"tells who made {name}"
    return ""


def _parents(folder: Path) -> list[Path]:
    folder = Path(folder).resolve()
    return [folder, *folder.parents]


def _readable_age(seconds: float) -> str:
    unit = next((unit for unit in "dhm" if seconds >= UNITS[unit]), "m")
    return f"{int(max(seconds, 0) // UNITS[unit])}{unit}"
