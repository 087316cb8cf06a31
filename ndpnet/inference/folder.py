"""Inspecting files and folders: predictions as CSV and JSON lines, overlays, unreadable files by name."""

import csv
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet.data.images import read_image
from ndpnet.data.layouts import IMAGE_SUFFIXES
from ndpnet.files import atomic_folder, check_output
from ndpnet.inference.inspector import Inspector, Verdict
from ndpnet.inference.overlay import overlay, shrink, write_png

logger = logging.getLogger(__name__)

LINES = "predictions.jsonl"
MAX_OVERLAY_SIDE = 2048  # pixels, of a scan's overlay: one of 8000x8000 would take gigabytes to draw
COLUMNS = ("path", "verdict", "score", "threshold", "num_regions", "width", "height", "error")


@dataclass(frozen=True)
class FolderResult:
    """How many images were good, defective or unreadable."""

    num_good: int
    num_defective: int
    num_failed: int


def list_images(target: Path, *, besides: Path | None = None) -> tuple[Path, list[Path]]:
    """The root and the images of a file or folder, without hidden ones and those under `besides`. ValueError: none."""
    target = Path(target)
    if target.is_file():
        return target.parent, [target]
    if not target.is_dir():
        raise ValueError(f"no file or folder {target} (check the path)")
    paths = sorted(path for path in target.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(target).parts)]
    if besides is not None:
        paths = [path for path in paths if not path.resolve().is_relative_to(besides.resolve())]
    if not paths:
        raise ValueError(f"no images under {target} (known endings: {', '.join(IMAGE_SUFFIXES)})")
    return target, paths


def inspect_folder(inspector: Inspector, target: Path, out_dir: Path, *, with_overlays: bool = True) -> FolderResult:
    """Inspect a file or every image below a folder; write predictions.csv, predictions.jsonl, overlays/.

    A file that cannot be read is logged by name and counted; the others go on. Earlier results are replaced, whole, at
    the end, and are no input even if they lie under `target`.
    """
    if inspector.threshold is None:
        raise ValueError("the model has no threshold (run `ndpnet calibrate MODEL GOOD_IMAGES`, or pass --threshold)")
    check_output(out_dir, marker=LINES)
    root, paths = list_images(target, besides=Path(out_dir))
    try:
        with atomic_folder(out_dir, marker=LINES) as folder:
            rows = list(_stream(inspector, root, paths, folder, with_overlays))
    except OSError as error:
        raise ValueError(f"cannot write to {out_dir}: {error.strerror or error} (choose another --out)") from error
    verdicts = [row["verdict"] for row in rows]
    return FolderResult(verdicts.count("good"), verdicts.count("defective"), verdicts.count("error"))


def _stream(
    inspector: Inspector, root: Path, paths: list[Path], out_dir: Path, with_overlays: bool
) -> Iterator[dict[str, Any]]:
    """Write each row as soon as it is known."""
    any_name = {"mode": "w", "encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    with (out_dir / "predictions.csv").open(**any_name) as table, (out_dir / LINES).open(**any_name) as lines:
        writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for path in tqdm(paths, "inspect", unit="image", disable=None):
            overlay_path = out_dir / "overlays" / f"{path.relative_to(root)}.png" if with_overlays else None
            row = _inspect_one(inspector, path, path.relative_to(root).as_posix(), overlay_path)
            writer.writerow(row)
            lines.write(json.dumps(row, sort_keys=True) + "\n")
            yield row


def _inspect_one(inspector: Inspector, path: Path, name: str, overlay_path: Path | None) -> dict[str, Any]:
    try:
        image = read_image(path)
        verdict = inspector.inspect(image, name=str(path))
    except ValueError as error:
        logger.error("%s", error)
        return {"path": name, "verdict": "error", "error": str(error)}
    if overlay_path is not None:
        write_png(overlay_path, _draw(image, verdict, is_scan=inspector.tiling is not None))
    return {"path": name, "height": image.shape[0], "width": image.shape[1], **_as_row(verdict)}


def _draw(image: np.ndarray, verdict: Verdict, *, is_scan: bool) -> np.ndarray:
    anomaly_map, roi = verdict.anomaly_map, verdict.roi
    if is_scan:
        image, anomaly_map, roi = shrink(image, anomaly_map, roi, max_side=MAX_OVERLAY_SIDE)
    return overlay(image, anomaly_map, threshold=verdict.threshold, roi=roi)


def _as_row(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": "defective" if verdict.is_defective else "good",
        "score": verdict.score,
        "threshold": verdict.threshold,
        "num_regions": len(verdict.regions),
        "regions": [asdict(region) for region in verdict.regions],
        "error": "",
    }
