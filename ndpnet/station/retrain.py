"""From what people said back to the model: reviewed pictures as folders, and training anew by DVC or Kubeflow."""

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path, PurePosixPath
from subprocess import DEVNULL, STDOUT, Popen
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ndpnet.commands import git
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder
from ndpnet.station.journal import Journal
from ndpnet.station.store import Store
from ndpnet.station.tables import DEFECTIVE, ERROR, GOOD, RETRAIN, RETRAINED, pictures

if TYPE_CHECKING:
    from ndpnet.station.station import Station

logger = logging.getLogger(__name__)
BATCH = "batch.json"
GROUP_PATTERN = r"_(\d{8}-\d{2})_"  # of the names below: what was taken in the same hour belongs together
COLUMNS = ("id", "name", "file", "sha256", "is_sampled", "judged_at", "verdict", "label")
CALIBRATION, PAINTED, MASKS = "calibration", "painted", "masks"
REFUSED = 3  # exit code of `ndpnet promote`
NICE = ("nice", "-n", "19")  # the station judges meanwhile
PYTHON = (*NICE, sys.executable, "-m")  # in the checkout: its own code, not the station's


def export_batch(journal: Journal, store: Store, line: str, out: Path) -> tuple[dict[str, int], int]:
    """Write a line's reviewed pictures: good/, defective/, painted/ with masks/, calibration/: the good of the sample.

    Those that are not of the sample were looked at because of their score, mostly false alarms: a threshold fitted on
    them would be too high. -> how many pictures, by folder, and how many of the sample nobody has looked at yet.
    ValueError: there are none, or OUT cannot be written.
    """
    of_line = sa.and_(pictures.c.line == line, pictures.c.verdict != ERROR)  # what cannot be read teaches nothing
    is_there = of_line, pictures.c.file.is_not(None), pictures.c.label.in_((GOOD, DEFECTIVE)), journal.is_readable
    columns = [pictures.c[name] for name in COLUMNS]
    rows = journal.rows(sa.select(*columns).where(*is_there).order_by(pictures.c.id))
    if not rows:
        raise ValueError(f"nobody has called a picture of {line} good or defective yet (look at the page, Review)")
    counts = dict.fromkeys((GOOD, DEFECTIVE, PAINTED, CALIBRATION), 0)
    with atomic_folder(out, marker=BATCH) as folder:
        stored = []
        for row in rows:
            try:
                content, name = store.read(row["file"]), _name(line, row)
            except FileNotFoundError:
                logger.warning("picture %d is not stored any more, and left out", row["id"])
                continue
            stored.append(row)
            mask = journal.mask(row["id"]) if row["label"] == DEFECTIVE else None
            for place in _places(row, mask):
                counts[place] += 1
                _write(folder / place / name, content)
            if mask is not None:
                _write((folder / MASKS / name).with_suffix(".png"), mask)
        write_json(folder / BATCH, {"line": line, "group_pattern": GROUP_PATTERN, "pictures": stored})
    is_unseen = of_line, pictures.c.is_sampled, pictures.c.seq.is_not(None), pictures.c.label.is_(None)
    return counts, journal.value(sa.select(sa.func.count()).where(*is_unseen))


def _places(row: dict[str, Any], mask: bytes | None) -> list[str]:
    if row["label"] == DEFECTIVE:
        return [DEFECTIVE if mask is None else PAINTED]
    return [GOOD, CALIBRATION] if row["is_sampled"] else [GOOD]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _name(line: str, row: dict[str, Any]) -> str:
    hour = time.strftime("%Y%m%d-%H", time.localtime(row["judged_at"]))
    return f"{line}_{hour}_{row['id']}{PurePosixPath(row['file']).suffix}"


class Retraining:
    """Does what was asked for last and is not done; killed, it begins again: every command goes on where it was."""

    def __init__(self, station: "Station") -> None:
        assert station.config.checkout is not None
        self._station, self._journal, self._checkout = station, station.journal, station.config.checkout
        self._folder = station.config.folder / "retrain"
        self._process: Popen[bytes] | None = None
        self._is_closed = threading.Event()

    def is_asked(self, line: str) -> bool:
        """Whether a training of a line was asked for at this station, and has not ended."""
        event = self._journal.last_event(line, RETRAIN, RETRAINED)
        return event is not None and event["kind"] == RETRAIN

    def step(self) -> None:
        """Train, if it was asked for."""
        for line in filter(self.is_asked, self._station.lines):
            try:
                facts = self._train(line)
            except (ValueError, OSError) as error:
                facts = {"outcome": "failed", "reason": " ".join(str(error).split())}
            if self._is_closed.is_set():
                return  # the next start goes on
            self._journal.note(RETRAINED, facts, line=line)

    def close(self) -> None:
        """End a training that runs."""
        self._is_closed.set()
        process = self._process
        if process is not None:
            process.terminate()

    def _train(self, line: str) -> dict[str, Any]:
        category = self._station.lines[line].model.facts["category"]
        batch_dir = self._folder / line
        export_batch(self._journal, self._station.store, line, batch_dir)
        self._run("ndpnet", "data", "add", str(batch_dir / GOOD), "--category", category)
        if git(self._checkout, "status", "--porcelain", "data.dvc"):
            git(self._checkout, "commit", "--message", f"Add reviewed pictures of {line} to {category}", "data.dvc")
        if self._station.config.retrain == "kfp":
            self._run("dvc", "push")
            git(self._checkout, "push")
            _, said = self._run("ndpnet", "pipeline", "submit", "--category", category)
            return {"outcome": "submitted", "reason": said}
        self._run("dvc", "repro")
        build_dir = Path("build") / category
        outputs = ("--model", build_dir / "model", "--evaluation", build_dir / "evaluation")
        self._run("ndpnet", "register", *map(str, outputs), "--out", str(build_dir / "registered"))
        version = json.loads((self._checkout / build_dir / "registered/registered.json").read_text())["version"]
        promote = ("ndpnet", "promote", f"ndpnet-{category}", "--version", str(version))
        status, said = self._run(*promote, allowed=(0, REFUSED))
        return {"outcome": "refused" if status == REFUSED else "promoted", "reason": said}

    def _run(self, *command: str, allowed: tuple[int, ...] = (0,)) -> tuple[int, str]:
        """Run a program of this environment in the checkout. -> exit code, its last line. ValueError: it failed."""
        if self._is_closed.is_set():
            raise ValueError("the station ends")
        log_path = self._folder / "log.txt"
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
        with log_path.open("w+", encoding="utf-8") as log:
            self._process = Popen(
                [*PYTHON, *command], cwd=self._checkout, env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT
            )
            status = self._process.wait()
            log.seek(0)
            last = (log.read().strip().splitlines() or [""])[-1]
        if status not in allowed:
            raise ValueError(f"`{' '.join(command[:3])}` ended with {status}: {last} (all it said: {log_path})")
        return status, last
