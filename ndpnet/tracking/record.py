"""What a step's process leaves on disk of its run, so that it can be delivered by this process or by any later one.

Beside a step's output `OUT` lies a folder `.OUT.run/KEY/`: run.json (who ran what, and how it ended), the histories,
and copies of the small files that are delivered. Not in the output, whose bytes must not depend on who made them; and
copies, since DVC removes or replaces outputs before anything can be delivered late.
"""

import json
import logging
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ndpnet.files import replace_file, write_json
from ndpnet.locks import is_held

RUN, HISTORY, FILES, PICTURES = "run.json", "history.jsonl", "files", "pictures"
MAX_FILE_BYTES = 32 << 20  # larger ones stay in the step's output: weights, arrays
KEY_DIGITS = 12

Status = Literal["running", "finished", "failed", "killed"]
logger = logging.getLogger(__name__)


@dataclass
class Record:
    """One execution of a step: same key = same step, parameters, code and inputs."""

    key: str
    plan: str
    step: str
    category: str
    params: dict[str, str]
    tags: dict[str, str]
    inputs: dict[str, str]  # name -> folder
    started_at: int  # milliseconds
    title: str = ""  # of the pipeline's run
    status: Status = "running"
    ended_at: int | None = None
    error: str = ""
    results: dict[str, float] = field(default_factory=dict)
    dataset: dict[str, Any] | None = None
    source: dict[str, str] = field(default_factory=dict)  # where a version of the data comes from
    history: str = ""  # where the step is writing it
    attempts: int = 1
    is_delivered: bool = False
    folder: Path = field(default_factory=Path, repr=False)  # locked by the process that runs it

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.step} {self.category}".strip()

    @property
    def history_path(self) -> Path | None:
        """The finished history, else the one that the step is writing."""
        finished = self.folder / HISTORY
        if finished.is_file():
            return finished
        return Path(self.history) if self.history else None

    def is_alive(self) -> bool:
        """Whether the process that started it is still at work; a killed one lets go of its lock."""
        return self.status == "running" and bool(is_held(self.folder))

    def end(self, status: Status, error: str = "") -> None:
        """Note how it ended, now."""
        self.status, self.error, self.ended_at = status, error, int(time.time() * 1000)

    def save(self) -> None:
        """Write it, whole or not at all."""
        values = asdict(self)
        del values["folder"]
        write_json(self.folder / RUN, values)

    def mark_delivered(self) -> None:
        """Note that the server has all of it; the copies are no longer needed."""
        self.is_delivered = True
        self.save()
        (self.folder / HISTORY).unlink(missing_ok=True)
        for name in (FILES, PICTURES):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def is_plan(text: str) -> bool:
    """Whether a text can name a plan: a KFP run's id, or a hash; nothing that could change a search on the server."""
    return bool(re.fullmatch(r"[\w.-]{1,200}", text))


def runs_dir(out: Path) -> Path:
    """Where the runs that made an output are noted."""
    out = Path(out).resolve()
    return out.with_name(f".{out.name}.run")


def load_record(path: Path) -> Record | None:
    """A record from its run.json; None where it cannot be read."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")), folder=path.parent)
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s is not the record of a run: %s", path, type(error).__name__)
        return None


def new_folder(out: Path, key: str) -> Path:
    """The folder of a run, which git does not see."""
    folder = runs_dir(out) / key[:KEY_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return folder


def records_of(out: Path) -> list[Record]:
    """All runs that are noted of an output."""
    return _load_all(runs_dir(out).glob(f"*/{RUN}"))


def records_below(folder: Path, *, is_deep: bool = True) -> list[Record]:
    """All runs noted of the outputs in a folder, or in one anywhere below it; oldest first."""
    pattern = f".*.run/*/{RUN}"
    records = _load_all(folder.rglob(pattern) if is_deep else folder.glob(pattern))
    return sorted(records, key=lambda record: record.started_at)


def remove_superseded(out: Path, key: str) -> None:
    """Forget earlier runs of an output that the server has."""
    for record in records_of(out):
        if record.key != key and record.is_delivered and not record.is_alive():
            shutil.rmtree(record.folder, ignore_errors=True)


def keep_files(record: Record, out: Path, history: str | None, patterns: tuple[str, ...]) -> None:
    """Copy what is to be delivered of an output; files beyond MAX_FILE_BYTES are left out, and named in the log."""
    if history and (out / history).is_file():
        replace_file(record.folder / HISTORY, (out / history).read_bytes())
    kept_dir = record.folder / FILES
    shutil.rmtree(kept_dir, ignore_errors=True)
    for path in sorted({path for pattern in patterns for path in out.glob(pattern) if path.is_file()}):
        if path.stat().st_size > MAX_FILE_BYTES:
            logger.info("%s is too large for the tracking server: it stays where it is", path)
        else:
            replace_file(kept_dir / path.relative_to(out), path.read_bytes())


def _load_all(paths: Iterable[Path]) -> list[Record]:
    return [record for path in sorted(paths) if (record := load_record(path)) is not None]
