"""From what people said back to the model: reviewed pictures as folders, for `calibrate` and `data add`."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import sqlalchemy as sa

from ndpnet.files import write_json
from ndpnet.folders import atomic_folder
from ndpnet.station.journal import Journal
from ndpnet.station.store import Store
from ndpnet.station.tables import DEFECTIVE, ERROR, GOOD, pictures

logger = logging.getLogger(__name__)
BATCH = "batch.json"
GROUP_PATTERN = r"_(\d{8}-\d{2})_"  # of the names below: what was taken in the same hour belongs together
COLUMNS = ("id", "name", "file", "sha256", "is_sampled", "judged_at", "verdict", "label")
CALIBRATION, PAINTED, MASKS = "calibration", "painted", "masks"


@dataclass(frozen=True)
class ExportedBatch:
    """What was written, by folder, and how many pictures of the sample nobody has looked at yet."""

    num_pictures: dict[str, int]
    num_unseen: int


def export_batch(journal: Journal, store: Store, line: str, out: Path) -> ExportedBatch:
    """Write a line's reviewed pictures: good/, defective/, painted/ with masks/, calibration/: the good of the sample.

    Those that are not of the sample were looked at because of their score, mostly false alarms: a threshold fitted on
    them would be too high. ValueError: there are none, or OUT cannot be written.
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
    return ExportedBatch(counts, journal.value(sa.select(sa.func.count()).where(*is_unseen)))


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
