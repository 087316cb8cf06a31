"""Pixel metrics of any number of maps in bounded memory: histograms of scores that workers fill apart and merge.

A bin holds the scores that share the leading bits of their single-precision number, so that bins follow any scale:
2,048 between a score and its double. Bins keep their order exactly; only the order within one is lost, and what that
can change at most is known from the counts and stated with every value.
"""

from collections.abc import Iterable

import numpy as np

from ndpnet.metrics.exact import (
    MAX_FPR,
    Curve,
    check_maps,
    cut_curve,
    inside,
    label_regions,
    partial_area,
    peaks_inside,
    thin_curve,
)
from ndpnet.metrics.weighted import PixelFigures, PixelTable, pixel_row

KEY_BITS = 20  # sign, exponent and 11 bits of the fraction
NUM_BINS = 1 << KEY_BITS
GRID = 2.0 ** np.arange(-20, 1 / 8, 1 / 8)  # thresholds of the intervals, known before any map: 8 to a doubling


class PixelStream:
    """24 MiB of histograms. Those of two workers merge into the one of all images, in any order."""

    def __init__(self) -> None:
        self.good = np.zeros(NUM_BINS, dtype=np.int64)  # pixels outside defects
        self.defect = np.zeros(NUM_BINS, dtype=np.int64)  # pixels of defects
        self.overlap = np.zeros(NUM_BINS)  # shares of their regions: each region sums to 1

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray, *, roi: np.ndarray | None = None) -> None:
        """Count one image. anomaly_map: (H, W), finite; mask, roi: bool (H, W). ValueError as of the exact metrics."""
        ((plane,), (marked,)) = check_maps([anomaly_map], [mask], roi)
        defect = inside(marked, roi)
        keys = _keys(plane)
        _count(self.good, keys[inside(~marked, roi)])
        _count(self.defect, keys[defect])
        _count(self.overlap, keys[defect], label_regions(defect[None])[0])

    def merge(self, other: "PixelStream") -> None:
        """Take in what another worker counted."""
        self.good += other.good
        self.defect += other.defect
        self.overlap += other.overlap

    def metrics(self, max_fpr: float = MAX_FPR) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Pixel ROCAUC and PROAUC, and the most that each may be wrong by; None if a class is missing."""
        curves = self._curves()
        if curves is None:
            return None
        fpr, tpr, overlap = curves
        areas = float(partial_area(fpr, tpr)), float(partial_area(fpr, overlap, max_fpr))
        return areas, (_largest_error(fpr, tpr, 1.0), _largest_error(fpr, overlap, max_fpr))

    def pro_curve(self, max_fpr: float = MAX_FPR) -> Curve | None:
        """Per-region overlap to plot, to max_fpr. -> (fpr, overlap); None if a class is missing."""
        curves = self._curves()
        return None if curves is None else thin_curve(*cut_curve(curves[0], curves[2], max_fpr))

    def _curves(self) -> tuple[np.ndarray, ...] | None:
        """Shares of good pixels, defect pixels and regions, from the highest bin down; None: a class is missing."""
        if not self.good.any() or not self.defect.any():
            return None
        filled = np.flatnonzero((self.good > 0) | (self.defect > 0))[::-1]
        return tuple(_reached(bins[filled]) for bins in (self.good, self.defect, self.overlap))


class PixelTally:
    """The pixels of a test set without its maps: a stream per defect type, a few kB per image for the intervals."""

    def __init__(self, roi: np.ndarray | None = None) -> None:
        self.roi = roi
        self.streams: dict[str, PixelStream] = {}
        self.peaks: list[float] = []  # by image: highest anomaly inside its mask, NaN without one
        self.rows: list[PixelTable] = []  # of the images whose pixels count

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray, defect_type: str, *, is_good: bool) -> None:
        """Count the next image, unless it is defective and its mask is empty. (H, W), bool (H, W)."""
        mask = np.asarray(mask).astype(bool)
        self.peaks += peaks_inside(anomaly_map[None], mask[None], self.roi).tolist()
        if is_good or inside(mask, self.roi).any():
            self.streams.setdefault(defect_type, PixelStream()).add(anomaly_map, mask, roi=self.roi)
            self.rows.append(pixel_row(anomaly_map, mask, GRID, roi=self.roi))

    def stream_of(self, defect_types: Iterable[str]) -> PixelStream:
        """That of all images of these types."""
        merged = PixelStream()
        for name in defect_types:
            if name in self.streams:
                merged.merge(self.streams[name])
        return merged

    def figures(self) -> PixelFigures | None:
        """What is known of all pixels; None if a class is missing."""
        stream = self.stream_of(self.streams)
        seen, curve = stream.metrics(), stream.pro_curve()
        if seen is None or curve is None:
            return None
        return PixelFigures(seen[0], curve, PixelTable.of(self.rows), seen[1])


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
