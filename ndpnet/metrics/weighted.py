"""Metrics of images that count more or less than once: exact for scores of images, on a threshold grid for pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ndpnet.metrics.exact import (
    MAX_FPR,
    Curve,
    PixelRanking,
    Planes,
    check_scores,
    inside,
    label_regions,
    partial_area,
    rank_pixels,
)
from ndpnet.metrics.intervals import Statistic

GRID_SIZE = 256


def auroc_statistic(scores: np.ndarray, labels: np.ndarray) -> Statistic:
    """Weighted image ROCAUC, ties count one half. scores, labels: (N,)."""
    scores, labels = check_scores(scores, labels)
    order = np.argsort(scores, kind="stable")
    tie_starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    is_defective = labels[order]

    def statistic(weights: np.ndarray) -> np.ndarray:
        ordered = weights[:, order]
        defective = np.add.reduceat(ordered * is_defective, tie_starts, axis=1)  # (D, tie groups)
        good = np.add.reduceat(ordered * ~is_defective, tie_starts, axis=1)
        below = np.cumsum(good, axis=1) - 0.5 * good
        return _divide((defective * below).sum(axis=1), defective.sum(axis=1) * good.sum(axis=1))

    return statistic


def precision_statistic(calls: np.ndarray, labels: np.ndarray) -> Statistic:
    """Weighted TP / (TP + FP). calls, labels: (N,) bool."""
    return _ratio_statistic(calls & labels, calls)


def f1_statistic(calls: np.ndarray, labels: np.ndarray) -> Statistic:
    """Weighted 2TP / (2TP + FP + FN). calls, labels: (N,) bool."""
    return _ratio_statistic(2.0 * (calls & labels), 1.0 * calls + labels)


@dataclass(frozen=True)
class PixelTable:
    """Per image, what exceeds each of T descending thresholds: all a weighted pixel metric needs. (N, T) and (N,)."""

    good_above: np.ndarray
    num_good: np.ndarray
    defect_above: np.ndarray
    num_defect: np.ndarray
    overlap_above: np.ndarray  # sum over the image's regions of the share of the region above the threshold
    num_regions: np.ndarray

    @classmethod
    def of(cls, rows: Sequence["PixelTable"]) -> "PixelTable":
        """The table of several images' rows."""
        return cls(*(np.stack([getattr(row, name) for row in rows]) for name in cls.__dataclass_fields__))

    def take(self, rows: np.ndarray) -> "PixelTable":
        """The same table for some of the images, itself for all. rows: bool (N,)."""
        if rows.all():
            return self
        return PixelTable(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def grid_of(ranking: PixelRanking, grid_size: int = GRID_SIZE) -> np.ndarray:
    """Ascending thresholds at even steps of the overlap and at quadratic steps of the FPR, fine where PRO is steep.

    2 * grid_size of them. The only approximation: the curve between two of them is taken as straight.
    """
    levels = np.linspace(0.0, 1.0, grid_size)
    last = ranking.negatives.size - 1
    by_fpr = ranking.negatives[np.rint(last * (1.0 - levels**2)).astype(np.int64)]
    order = np.argsort(ranking.positives)
    reached = np.cumsum(ranking.region_share[order])
    picks = np.searchsorted(reached, levels * reached[-1]).clip(max=order.size - 1)
    return np.unique(np.concatenate([by_fpr, ranking.positives[order[picks]]]))


@dataclass(frozen=True)
class PixelFigures:
    """What one ranking of a test set's pixels tells."""

    values: tuple[float, float]  # pixel ROCAUC, PROAUC
    pro_curve: Curve
    table: PixelTable  # what intervals are computed from
    errors: tuple[float, float] = (0.0, 0.0)  # that the values may have at most


def pixel_figures(maps: Planes, masks: Planes, *, roi: np.ndarray | None = None) -> PixelFigures | None:
    """Sort all pixels once. maps: (N, H, W), masks: bool (N, H, W); None if a class is missing."""
    ranking = rank_pixels(maps, masks, roi)
    if ranking is None:
        return None
    table = pixel_table(maps, masks, grid_of(ranking), roi=roi)
    return PixelFigures(ranking.metrics(), ranking.pro_curve(), table)


def pixel_table(maps: Planes, masks: Planes, thresholds: np.ndarray, *, roi: np.ndarray | None = None) -> PixelTable:
    """Count once, on ascending thresholds, what any weights need. maps: (N, H, W), masks: bool (N, H, W)."""
    return PixelTable.of([pixel_row(*planes, thresholds, roi=roi) for planes in zip(maps, masks, strict=True)])


def pixel_row(
    anomaly_map: np.ndarray, mask: np.ndarray, thresholds: np.ndarray, *, roi: np.ndarray | None = None
) -> PixelTable:
    """One image's row of a table, on ascending thresholds. (H, W), bool (H, W)."""
    defect = inside(mask, roi)
    counted = anomaly_map.ravel() if roi is None else anomaly_map[roi]
    shares, num_regions = label_regions(defect[None])
    all_above = (counted.size - np.searchsorted(np.sort(counted), thresholds))[::-1]
    of_defect = np.searchsorted(thresholds, anomaly_map[defect], side="right")
    histograms = (np.bincount(of_defect, weights, minlength=thresholds.size + 1) for weights in (None, shares))
    # sums over the cells from each threshold up, thresholds descending: (T+1,) -> (T,)
    defect_above, overlap_above = (np.cumsum(histogram[:0:-1], dtype=np.float64) for histogram in histograms)
    num_defect = np.array(of_defect.size)
    num_good = np.array(counted.size) - num_defect
    return PixelTable(all_above - defect_above, num_good, defect_above, num_defect, overlap_above, num_regions[0])


def pixel_statistics(table: PixelTable, max_fpr: float = MAX_FPR) -> tuple[Statistic, Statistic]:
    """Weighted pixel ROCAUC and PRO area up to max_fpr, from the table."""

    def area_under(above: np.ndarray, totals: np.ndarray, max_x: float) -> Statistic:
        def area(weights: np.ndarray) -> np.ndarray:
            fpr = _weighted_share(weights, table.good_above, table.num_good)
            return partial_area(fpr, _weighted_share(weights, above, totals), max_x)

        return area

    of_regions = area_under(table.overlap_above, table.num_regions, max_fpr)
    return area_under(table.defect_above, table.num_defect, 1.0), of_regions


def _weighted_share(weights: np.ndarray, above: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Share above each threshold in each draw, from 0 to 1. weights: (D, N), above: (N, T) -> (D, T+2)."""
    share = _divide(weights @ above, (weights @ totals)[:, None])
    return np.pad(share, ((0, 0), (1, 1)), constant_values=((0, 0), (0.0, 1.0)))


def _ratio_statistic(part: np.ndarray, whole: np.ndarray) -> Statistic:
    return lambda weights: _divide(weights @ part.astype(np.float64), weights @ whole.astype(np.float64))


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
