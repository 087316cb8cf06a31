"""Pictures of single cases for the report: whole images, and of scans a window around the spot that matters."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndpnet.data.manifest import content_hash
from ndpnet.data.prepared import PreparedData
from ndpnet.evaluation.report import order_cases, verdict_of
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.overlay import encode_png, panel

if TYPE_CHECKING:
    from ndpnet.evaluation.evaluate import Judged

SCALE_QUANTILE = 0.999  # of all test scores: top of the colour scale
WINDOW = 512  # side of what is shown of a scan, in pixels


def write_cases(folder: Path, judged: "Judged", inspector: Inspector, limit: int) -> list[dict[str, Any]]:
    """One panel per case under overlays/, worst first. -> what the report shows of them."""
    panels = []
    for rank, index in enumerate(order_cases(judged.scores, judged.labels, inspector.threshold, limit)):
        record, score = judged.records[index], float(judged.scores[index])
        verdict = verdict_of(score, bool(judged.labels[index]), inspector.threshold)
        shown = {"title": record.path, "score": score, "verdict": verdict}
        path = folder / f"{rank:03d}_{verdict.replace(' ', '-')}_{Path(record.path).stem}.png"
        panels.append(shown | {"png": _write_panel(path, _seen(judged, index, inspector), inspector, judged, shown)})
    return panels


def write_typical_cases(folder: Path, judged: "Judged", inspector: Inspector, limit: int) -> list[dict[str, Any]]:
    """One find per defect type, that of the middle score, under overlays/. -> {title, score, verdict, type, png}."""
    panels = []
    for name, index in typical_finds(judged, inspector.threshold)[:limit]:
        record, score = judged.records[index], float(judged.scores[index])
        shown = {"title": record.path, "score": score, "verdict": verdict_of(score, True, inspector.threshold)}
        path = folder / f"typical_{re.sub(r'[^A-Za-z0-9]', '_', name)}_{Path(record.path).stem}.png"
        png = _write_panel(path, _seen(judged, index, inspector), inspector, judged, shown)
        panels.append(shown | {"type": name, "png": png})
    return panels


def typical_finds(judged: "Judged", threshold: float | None) -> list[tuple[str, int]]:
    """(defect type, index of the middle score of those found, in place if any), types in alphabetical order."""
    found: dict[str, list[int]] = {}
    peaks = judged.scores if judged.peaks is None else np.nan_to_num(judged.peaks, nan=np.inf)
    for index in np.argsort(judged.scores, kind="stable"):
        if threshold is not None and judged.labels[index] and judged.scores[index] > threshold:
            found.setdefault(judged.records[index].defect_type, []).append(int(index))
    in_place = {name: [index for index in indices if peaks[index] > threshold] for name, indices in found.items()}
    chosen = {name: in_place[name] or indices for name, indices in sorted(found.items())}
    return [(name, indices[len(indices) // 2]) for name, indices in chosen.items()]


def write_calibration_cases(
    folder: Path, prepared: PreparedData, judged: "Judged", inspector: Inspector
) -> list[dict[str, Any]]:
    """Panels of the good images that the threshold hangs on, too. -> {title, score, value_without, png}, highest first.

    png: None of images that `prepared` does not have: the model was calibrated on others.
    """
    record, panels = inspector.threshold_record or {}, []
    records, images = prepared.records("calibration"), prepared.images("calibration")
    is_known = content_hash(records) == record.get("data_hash")
    places = {each.path: index for index, each in enumerate(records)} if is_known else {}
    for rank, each in enumerate(record.get("highest", [])):  # a package of before has none
        shown = {"title": each["path"], "score": each["score"], "verdict": "calibration", "png": None}
        if each["path"] in places:
            image = np.asarray(images[places[each["path"]]])
            prediction = inspector.predict(image, name=each["path"])
            seen = _Seen(image, prediction.anomaly_map, None, prediction.reconstruction)
            path = folder / f"calibration_{rank}_{Path(each['path']).stem}.png"
            shown["png"] = _write_panel(path, seen, inspector, judged, shown)
        panels.append(shown | {"value_without": each["value_without"]})
    return panels


def window_around(spot: tuple[int, int], size: tuple[int, int], side: int = WINDOW) -> tuple[slice, slice]:
    """Rows and columns of a window with a (row, column) in its middle as far as the picture of (H, W) allows."""
    starts = [max(0, min(centre - side // 2, length - side)) for centre, length in zip(spot, size, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


class _Seen(NamedTuple):
    """An image and what the model says of it."""

    image: np.ndarray  # uint8 (H, W, 3)
    anomaly_map: np.ndarray  # float32 (H, W)
    truth: np.ndarray | None  # uint8 (H, W)
    reconstruction: np.ndarray | None  # uint8 (H, W, 3); None of a scan


def _seen(judged: "Judged", index: int, inspector: Inspector) -> _Seen:
    """A test image. A map that was not kept is computed again."""
    image, truth = np.asarray(judged.images[index]), None if judged.masks is None else judged.masks[index]
    if judged.maps is None:
        again = inspector.predict(image)
        return _Seen(image, again.anomaly_map, truth, again.reconstruction)
    rebuilt = None if judged.reconstructions is None else judged.reconstructions[index]
    return _Seen(image, judged.maps[index], truth, rebuilt)


def _write_panel(path: Path, seen: _Seen, inspector: Inspector, judged: "Judged", shown: Mapping[str, Any]) -> bytes:
    """The panel of an image, on the colour scale of the test scores. shown: {title, score, verdict}."""
    view, place = _view(seen, judged.roi, inspector, is_missed=shown["verdict"] == "missed")
    caption = f"{Path(shown['title']).stem}: {shown['verdict']}, score {shown['score']:.3f}{place}"
    top = float(np.quantile(judged.scores, SCALE_QUANTILE))
    low, high = inspector.map_level, top if top > 0 else 1.0
    drawn = panel(**view, threshold=inspector.threshold, vmin=low, vmax=high, caption=caption, num_columns=2)
    png = encode_png(drawn)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png)
    return png


def _view(seen: _Seen, roi: np.ndarray | None, inspector: Inspector, *, is_missed: bool) -> tuple[dict[str, Any], str]:
    """What to draw, and where it lies in a scan."""
    planes = seen._asdict() | {"roi": roi}
    if seen.reconstruction is not None:
        return planes, ""
    spot = _worst_spot(seen.anomaly_map, seen.truth if is_missed else None)
    window = window_around(spot, seen.anomaly_map.shape)
    view = {name: None if plane is None else np.ascontiguousarray(plane[window]) for name, plane in planes.items()}
    rebuilt = inspector.rebuild(np.ascontiguousarray(seen.image[window]))
    return view | {"reconstruction": rebuilt}, f", around ({spot[1]}, {spot[0]})"


def _worst_spot(anomaly_map: np.ndarray, truth: np.ndarray | None) -> tuple[int, int]:
    """(row, column) of the highest score, of a missed defect the highest inside it. (H, W) twice."""
    if truth is not None and truth.any():
        anomaly_map = np.where(truth > 0, anomaly_map, -1)
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return int(row), int(column)
