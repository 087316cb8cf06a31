"""Inspecting files and folders: predictions as CSV and JSON lines, overlays, unreadable files by name."""

import csv
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet import __version__
from ndpnet.data.images import read_image
from ndpnet.data.layouts import IMAGE_SUFFIXES
from ndpnet.data.names import without_own
from ndpnet.files import atomic_folder, check_output, hash_of
from ndpnet.inference import OVERLAY_SUFFIX
from ndpnet.inference.inspector import Inspector, Prediction, Verdict
from ndpnet.inference.overlay import overlay, shrink, write_jpeg

logger = logging.getLogger(__name__)

LINES = "predictions.jsonl"
MAX_OVERLAY_SIDE = 2048  # pixels, of a scan's overlay: one of 8000x8000 would take gigabytes to draw
MAX_AHEAD = 3  # pictures that are decoded, or judged and drawn, while another one is predicted
NUM_WRITERS = 2  # threads that judge, draw and compress
ANY_NAME = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}  # file names may be no UTF-8
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
    paths, left_out = without_own(target, paths)
    for folder, content in left_out.items():
        logger.warning("left out %s: it holds %s, no pictures to judge", folder, content)
    if not paths:
        raise ValueError(f"no images under {target} (known endings: {', '.join(IMAGE_SUFFIXES)})")
    return target, paths


def inspect_folder(inspector: Inspector, target: Path, out_dir: Path, *, with_overlays: bool = True) -> FolderResult:
    """Inspect a file or every image below a folder; write predictions.csv, predictions.jsonl, overlays/.

    A file that cannot be read is logged by name and counted; the others go on. Earlier results are replaced, whole, at
    the end, and are no input even if they lie under `target`. After a kill the same call goes on where it was.
    """
    if inspector.threshold is None:
        raise ValueError("the model has no threshold (run `ndpnet calibrate MODEL GOOD_IMAGES`, or pass --threshold)")
    check_output(out_dir, marker=LINES)
    root, paths = list_images(target, besides=Path(out_dir))
    key = _task_key(inspector, root, paths, with_overlays)
    try:
        with atomic_folder(out_dir, marker=LINES, key=key) as folder:
            rows = _finished_rows(folder / LINES, [_name(path, root) for path in paths])
            if rows:
                logger.info("going on after %d of %d pictures", len(rows), len(paths))
            with (folder / LINES).open("a", **ANY_NAME) as lines:
                for row in _inspect_all(inspector, root, paths[len(rows) :], folder if with_overlays else None):
                    rows.append(row)
                    lines.write(json.dumps(row, sort_keys=True) + "\n")
                    lines.flush()  # a row that was written is not computed again
            _write_table(folder / "predictions.csv", rows)
    except OSError as error:
        raise ValueError(f"cannot write to {out_dir}: {error.strerror or error} (choose another --out)") from error
    verdicts = [row["verdict"] for row in rows]
    return FolderResult(verdicts.count("good"), verdicts.count("defective"), verdicts.count("error"))


def _task_key(inspector: Inspector, root: Path, paths: list[Path], with_overlays: bool) -> str | None:
    """Hash of all that the results are a function of; None of an inspector that no package names."""
    if inspector.package is None:
        return None
    facts = [(path, path.stat()) for path in paths]
    files = [[os.fsencode(path).hex(), about.st_size, about.st_mtime_ns] for path, about in facts]
    roi = None if inspector.roi is None else [inspector.roi.shape, np.packbits(inspector.roi).tobytes().hex()]
    model = [inspector.package.config["files"], inspector.engine_name, inspector.threshold, roi, __version__]
    return hash_of([model, os.fsencode(root.resolve()).hex(), files, with_overlays])


def _finished_rows(path: Path, names: list[str]) -> list[dict[str, Any]]:
    """Rows that a killed run has finished, in the order of `names`; the file is cut after the last whole one."""
    rows: list[dict[str, Any]] = []
    num_bytes = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        row = json.loads(line) if line.endswith(b"\n") else None
        if row is None or row["path"] != names[len(rows)]:
            break
        rows.append(row)
        num_bytes += len(line)
    if path.is_file():
        os.truncate(path, num_bytes)
    return rows


def _inspect_all(
    inspector: Inspector, root: Path, paths: list[Path], overlays_of: Path | None
) -> Iterator[dict[str, Any]]:
    """A row per image, in order, once its overlay is written. This thread predicts; others do all the rest."""
    ahead = 1 if inspector.tiling is not None else MAX_AHEAD  # scans are large
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(NUM_WRITERS) as writers:
        reads = deque(reader.submit(_read, inspector, path) for path in paths[:ahead])
        rows: deque[Future[dict[str, Any]]] = deque()
        for index, path in enumerate(tqdm(paths, "inspect", unit="image", disable=None)):
            read = reads.popleft()
            if index + ahead < len(paths):
                reads.append(reader.submit(_read, inspector, paths[index + ahead]))
            name = _name(path, root)
            try:
                pixels, fitted = read.result()
                prediction = inspector.predict(fitted, name=str(path))
                rows.append(writers.submit(_judged, inspector, name, pixels, prediction, overlays_of))
            except ValueError as error:
                logger.error("%s", error)
                rows.append(writers.submit(dict, path=name, verdict="error", error=str(error)))
            while len(rows) > ahead or (rows and rows[0].done()):
                yield rows.popleft().result()
        while rows:
            yield rows.popleft().result()


def _read(inspector: Inspector, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The picture's pixels, and what the network takes."""
    pixels = read_image(path, bit_depth=inspector.bit_depth)
    return pixels, inspector.fit(pixels, name=str(path))


def _judged(
    inspector: Inspector, name: str, pixels: np.ndarray, prediction: Prediction, overlays_of: Path | None
) -> dict[str, Any]:
    """The row of a picture, its overlay being on disk."""
    height, width = pixels.shape[:2]
    verdict = inspector.judge(prediction, size=(height, width))
    if overlays_of is not None:
        drawn = _draw(pixels, verdict, is_scan=inspector.tiling is not None)
        write_jpeg(overlays_of / "overlays" / f"{name}{OVERLAY_SUFFIX}", drawn)
    return {"path": name, "height": height, "width": width, **_as_row(verdict)}


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", **ANY_NAME) as table:
        writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


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
