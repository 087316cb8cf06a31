"""From what people said back to the model: reviewed pictures as folders, for `calibrate` and `data add`."""

import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ndpnet.files import atomic_folder, write_json
from ndpnet.station.journal import Journal
from ndpnet.station.store import Store

BATCH = "batch.json"
GROUP_PATTERN = r"_(\d{8}-\d{2})_"  # of the names below: what was taken in the same hour belongs together
GOOD, DEFECTIVE, CALIBRATION = "good", "defective", "calibration"


@dataclass(frozen=True)
class Batch:
    """What was written, by folder, and how many pictures of the sample nobody has looked at yet."""

    num_pictures: dict[str, int]
    num_unseen: int


def export_batch(journal: Journal, store: Store, line: str, out: Path) -> Batch:
    """Write a line's reviewed pictures: good/, defective/, and calibration/: the good ones of the sample alone.

    Those that are not of the sample were looked at because of their score, mostly false alarms: a threshold fitted on
    them would be too high. ValueError: there are none, or OUT cannot be written.
    """
    rows = journal.rows(
        "SELECT p.id, p.name, p.file, p.sha256, p.is_sampled, p.judged_at, p.verdict, l.label FROM pictures p "
        "JOIN labels l ON l.picture = p.id WHERE p.line = ? AND p.file IS NOT NULL AND l.label IN (?, ?) ORDER BY p.id",
        *(line, GOOD, DEFECTIVE),
    )
    if not rows:
        raise ValueError(f"nobody has called a picture of {line} good or defective yet (look at the page, Review)")
    counts = dict.fromkeys((GOOD, DEFECTIVE, CALIBRATION), 0)
    with atomic_folder(out, marker=BATCH) as folder:
        for row in rows:
            content = store.read(row["file"])
            for place in _places(row):
                path = folder / place / _name(line, row)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                counts[place] += 1
        write_json(folder / BATCH, {"line": line, "group_pattern": GROUP_PATTERN, "pictures": rows})
    unseen = "SELECT count(*) FROM pictures p LEFT JOIN labels l ON l.picture = p.id WHERE p.line = ? AND p.is_sampled "
    return Batch(counts, journal.value(f"{unseen} AND p.seq IS NOT NULL AND l.label IS NULL", line))


def _places(row: dict[str, Any]) -> list[str]:
    is_calibration = row["label"] == GOOD and row["is_sampled"]
    return [row["label"], CALIBRATION] if is_calibration else [row["label"]]


def _name(line: str, row: dict[str, Any]) -> str:
    hour = time.strftime("%Y%m%d-%H", time.localtime(row["judged_at"]))
    return f"{line}_{hour}_{row['id']}{PurePosixPath(row['file']).suffix}"
