"""Pictures of single cases for the report: whole images, and of scans a window around the spot that matters."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ndpnet.evaluation.report import order_cases, verdict_of
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.overlay import encode_png, panel

if TYPE_CHECKING:
    from ndpnet.evaluation.evaluate import Judged

SCALE_QUANTILE = 0.999  # of all test scores: top of the colour scale
WINDOW = 512  # side of what is shown of a scan, in pixels


def write_cases(folder: Path, judged: "Judged", inspector: Inspector, limit: int) -> list[dict[str, Any]]:
    """One panel per case under overlays/, worst first. -> what the report shows of them."""
    folder.mkdir()
    threshold = inspector.threshold
    top = float(np.quantile(judged.scores, SCALE_QUANTILE))
    panels = []
    for rank, index in enumerate(order_cases(judged.scores, judged.labels, threshold, limit)):
        record, score = judged.records[index], float(judged.scores[index])
        verdict = verdict_of(score, bool(judged.labels[index]), threshold)
        view, place = _view(judged, index, inspector, is_missed=verdict == "missed")
        caption = f"{record.path}: {verdict}, score {score:.3f}{place}"
        png = encode_png(panel(**view, threshold=threshold, vmax=top if top > 0 else 1.0, caption=caption))
        (folder / f"{rank:03d}_{verdict.replace(' ', '-')}_{Path(record.path).stem}.png").write_bytes(png)
        panels.append({"title": record.path, "score": score, "verdict": verdict, "png": png})
    return panels


def window_around(spot: tuple[int, int], size: tuple[int, int], side: int = WINDOW) -> tuple[slice, slice]:
    """Rows and columns of a window with a (row, column) in its middle as far as the picture of (H, W) allows."""
    starts = [max(0, min(centre - side // 2, length - side)) for centre, length in zip(spot, size, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _view(judged: "Judged", index: int, inspector: Inspector, *, is_missed: bool) -> tuple[dict[str, Any], str]:
    """What to draw, and where it lies in a scan. A map that was not kept is computed again."""
    image = np.asarray(judged.images[index])
    again = inspector.predict(image) if judged.maps is None else None
    planes = {
        "image": image,
        "anomaly_map": judged.maps[index] if again is None else again.anomaly_map,
        "truth": None if judged.masks is None else judged.masks[index],
        "roi": judged.roi,
    }
    if again is not None:
        rebuilt = again.reconstruction
    else:
        rebuilt = None if judged.reconstructions is None else judged.reconstructions[index]
    if rebuilt is not None:
        return planes | {"reconstruction": rebuilt}, ""
    spot = _worst_spot(planes["anomaly_map"], planes["truth"] if is_missed else None)
    window = window_around(spot, planes["anomaly_map"].shape)
    view = {name: None if plane is None else np.ascontiguousarray(plane[window]) for name, plane in planes.items()}
    return view | {"reconstruction": inspector.rebuild(view["image"])}, f", around ({spot[1]}, {spot[0]})"


def _worst_spot(anomaly_map: np.ndarray, truth: np.ndarray | None) -> tuple[int, int]:
    """(row, column) of the highest score, of a missed defect the highest inside it. (H, W) twice."""
    if truth is not None and truth.any():
        anomaly_map = np.where(truth > 0, anomaly_map, -1)
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return int(row), int(column)
