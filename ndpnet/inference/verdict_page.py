"""index.html beside the verdicts of a folder: the pictures, worst first."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ndpnet.files import hash_of, write_text
from ndpnet.inference import OVERLAY_SUFFIX
from ndpnet.metrics.threshold import percent_of
from ndpnet.templates import render

if TYPE_CHECKING:
    from ndpnet.inference.inspector import Inspector

PAGE = "index.html.j2"
VERDICTS = ("defective", "review", "good", "error")
MAX_SHOWN = 2000  # pictures
READABLE = 40  # characters of a picture's name in the short name of its overlay


def overlay_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where the overlay of the picture `name` lies: under its own name, or under a short one."""
    readable = re.sub(r"[^A-Za-z0-9]", "_", name.rpartition("/")[2])[:READABLE]
    return folder / f"{name}{OVERLAY_SUFFIX}", folder / f"{readable}-{hash_of(name)[:16]}{OVERLAY_SUFFIX}"


def write_page(folder: Path, rows: list[dict[str, Any]], inspector: "Inspector", *, title: str) -> None:
    """Write index.html beside the rows: the pictures, worst first."""
    worst_first = sorted(rows, key=lambda row: (row["verdict"] != "error", -row.get("score", 0.0)))
    record = inspector.threshold_record or {}
    data = {"threshold": inspector.threshold, "promised": record.get("promised_rates", []), "truths": []}
    text = render(
        "inference",
        PAGE,
        {"rate": percent_of},
        title=title,
        guaranteed=record.get("guaranteed_rate"),
        rows=[_page_row(folder, row) for row in worst_first[:MAX_SHOWN]],
        counts={verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS},
        num_unlike=sum(bool(row.get("warnings")) for row in rows),
        inspector=inspector,
        page=data | {"review": inspector.review_threshold, "scores": [row["score"] for row in rows if "score" in row]},
    )
    write_text(folder / "index.html", text)


def _page_row(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    paths = overlay_paths(folder / "overlays", row["path"])
    with suppress(OSError):  # a name that the file system cannot have
        link = next((path for path in paths if path.is_file()), None)
        address = None if link is None else quote(os.fsencode(link.relative_to(folder)))
        return row | {"address": address}
    return row | {"address": quote(f"overlays/{paths[1].name}")}
