"""Pixel metrics of any number of maps in bounded memory: histograms of scores that workers fill apart and merge.

A bin holds the scores that share the leading bits of their single-precision number, so that bins follow any scale:
2,048 between a score and its double. Bins keep their order exactly; only the order within one is lost, and what that
can change at most is known from the counts and stated with every value.
"""

from dataclasses import dataclass

import numpy as np

from ndpnet.evaluation.metrics import MAX_FPR, check_maps, inside, label_regions, partial_area

KEY_BITS = 20  # sign, exponent and 11 bits of the fraction
NUM_BINS = 1 << KEY_BITS


@dataclass(frozen=True)
class StreamedMetrics:
    """Each value is within its error of the exact metric over the same pixels."""

    pixel_auroc: float
    pixel_auroc_error: float
    pro_auc: float
    pro_auc_error: float


class PixelStream:
    """24 MiB of histograms. Those of two workers merge into the one of all images, in any order."""

    def __init__(self) -> None:
        self.good = np.zeros(NUM_BINS, dtype=np.int64)  # pixels outside defects
        self.defect = np.zeros(NUM_BINS, dtype=np.int64)  # pixels of defects
        self.overlap = np.zeros(NUM_BINS)  # shares of their regions: each region sums to 1

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray, *, roi: np.ndarray | None = None) -> None:
        """Count one image. anomaly_map: (H, W), finite; mask, roi: bool (H, W). ValueError as of the exact metrics."""
        maps, masks = check_maps(np.asarray(anomaly_map)[None], np.asarray(mask)[None], roi)
        defect = inside(masks[0], roi)
        keys = _keys(maps[0])
        _count(self.good, keys[inside(~masks[0], roi)])
        _count(self.defect, keys[defect])
        _count(self.overlap, keys[defect], label_regions(defect[None])[0])

    def merge(self, other: "PixelStream") -> None:
        """Take in what another worker counted."""
        self.good += other.good
        self.defect += other.defect
        self.overlap += other.overlap

    def metrics(self, max_fpr: float = MAX_FPR) -> StreamedMetrics | None:
        """Both metrics with the most that each may be wrong by; None if a class is missing."""
        if not self.good.any() or not self.defect.any():
            return None
        filled = np.flatnonzero((self.good > 0) | (self.defect > 0))[::-1]
        fpr, tpr, overlap = (_reached(each[filled]) for each in (self.good, self.defect, self.overlap))
        return StreamedMetrics(
            float(partial_area(fpr, tpr)),
            _largest_error(fpr, tpr, 1.0),
            float(partial_area(fpr, overlap, max_fpr)),
            _largest_error(fpr, overlap, max_fpr),
        )


def _keys(anomaly_map: np.ndarray) -> np.ndarray:
    """Bin of every score, in the order of the scores. (H, W) -> int64 (H, W)."""
    bits = (anomaly_map.astype(np.float32) + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> (32 - KEY_BITS)).astype(np.int64)


def _count(bins: np.ndarray, keys: np.ndarray, weights: np.ndarray | None = None) -> None:
    if keys.size:
        first = keys.min()
        counts = np.bincount(keys - first, weights)
        bins[first : first + counts.size] += counts


def _reached(mass: np.ndarray) -> np.ndarray:
    """Share reached from the highest bin down, from 0. (P,) -> (P + 1,)."""
    reached = np.append(0.0, np.cumsum(mass, dtype=np.float64))
    return reached / reached[-1]


def _largest_error(x: np.ndarray, y: np.ndarray, max_x: float) -> float:
    """How far the area up to max_x can be from that of any order within the bins, divided by max_x.

    In a bin the true curve climbs anyhow from one corner of its rectangle to the other, the drawn one along the
    diagonal: half the rectangle lies on either side. In the bin that max_x cuts, the whole cut rectangle counts.
    """
    width, height = np.minimum(x[1:], max_x) - np.minimum(x[:-1], max_x), np.diff(y)
    is_cut = (x[:-1] < max_x) & (x[1:] > max_x)
    return float((width * height * np.where(is_cut, 1.0, 0.5)).sum() / max_x)
