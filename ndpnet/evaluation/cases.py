"""Pictures of single cases for the report: panels, of scans a window around the spot that matters, and a gallery."""

import base64
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
MAX_CASE_WIDTH = 1400  # pixels, of a panel in the page
MAX_CASE_PIXELS = 700_000
MAX_STEM = 30  # letters, of up to four bytes
MAX_PICTURES = 300  # of the gallery, of about 6 kB each: 2 MB
SIDE = 150
QUALITY = 75  # of JPEG


class CasePictures:
    """Pictures of a test set's images, all on one colour scale; panels are written into a folder, too.

    A panel: {title, score, verdict, uri, width, height}.
    """

    def __init__(self, folder: Path, judged: Judged, inspector: Inspector) -> None:
        self._folder, self._judged, self._inspector = folder, judged, inspector
        top = float(np.quantile(judged.scores, SCALE_QUANTILE))
        self._scale: dict[str, Any] = {
            "threshold": inspector.threshold,
            "vmin": inspector.map_level,
            "vmax": top if top > 0 else 1.0,
        }

    def worst(self, limit: int) -> list[dict[str, Any]]:
        """One panel per case, worst first."""
        shown = [(index, self._about(index)) for index in self._most_doubtful(limit)]
        return [
            about | self._panel(f"{rank:03d}_{about['verdict'].replace(' ', '-')}", about, self._seen(index))
            for rank, (index, about) in enumerate(shown)
        ]

    def typical(self, limit: int) -> list[dict[str, Any]]:
        """One find per defect type, that of the middle score. -> panels with their type."""
        finds = typical_finds(self._judged, self._inspector.threshold)[:limit]
        shown = [(name, index, self._about(index)) for name, index in finds]
        return [
            about | {"type": name} | self._panel(f"typical_{number}_{_stem(name)}", about, self._seen(index))
            for number, (name, index, about) in enumerate(shown)
        ]

    def calibration(self, prepared: PreparedData) -> list[dict[str, Any]]:
        """Panels of the good images that the threshold hangs on, highest first, with value_without.

        uri: None of images that `prepared` does not have: the model was calibrated on others.
        """
        record = self._inspector.threshold_record or {}
        records, images = prepared.records("calibration"), prepared.images("calibration")
        is_known = content_hash(records) == record.get("data_hash")
        places = {file.path: index for index, file in enumerate(records)} if is_known else {}
        panels = []
        for rank, entry in enumerate(record.get("highest", [])):  # without a threshold there are none
            shown = {"title": entry["path"], "score": entry["score"], "verdict": "calibration", "uri": None}
            if entry["path"] in places:
                image = np.asarray(images[places[entry["path"]]])
                anomaly_map = self._inspector.predict(image, name=entry["path"]).anomaly_map
                shown |= self._panel(f"calibration_{rank}", shown, {"image": image, "anomaly_map": anomaly_map})
            panels.append(shown | {"value_without": entry["value_without"]})
        return panels

    def gallery(self) -> list[dict[str, Any]]:
        """A small picture of each image; of more than MAX_PICTURES of the most doubtful ones."""
        return [self._small_picture(index) for index in self._most_doubtful(MAX_PICTURES)]

    def _most_doubtful(self, limit: int) -> list[int]:
        return order_cases(self._judged.scores, self._judged.labels, self._inspector.threshold, limit)

    def _about(self, index: int) -> dict[str, Any]:
        """-> {title, score, verdict} of a test image."""
        score = float(self._judged.scores[index])
        verdict = verdict_of(score, bool(self._judged.labels[index]), self._inspector.threshold)
        return {"title": self._judged.records[index].path, "score": score, "verdict": verdict}

    def _seen(self, index: int) -> dict[str, np.ndarray | None]:
        """A test image and what the model says of it. A map that was not kept is computed again."""
        image, maps, masks = np.asarray(self._judged.images[index]), self._judged.maps, self._judged.masks
        anomaly_map = self._inspector.predict(image).anomaly_map if maps is None else maps[index]
        return {"image": image, "anomaly_map": anomaly_map, "truth": None if masks is None else masks[index]}

    def _panel(self, name: str, shown: Mapping[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        """Draw and write the panel of an image, of a scan a window around its spot. -> as embedded."""
        seen, place = seen | {"roi": self._judged.roi}, ""
        if self._inspector.tiling is not None:
            spot = _worst_spot(seen["anomaly_map"], seen.get("truth") if shown["verdict"] == "missed" else None)
            window = window_around(spot, seen["anomaly_map"].shape)
            seen = {key: None if plane is None else np.ascontiguousarray(plane[window]) for key, plane in seen.items()}
            place = f", around ({spot[1]}, {spot[0]})"
        threshold = self._inspector.threshold
        drawn = panel(
            **seen,
            **self._scale,
            reconstruction=self._inspector.rebuild(seen["image"]),
            is_detected=threshold is not None and shown["score"] > threshold,
            caption=f"{shown['verdict']}, score {shown['score']:.3f}{place}",  # no name: the font has no umlauts
            num_columns=2,
        )
        self._folder.mkdir(exist_ok=True)
        (self._folder / f"{name}_{_stem(shown['title'])}.png").write_bytes(encode_png(drawn))
        return embed_image(drawn)

    def _small_picture(self, index: int) -> dict[str, Any]:
        """-> as `_about`, type, truth, uri, width, height. A map that was not kept is not drawn."""
        judged, threshold = self._judged, self._inspector.threshold
        image = np.asarray(judged.images[index])
        truth = None if judged.masks is None else np.asarray(judged.masks[index]) > 0
        anomaly_map = np.full(image.shape[:2], -1.0) if judged.maps is None else judged.maps[index]
        image, anomaly_map, truth = shrink(image, anomaly_map, truth, max_side=2 * SIDE)
        level = threshold if threshold is not None and judged.scores[index] > threshold else None
        drawn = Image.fromarray(draw_contours(image, anomaly_map, threshold=level, truth=truth))
        drawn.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        about = {"type": judged.records[index].defect_type, "truth": "defective" if judged.labels[index] else "good"}
        return self._about(index) | about | _data_uri(drawn)


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


def window_around(spot: tuple[int, int], size: tuple[int, int], side: int = WINDOW) -> tuple[slice, slice]:
    """Rows and columns of a window with a (row, column) in its middle as far as the picture of (H, W) allows."""
    starts = [max(0, min(centre - side // 2, length - side)) for centre, length in zip(spot, size, strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _worst_spot(anomaly_map: np.ndarray, truth: np.ndarray | None) -> tuple[int, int]:
    """(row, column) of the highest score, of a missed defect the highest inside it. (H, W) twice."""
    if truth is not None and truth.any():
        anomaly_map = np.where(truth > 0, anomaly_map, -1)
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return int(row), int(column)


def _stem(name: str) -> str:
    """The start of a name, for files of names with a number: no file system takes more than 255 bytes."""
    return re.sub(r"[^\w.+-]", "_", PurePosixPath(name).stem)[:MAX_STEM]


def embed_image(drawn: np.ndarray) -> dict[str, Any]:
    """Turn a picture into a data URI, of at most MAX_CASE_WIDTH and MAX_CASE_PIXELS; {uri, width, height}."""
    picture = Image.fromarray(drawn)
    scale = min(1.0, MAX_CASE_WIDTH / picture.width, math.sqrt(MAX_CASE_PIXELS / (picture.width * picture.height)))
    if scale < 1.0:
        width, height = (round(side * scale) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return _data_uri(picture, subsampling=0)  # which keeps thin contours


def _data_uri(picture: Image.Image, **options: int) -> dict[str, Any]:
    """A picture as JPEG: {uri, width, height}."""
    jpeg = encode_jpeg(picture, quality=QUALITY, **options)
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    return {"uri": uri, "width": picture.width, "height": picture.height}
