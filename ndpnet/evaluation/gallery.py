"""Small pictures of the test images for the report: contours of what was marked and of what is there."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ndpnet.evaluation.embedding import data_uri
from ndpnet.evaluation.report import order_cases, verdict_of
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.overlay import draw_contours, shrink

if TYPE_CHECKING:
    from ndpnet.evaluation.evaluate import Judged

MAX_PICTURES = 300  # of about 6 kB each: 2 MB
SIDE = 150
QUALITY = 72  # of JPEG


def small_pictures(judged: "Judged", inspector: Inspector) -> list[dict[str, Any]]:
    """What the gallery shows of each image; of more than MAX_PICTURES the most doubtful ones."""
    chosen = order_cases(judged.scores, judged.labels, inspector.threshold, MAX_PICTURES)
    return [_entry(judged, index, inspector) for index in chosen]


def _entry(judged: "Judged", index: int, inspector: Inspector) -> dict[str, Any]:
    record, score, is_defective = judged.records[index], float(judged.scores[index]), bool(judged.labels[index])
    about = {"title": record.path, "score": score, "type": record.defect_type}
    about |= {"truth": "defective" if is_defective else "good"}
    about |= {"verdict": verdict_of(score, is_defective, inspector.threshold)}
    return about | _thumbnail(judged, index, inspector.threshold)


def _thumbnail(judged: "Judged", index: int, threshold: float | None) -> dict[str, Any]:
    """-> uri, width, height. A map that was not kept is not drawn."""
    image = np.asarray(judged.images[index])
    truth = None if judged.masks is None else np.asarray(judged.masks[index]) > 0
    anomaly_map = np.full(image.shape[:2], -1.0) if judged.maps is None else judged.maps[index]
    image, anomaly_map, truth = shrink(image, anomaly_map, truth, max_side=2 * SIDE)
    drawn = Image.fromarray(draw_contours(image, anomaly_map, threshold=threshold, truth=truth))
    drawn.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    drawn.save(buffer, format="JPEG", quality=QUALITY)
    return data_uri("jpeg", buffer.getvalue(), drawn.size)
