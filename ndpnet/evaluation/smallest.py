"""How small a defect is found, where no real one is at hand: painted scratches, spots and smears."""

from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from ndpnet.evaluation.judging import Judged
from ndpnet.inference.inspector import Inspector
from ndpnet.metrics.properties import MAX_SIDE

SIZES = (4, 8, 16, 32, 64)  # pixels of the network's input: length of a scratch, diameter of the others
CONTRASTS = (0.05, 0.1, 0.2, 0.4, 0.8)  # of the range from black to white
NUM_IMAGES = 3
KINDS = {"scratch": "Scratch, 2 px wide", "spot": "Spot", "smear": "Smear, soft at the edge"}
ANGLE = 0.6  # radians, of a scratch


def smallest_found(judged: Judged, inspector: Inspector) -> dict[str, Any] | None:
    """How many of a few good test images are flagged by kind, size and contrast of what is painted on them.

    None without a threshold, or a good test image that passes. -> sentence, sizes, num_images, kinds (name, rows).
    """
    threshold = inspector.threshold
    if threshold is None:
        return None
    passed = np.flatnonzero(~judged.labels & (judged.scores <= threshold))[:NUM_IMAGES]
    places = [_place(np.asarray(judged.images[row]), inspector) for row in passed]
    # of a scan the part may be flagged as it is, though the whole is not: what is painted there would be found anyway
    places = [place for place in places if place[0].predict(place[1]).score <= threshold]
    if not places:
        return None
    sizes = [size for size in SIZES if size <= min(inspector.input_size) // 2]
    cells = [(kind, size, contrast) for kind in KINDS for contrast in CONTRASTS for size in sizes]
    counts = {
        cell: sum(part.predict(paint(image, *cell, spot=spot)).score > threshold for part, image, spot in places)
        for cell in tqdm(cells, "artificial defects", disable=None)
    }
    kinds = [
        {"name": name, "rows": [(contrast, [counts[kind, size, contrast] for size in sizes]) for contrast in CONTRASTS]}
        for kind, name in KINDS.items()
    ]
    smallest = "; ".join(_words(kind, counts, len(places)) for kind in KINDS)
    sentence = f"Smallest that is flagged on all {len(places)} images: {smallest}."
    return {"sentence": sentence, "sizes": sizes, "num_images": len(places), "kinds": kinds}


def paint(image: np.ndarray, kind: str, size: int, contrast: float, *, spot: tuple[float, float]) -> np.ndarray:
    """A picture with a defect around a (row, column), darker on a bright surface, else brighter. uint8 (H, W, 3)."""
    shape = _opacity(image.shape[:2], kind, size, spot)
    around = tuple(slice(max(0, int(centre) - SIZES[-1] // 2), int(centre) + SIZES[-1] // 2) for centre in spot)
    sign = -1.0 if image[around].mean() > 127 else 1.0
    painted = image + sign * 255 * contrast * shape[..., None]
    return np.clip(np.rint(painted), 0, 255).astype(np.uint8)


def _opacity(shape: tuple[int, int], kind: str, size: int, spot: tuple[float, float]) -> np.ndarray:
    """How much of the defect is at each pixel. -> float (H, W) in [0, 1]."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    down, right = rows - spot[0], columns - spot[1]
    if kind == "scratch":
        along = right * np.cos(ANGLE) + down * np.sin(ANGLE)
        across = down * np.cos(ANGLE) - right * np.sin(ANGLE)
        return ((np.abs(along) <= size / 2) & (np.abs(across) <= 1)).astype(np.float64)
    disc = (np.hypot(down, right) <= size / 2).astype(np.float64)
    return disc if kind == "spot" else ndimage.gaussian_filter(disc, size / 4)


def _place(image: np.ndarray, inspector: Inspector) -> tuple[Inspector, np.ndarray, tuple[float, float]]:
    """Where to paint: the middle, or the place that is deepest in what is inspected. -> inspector and image, of a scan
    for a part around it as large as the network's input, and the (row, column) there.
    """
    spot = image.shape[0] / 2, image.shape[1] / 2
    if inspector.weights is not None:
        step = -(-max(image.shape) // MAX_SIDE)
        depths = ndimage.distance_transform_edt(np.pad(inspector.weights[::step, ::step] > 0, 1))
        row, column = np.unravel_index(int(depths.argmax()), depths.shape)
        spot = float(step * (row - 1)), float(step * (column - 1))
    rows, columns = (
        slice(start := max(0, min(int(centre - side / 2), own - side)), start + side)
        for centre, own, side in zip(spot, image.shape, inspector.input_size, strict=False)
    )
    part = np.ascontiguousarray(image[rows, columns])
    return inspector.part((rows, columns)), part, (spot[0] - rows.start, spot[1] - columns.start)


def _words(kind: str, counts: dict[tuple[str, int, float], int], num_images: int) -> str:
    """The faintest contrast at the smallest size, and the smallest size at the faintest contrast."""
    sure = [(size, contrast) for (name, size, contrast), count in counts.items() if (name, count) == (kind, num_images)]
    if not sure:
        return f"no {kind}"
    smallest, faintest = min(sure), min(sure, key=lambda pair: (pair[1], pair[0]))
    ends = [f"{size} px at {100 * contrast:.0f} % contrast" for size, contrast in dict.fromkeys((smallest, faintest))]
    return f"a {kind} of {' or of '.join(ends)}"
