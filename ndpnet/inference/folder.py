"""Inspecting files and folders: predictions as CSV and JSON lines, overlays, unreadable files by name."""

import csv
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ndpnet.data.images import read_image
from ndpnet.data.layouts import IMAGE_SUFFIXES
from ndpnet.inference.inspector import Inspector, Verdict
from ndpnet.inference.overlay import overlay, write_png

logger = logging.getLogger(__name__)

COLUMNS = ("path", "verdict", "score", "threshold", "num_regions", "width", "height", "error")


@dataclass(frozen=True)
class FolderResult:
    """How many images were good, defective or unreadable."""

    num_good: int
    num_defective: int
    num_failed: int


def list_images(target: Path) -> tuple[Path, list[Path]]:
    """The root and the images of a file or folder. ValueError if there is none."""
    target = Path(target)
    if target.is_file():
        return target.parent, [target]
    if not target.is_dir():
        raise ValueError(f"no file or folder {target} (check the path)")
    paths = sorted(path for path in target.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise ValueError(f"no images under {target} (known endings: {', '.join(IMAGE_SUFFIXES)})")
    return target, paths


def inspect_folder(inspector: Inspector, target: Path, out_dir: Path, *, with_overlays: bool = True) -> FolderResult:
    """Inspect a file or every image below a folder; write predictions.csv, predictions.jsonl, overlays/.

    A file that cannot be read is logged by name and counted; the others go on. Earlier results are replaced at the end.
    """
    if inspector.threshold is None:
        raise ValueError("the model has no threshold (run `ndpnet calibrate MODEL GOOD_IMAGES`, or pass --threshold)")
    root, paths = list_images(target)
    out_dir = Path(out_dir)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        rows = list(_stream(inspector, root, paths, out_dir, with_overlays))
    except OSError as error:
        raise ValueError(f"cannot write to {out_dir}: {error.strerror or error} (choose another --out)") from error
    verdicts = [row["verdict"] for row in rows]
    return FolderResult(verdicts.count("good"), verdicts.count("defective"), verdicts.count("error"))


def _stream(
    inspector: Inspector, root: Path, paths: list[Path], out_dir: Path, with_overlays: bool
) -> Iterator[dict[str, Any]]:
    """Write each row as soon as it is known, to temporary names that become the results when all is done."""
    csv_path, lines_path = out_dir / "predictions.csv", out_dir / "predictions.jsonl"
    partial_csv, partial_lines = (path.with_name(path.name + ".partial") for path in (csv_path, lines_path))
    with partial_csv.open("w", newline="") as table, partial_lines.open("w") as lines:
        writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for path in tqdm(paths, "inspect", unit="image", disable=None):
            overlay_path = out_dir / "overlays" / f"{path.relative_to(root)}.png" if with_overlays else None
            row = _inspect_one(inspector, path, path.relative_to(root).as_posix(), overlay_path)
            writer.writerow(row)
            lines.write(json.dumps(row, sort_keys=True) + "\n")
            yield row
    os.replace(partial_csv, csv_path)
    os.replace(partial_lines, lines_path)


def _inspect_one(inspector: Inspector, path: Path, name: str, overlay_path: Path | None) -> dict[str, Any]:
    try:
        image = read_image(path)
        verdict = inspector.inspect(image, name=str(path))
    except ValueError as error:
        logger.error("%s", error)
        return {"path": name, "verdict": "error", "error": str(error)}
    if overlay_path is not None:
        write_png(overlay_path, overlay(image, verdict.anomaly_map, threshold=verdict.threshold))
    return {"path": name, "height": image.shape[0], "width": image.shape[1], **_as_row(verdict)}


def _as_row(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": "defective" if verdict.is_defective else "good",
        "score": verdict.score,
        "threshold": verdict.threshold,
        "num_regions": len(verdict.regions),
        "regions": [asdict(region) for region in verdict.regions],
        "error": "",
    }
