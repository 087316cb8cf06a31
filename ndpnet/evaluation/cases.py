"""Pictures of single cases for the report: panels, of scans a window around the spot that matters, and a gallery."""

import base64
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ndpnet.data.manifest import content_hash
from ndpnet.data.prepared import PreparedData
from ndpnet.evaluation.judging import Judged, order_cases, verdict_of
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.overlay import draw_contours, encode_jpeg, encode_png, panel, shrink

SCALE_QUANTILE = 0.999  # of all test scores: top of the colour scale
WINDOW = 512  # side of what is shown of a scan, in pixels
MAX_CASE_BYTES = 170_000  # as base64, 24 cases stay below 6 MB
MAX_CASE_WIDTH = 1400
MAX_CASE_PIXELS = 700_000
# (share of the side, quality), until it fits
JPEG_STEPS = ((1.0, 88), (1.0, 78), (1.0, 66), (1.0, 52), (0.7, 52), (0.5, 52))
MAX_STEM = 30  # letters, of up to four bytes
MAX_PICTURES = 300  # of the gallery, of about 6 kB each: 2 MB
SIDE = 150
QUALITY = 72  # of JPEG


def write_cases(folder: Path, judged: Judged, inspector: Inspector, limit: int) -> list[dict[str, Any]]:
    """One panel per case under overlays/, worst first. -> {title, score, verdict, uri, width, height}."""
    chosen = order_cases(judged.scores, judged.labels, inspector.threshold, limit)
    return [
        _case(folder, judged, index, inspector, f"{rank:03d}_{{verdict}}_{{stem}}.png")
        for rank, index in enumerate(chosen)
    ]


def write_typical_cases(folder: Path, judged: Judged, inspector: Inspector, limit: int) -> list[dict[str, Any]]:
    """One find per defect type, that of the middle score, under overlays/. -> as `write_cases`, with its type."""
    finds = typical_finds(judged, inspector.threshold)[:limit]
    return [
        _case(folder, judged, index, inspector, f"typical_{number}_{_stem(name)}_{{stem}}.png") | {"type": name}
        for number, (name, index) in enumerate(finds)
    ]


def typical_finds(judged: Judged, threshold: float | None) -> list[tuple[str, int]]:
    """(defect type, index of the middle score of those found, in place if any), types in alphabetical order."""
    by_type: dict[str, list[int]] = {}
    peaks = judged.scores if judged.peaks is None else np.nan_to_num(judged.peaks, nan=np.inf)
    for index in np.argsort(judged.scores, kind="stable"):
        if threshold is not None and judged.labels[index] and judged.scores[index] > threshold:
            by_type.setdefault(judged.records[index].defect_type, []).append(int(index))
    in_place = {name: [index for index in indices if peaks[index] > threshold] for name, indices in by_type.items()}
    chosen = {name: in_place[name] or indices for name, indices in sorted(by_type.items())}
    return [(name, indices[len(indices) // 2]) for name, indices in chosen.items()]


def write_calibration_cases(
    folder: Path, prepared: PreparedData, judged: Judged, inspector: Inspector
) -> list[dict[str, Any]]:
    """Panels of the good images that the threshold hangs on, too, highest first. -> as `write_cases`, value_without.

    uri: None of images that `prepared` does not have: the model was calibrated on others.
    """
    record, panels = inspector.threshold_record or {}, []
    records, images = prepared.records("calibration"), prepared.images("calibration")
    is_known = content_hash(records) == record.get("data_hash")
    places = {file.path: index for index, file in enumerate(records)} if is_known else {}
    for rank, entry in enumerate(record.get("highest", [])):  # without a threshold there are none
        shown = {"title": entry["path"], "score": entry["score"], "verdict": "calibration", "uri": None}
        if entry["path"] in places:
            image = np.asarray(images[places[entry["path"]]])
            seen = {"image": image, "anomaly_map": inspector.predict(image, name=entry["path"]).anomaly_map}
            path = folder / f"calibration_{rank}_{_stem(entry['path'])}.png"
            shown |= _write_panel(path, seen, inspector, judged, shown)
        panels.append(shown | {"value_without": entry["value_without"]})
    return panels


def window_around(spot: tuple[int, int], size: tuple[int, int], side: int = WINDOW) -> tuple[slice, slice]:
    """Rows and columns of a window with a (row, column) in its middle as far as the picture of (H, W) allows."""
    starts = [max(0, min(centre - side // 2, length - side)) for centre, length in zip(spot, size, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _seen(judged: Judged, index: int, inspector: Inspector) -> dict[str, np.ndarray | None]:
    """A test image and what the model says of it, as `panel` takes them. A map that was not kept is computed again."""
    image, truth = np.asarray(judged.images[index]), None if judged.masks is None else judged.masks[index]
    anomaly_map = inspector.predict(image).anomaly_map if judged.maps is None else judged.maps[index]
    return {"image": image, "anomaly_map": anomaly_map, "truth": truth}


def _about(judged: Judged, index: int, inspector: Inspector) -> dict[str, Any]:
    """-> {title, score, verdict} of a test image."""
    score = float(judged.scores[index])
    verdict = verdict_of(score, bool(judged.labels[index]), inspector.threshold)
    return {"title": judged.records[index].path, "score": score, "verdict": verdict}


def _case(folder: Path, judged: Judged, index: int, inspector: Inspector, file_name: str) -> dict[str, Any]:
    shown = _about(judged, index, inspector)
    path = folder / file_name.format(verdict=shown["verdict"].replace(" ", "-"), stem=_stem(shown["title"]))
    return shown | _write_panel(path, _seen(judged, index, inspector), inspector, judged, shown)


def _stem(name: str) -> str:
    """The start of a name, for files of names with a number: no file system takes more than 255 bytes."""
    return re.sub(r"[^\w.+-]", "_", PurePosixPath(name).stem)[:MAX_STEM]


def _write_panel(
    path: Path, seen: Mapping[str, Any], inspector: Inspector, judged: Judged, shown: Mapping[str, Any]
) -> dict[str, Any]:
    """The panel of an image, on the colour scale of the test scores. shown: {title, score, verdict}. -> as embedded."""
    view, place = _view(seen, judged.roi, inspector, is_missed=shown["verdict"] == "missed")
    caption = f"{shown['verdict']}, score {shown['score']:.3f}{place}"  # no name: the font has no umlauts
    top = float(np.quantile(judged.scores, SCALE_QUANTILE))
    level, high = inspector.threshold, top if top > 0 else 1.0
    look: dict[str, Any] = {"vmin": inspector.map_level, "vmax": high, "caption": caption, "num_columns": 2}
    drawn = panel(**view, threshold=level, is_detected=level is not None and shown["score"] > level, **look)
    png = encode_png(drawn)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png)
    return embed_image(png)


def _view(
    seen: Mapping[str, Any], roi: np.ndarray | None, inspector: Inspector, *, is_missed: bool
) -> tuple[dict[str, Any], str]:
    """What to draw, and where it lies in a scan."""
    view, place = {**seen, "roi": roi}, ""
    if inspector.tiling is not None:
        spot = _worst_spot(seen["anomaly_map"], seen["truth"] if is_missed else None)
        window = window_around(spot, seen["anomaly_map"].shape)
        view = {name: None if plane is None else np.ascontiguousarray(plane[window]) for name, plane in view.items()}
        place = f", around ({spot[1]}, {spot[0]})"
    return view | {"reconstruction": inspector.rebuild(view["image"])}, place


def _worst_spot(anomaly_map: np.ndarray, truth: np.ndarray | None) -> tuple[int, int]:
    """(row, column) of the highest score, of a missed defect the highest inside it. (H, W) twice."""
    if truth is not None and truth.any():
        anomaly_map = np.where(truth > 0, anomaly_map, -1)
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return int(row), int(column)


def small_pictures(judged: Judged, inspector: Inspector) -> list[dict[str, Any]]:
    """What the gallery shows of each image; of more than MAX_PICTURES the most doubtful ones."""
    chosen = order_cases(judged.scores, judged.labels, inspector.threshold, MAX_PICTURES)
    return [_small_picture(judged, index, inspector) for index in chosen]


def _small_picture(judged: Judged, index: int, inspector: Inspector) -> dict[str, Any]:
    """-> as `_about`, type, truth, uri, width, height. A map that was not kept is not drawn."""
    threshold = inspector.threshold
    about = {"type": judged.records[index].defect_type, "truth": "defective" if judged.labels[index] else "good"}
    image = np.asarray(judged.images[index])
    truth = None if judged.masks is None else np.asarray(judged.masks[index]) > 0
    anomaly_map = np.full(image.shape[:2], -1.0) if judged.maps is None else judged.maps[index]
    image, anomaly_map, truth = shrink(image, anomaly_map, truth, max_side=2 * SIDE)
    level = threshold if threshold is not None and judged.scores[index] > threshold else None
    drawn = Image.fromarray(draw_contours(image, anomaly_map, threshold=level, truth=truth))
    drawn.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    uri = _data_uri("jpeg", encode_jpeg(drawn, quality=QUALITY), drawn.size)
    return _about(judged, index, inspector) | about | uri


def embed_image(png: bytes) -> dict[str, Any]:
    """Turn a picture into a data URI of about MAX_CASE_BYTES at most, PNG or JPEG; {uri, width, height}."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    scale = min(1.0, MAX_CASE_WIDTH / picture.width, math.sqrt(MAX_CASE_PIXELS / (picture.width * picture.height)))
    if scale == 1.0 and len(png) <= MAX_CASE_BYTES // 2:
        return _data_uri("png", png, picture.size)
    for share, quality in JPEG_STEPS:
        width, height = (max(1, round(side * scale * share)) for side in picture.size)
        # 4:4:4 keeps thin contours
        jpeg = encode_jpeg(picture.resize((width, height), Image.Resampling.LANCZOS), quality=quality, subsampling=0)
        if len(jpeg) <= MAX_CASE_BYTES:
            break
    return _data_uri("jpeg", jpeg, (width, height))


def _data_uri(kind: str, data: bytes, size: tuple[int, int]) -> dict[str, Any]:
    """A picture's bytes as {uri, width, height}; kind: png or jpeg."""
    uri = f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
    return {"uri": uri, "width": size[0], "height": size[1]}
