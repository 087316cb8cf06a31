"""Exact detection and localisation metrics: every distinct score is a threshold, and ties are never broken.

Maps and masks are (N, H, W), or N arrays (H, W) of any mix of sizes; pixels outside a region of interest, bool (H, W)
and the same for every image, do not count at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MAX_FPR = 0.3  # the limit of PRO in MVTec's definition
MAX_POINTS = 500
PIXELS_AT_ONCE = 2**20
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)

Curve = tuple[np.ndarray, np.ndarray]  # (x, y), each (P,) and non-decreasing
Confusion = dict[str, int]
Planes = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True)
class PixelRanking:
    """Pixels of a test set, sorted once. negatives: (G,) ascending; the other arrays: one entry per defect pixel."""

    negatives: np.ndarray
    positives: np.ndarray
    region_share: np.ndarray  # 1 / pixels of the pixel's own region, so that each region sums to 1

    def metrics(self, max_fpr: float = MAX_FPR) -> tuple[float, float]:
        """Pixel ROCAUC and PROAUC up to max_fpr."""
        auroc = partial_area(*_vertices(self.negatives, self.positives))
        return float(auroc), float(partial_area(*self._pro_vertices(), max_fpr))

    def pro_curve(self, max_fpr: float = MAX_FPR) -> Curve:
        """Per-region overlap to plot, to max_fpr. -> (fpr, overlap)."""
        return thin_curve(*cut_curve(*self._pro_vertices(), max_fpr))

    def _pro_vertices(self) -> Curve:
        return _vertices(self.negatives, self.positives, self.region_share)


def rank_pixels(maps: Planes, masks: Planes, roi: np.ndarray | None = None) -> PixelRanking | None:
    """Sort the good pixels, find the 8-connected defect regions. maps, masks: (N, H, W); None if a class is missing."""
    maps, masks = check_maps(maps, masks, roi)
    negatives = select_pixels(maps, [inside(~mask, roi) for mask in masks])
    defects = [inside(mask, roi) for mask in masks]
    positives = select_pixels(maps, defects)
    if negatives.size == 0 or positives.size == 0:
        return None
    negatives.sort()
    return PixelRanking(negatives, positives, label_regions(defects)[0])


def inside(mask: np.ndarray, roi: np.ndarray | None) -> np.ndarray:
    """What of a mask lies in the region of interest. bool (H, W)."""
    return mask if roi is None else mask & roi


def image_score(anomaly_map: np.ndarray, num_pixels: int) -> float:
    """Mean of the highest `num_pixels` of a map (H, W), of all if it has fewer; 1: its maximum."""
    values = anomaly_map.ravel()
    highest = values[:0]
    for start in range(0, values.size, PIXELS_AT_ONCE):  # no copy of a large map
        seen = np.concatenate([highest, values[start : start + PIXELS_AT_ONCE]])
        count = min(num_pixels, seen.size)
        highest = np.partition(seen, -count)[-count:]
    # in order: the sum must not depend on how they lay
    return float(np.sort(highest).mean(dtype=np.float64))


def peaks_inside(maps: Planes, masks: Planes, roi: np.ndarray | None = None) -> np.ndarray:
    """Highest value of each map inside its mask, NaN where that is empty. maps, masks: (N, H, W) -> (N,)."""
    defects = [inside(mask, roi) for mask in masks]
    return np.array(
        [plane[defect].max() if defect.any() else np.nan for plane, defect in zip(maps, defects, strict=True)]
    )


def select_pixels(maps: Planes, chosen: Planes) -> np.ndarray:
    """The chosen pixels of all maps in one array, image by image. maps: (N, H, W), chosen: bool -> (P,)."""
    counts = [int(np.count_nonzero(selected)) for selected in chosen]
    pixels = np.empty(sum(counts), dtype=maps[0].dtype if len(maps) else np.float64)
    start = 0
    for anomaly_map, selected, count in zip(maps, chosen, counts, strict=True):
        pixels[start : start + count] = anomaly_map[selected]
        start += count
    return pixels


def label_regions(masks: Planes) -> tuple[np.ndarray, np.ndarray]:
    """Per defect pixel, as in `masks[masks]`, 1 / size of its region (P,); regions per image (N,). masks: (N, H, W)."""
    shares, num_regions = [np.empty(0)], np.zeros(len(masks), dtype=np.int64)
    for index in (index for index, mask in enumerate(masks) if mask.any()):
        labels, num_regions[index] = ndimage.label(masks[index], structure=EIGHT_CONNECTED)
        of_pixel = labels[masks[index]]
        shares.append(1.0 / np.bincount(of_pixel)[of_pixel])
    return np.concatenate(shares), num_regions


def image_auroc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """ROC area over images, ties count half. scores, labels: (N,) -> [0, 1]; None if a class is missing."""
    curve = roc_curve(scores, labels)
    return None if curve is None else float(partial_area(*curve))


def pixel_auroc(maps: Planes, masks: Planes, *, roi: np.ndarray | None = None) -> float | None:
    """Area under the ROC curve over all pixels. maps, masks: (N, H, W) -> [0, 1]; None if a class is missing."""
    both = pixel_metrics(maps, masks, roi=roi)
    return None if both is None else both[0]


def pro_auc(maps: Planes, masks: Planes, max_fpr: float = MAX_FPR, *, roi: np.ndarray | None = None) -> float | None:
    """Area under the per-region overlap up to max_fpr, divided by it. maps, masks: (N, H, W) -> [0, 1] or None."""
    both = pixel_metrics(maps, masks, max_fpr, roi=roi)
    return None if both is None else both[1]


def pixel_metrics(
    maps: Planes, masks: Planes, max_fpr: float = MAX_FPR, *, roi: np.ndarray | None = None
) -> tuple[float, float] | None:
    """(pixel_auroc, pro_auc) from one sort. maps, masks: (N, H, W); None if a class is missing."""
    ranking = rank_pixels(maps, masks, roi)
    return None if ranking is None else ranking.metrics(max_fpr)


def aurocs(maps: Planes, scores: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Image and pixel ROCAUC, as far as there are both classes. scores: (N,), maps, masks: (N, H, W)."""
    labels = np.any(masks, axis=(1, 2))
    values = {"image_auroc": image_auroc(scores, labels), "pixel_auroc": pixel_auroc(maps, masks)}
    return {name: value for name, value in values.items() if value is not None}


def roc_curve(scores: np.ndarray, labels: np.ndarray) -> Curve | None:
    """ROC curve over images or pixels. scores, labels: (N,) -> (fpr, tpr); None if a class is missing."""
    scores, labels = check_scores(scores, labels)
    if labels.all() or not labels.any():
        return None
    return _vertices(np.sort(scores[~labels]), scores[labels])


def cut_curve(x: np.ndarray, y: np.ndarray, max_x: float) -> Curve:
    """The curve up to max_x, where it ends. x, y: (P,) non-decreasing."""
    is_inside = x <= max_x
    return np.append(x[is_inside], max_x), np.append(y[is_inside], np.interp(max_x, x, y))


def thin_curve(x: np.ndarray, y: np.ndarray) -> Curve:
    """At most MAX_POINTS vertices, evenly spread along the curve, both endpoints kept. x, y: (P,) non-decreasing."""
    if x.size <= MAX_POINTS:
        return x, y
    length = (x - x[0]) / max(x[-1] - x[0], 1e-12) + (y - y[0]) / max(y[-1] - y[0], 1e-12)
    picks = np.searchsorted(length, np.linspace(0.0, length[-1], MAX_POINTS - 1))
    keep = np.unique(np.append(np.clip(picks, 0, x.size - 1), [0, x.size - 1]))
    return x[keep], y[keep]


def partial_area(x: np.ndarray, y: np.ndarray, max_x: float = 1.0) -> np.ndarray:
    """Trapezoid area under (x, y) from 0 to max_x, divided by max_x. x, y: (..., P), x non-decreasing -> (...)."""
    if not 0.0 < max_x <= 1.0:
        raise ValueError(f"max_fpr is {max_x}: choose a limit above 0 and at most 1")
    left, right = np.minimum(x[..., :-1], max_x), np.minimum(x[..., 1:], max_x)
    step = x[..., 1:] - x[..., :-1]
    slope = np.divide(y[..., 1:] - y[..., :-1], step, out=np.zeros_like(step), where=step > 0)
    width = right - left
    return (width * (y[..., :-1] + 0.5 * slope * width)).sum(axis=-1) / max_x


def confusion(scores: np.ndarray, labels: np.ndarray, threshold: float) -> Confusion:
    """Counts of right and wrong calls; defective means score > threshold. scores, labels: (N,)."""
    scores, labels = check_scores(scores, labels)
    calls = scores > threshold
    return {
        "true_positive": int((calls & labels).sum()),
        "false_positive": int((calls & ~labels).sum()),
        "true_negative": int((~calls & ~labels).sum()),
        "false_negative": int((~calls & labels).sum()),
    }


def f1(counts: Confusion) -> float | None:
    """2TP / (2TP + FP + FN), so 0 when every defect is missed; None when there are no defective images."""
    if not counts["true_positive"] + counts["false_negative"]:
        return None
    doubled = 2 * counts["true_positive"]
    return doubled / (doubled + counts["false_positive"] + counts["false_negative"])


def check_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (N,) of finite scores and bool labels; ValueError otherwise."""
    scores, labels = np.asarray(scores), np.asarray(labels).astype(bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} differ in shape: give one label per score")
    if not np.isfinite(scores).all():
        raise ValueError("scores contain NaN or infinity: the model diverged, train it again")
    return scores, labels


def check_maps(maps: Planes, masks: Planes, roi: np.ndarray | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """N planes (H, W) of finite scores and as many bool masks; ValueError otherwise."""
    maps, masks = [np.asarray(plane) for plane in maps], [np.asarray(mask).astype(bool) for mask in masks]
    sizes = [plane.shape for plane in maps], [mask.shape for mask in masks]
    if sizes[0] != sizes[1] or any(len(shape) != 2 for shape in sizes[0]):
        raise ValueError(
            f"{len(maps)} anomaly maps and {len(masks)} masks differ: give one mask (H, W) per map of its size"
        )
    if roi is not None and any(mask.shape != roi.shape for mask in masks):
        raise ValueError(f"a region of interest {roi.shape} for other sizes of maps: all must be of its size")
    if not all(np.isfinite(plane).all() for plane in maps):
        raise ValueError("anomaly maps contain NaN or infinity: the model diverged, train it again")
    return maps, masks


def take_planes(planes: Planes, rows: np.ndarray) -> list[np.ndarray]:
    """Some of the planes. rows: bool (N,)."""
    return [planes[index] for index in np.flatnonzero(rows).tolist()]


def _vertices(negatives: np.ndarray, positives: np.ndarray, weights: np.ndarray | None = None) -> Curve:
    """All corners of the curve: it is flat between two distinct positive scores, so only those need evaluating.

    negatives: (G,) ascending; positives, weights: (P,) -> x = share of negatives, y = weighted share of positives.
    """
    values, group = np.unique(positives, return_inverse=True)
    mass = np.bincount(group, weights=weights)[::-1]
    reached = np.cumsum(mass, dtype=np.float64)
    reached /= reached[-1]
    num_above = negatives.size - np.searchsorted(negatives, values, side="right")[::-1]
    num_at_or_above = negatives.size - np.searchsorted(negatives, values, side="left")[::-1]
    # within one tie group negatives and positives are reached together: a straight line from `above` to `at or above`
    x = np.stack([num_above, num_at_or_above], axis=1).ravel() / negatives.size
    y = np.stack([np.append(0.0, reached[:-1]), reached], axis=1).ravel()
    return np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])
