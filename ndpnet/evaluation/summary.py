"""metrics.json: every metric with its interval, over all test images and per defect type, and what is n/a and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndpnet.evaluation import bootstrap, metrics
from ndpnet.evaluation.streaming import PixelTally

GOOD = "good"
MAX_PIXEL_DRAWS = 300
MIN_UNITS = 5  # fewer independent units than this cannot show the spread between units
MIN_DRAWS = 2
HEADLINE = {
    "image_auroc": "image ROCAUC",
    "pixel_auroc": "pixel ROCAUC",
    "pro_auc": "PROAUC",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "false_alarm_rate": "false alarms",
}

Interval = dict[str, float]


@dataclass(frozen=True)
class ScoredImages:
    """Everything measured on N test images. The pixel fields leave out defective images without a mask."""

    groups: np.ndarray
    types: np.ndarray
    scores: np.ndarray
    maps: metrics.Planes | None
    masks: metrics.Planes | None
    roi: np.ndarray | None
    tally: PixelTally | None  # in the place of maps and masks: of too many images to keep them
    has_truth: np.ndarray  # (N,) bool: the pixels of this image count
    table: bootstrap.PixelTable | None
    threshold: float | None
    seed: int
    num_draws: int

    @property
    def has_masks(self) -> bool:
        """Whether anybody said where the defects are."""
        return self.masks is not None or self.tally is not None

    @property
    def labels(self) -> np.ndarray:
        """(N,) bool, True = defective."""
        return self.types != GOOD

    def bounds(
        self, statistic: bootstrap.Statistic, rows: np.ndarray, num_draws: int | None = None
    ) -> bootstrap.Bounds | None:
        """Bootstrap interval of a statistic over the images `rows`, a bool mask (N,)."""
        num_draws = self.num_draws if num_draws is None else num_draws
        return bootstrap.bootstrap_interval(
            statistic, self.groups[rows], self.labels[rows], num_draws=num_draws, seed=self.seed
        )


def summarise(
    *,
    category: str,
    records_groups: Sequence[str],
    defect_types: Sequence[str],
    scores: np.ndarray,
    threshold: dict[str, Any] | None,
    maps: metrics.Planes | None = None,
    masks: metrics.Planes | None = None,
    roi: np.ndarray | None = None,
    tally: PixelTally | None = None,
    seed: int = 0,
    num_draws: int = 1000,
) -> dict[str, Any]:
    """The contents of metrics.json. groups, types ("good" = defect-free), scores: (N,); maps, masks: (N, H, W).

    With a tally of the images' pixels instead of maps and masks pixel metrics are within an error that a note states.
    Maps and masks may be of any mix of sizes; only pixels inside `roi`, bool (H, W), count. Intervals are 95 %
    bootstraps over groups; recall and false_alarm_rate have Clopper-Pearson ones, which take images as independent,
    widened to the bootstrap's where images share groups. n/a is None, with the reason in "notes".
    """
    planes = {"maps": maps, "masks": masks, "roi": roi, "tally": tally}
    test = score_images(records_groups, defect_types, scores, threshold, **planes, seed=seed, num_draws=num_draws)
    every = np.ones(test.types.size, dtype=bool)
    labels = test.labels
    has_threshold = test.threshold is not None
    intervals = {"image_auroc": _image_auroc(test, every), **_pixel_metrics(test, every), **_decision_metrics(test)}
    return {
        "category": category,
        "num_good": int((~labels).sum()),
        "num_defective": int(labels.sum()),
        "has_masks": test.has_masks,
        **intervals,
        "confusion": metrics.confusion(test.scores, labels, test.threshold) if has_threshold else None,
        "by_defect_type": {str(name): _of_type(test, name) for name in np.unique(test.types[labels])},
        "threshold": threshold,
        "notes": _notes(test, intervals),
    }


def headline_of(summary: dict[str, Any]) -> dict[str, float]:
    """The metrics of all test images without their intervals, as a table of runs shows them; none that is n/a."""
    return {key: summary[key]["value"] for key in HEADLINE if summary[key] is not None}


def format_table(summary: dict[str, Any]) -> str:
    """The summary as plain text for a terminal: metrics in % with their intervals, then one line per defect type."""
    title = f"{summary['category']}: {summary['num_good']} good and {summary['num_defective']} defective test images"
    lines = [title, f"{'':<16}{'%':>5}  95 % interval"]
    lines += [f"{label:<16}{_cell(summary[key])}" for key, label in HEADLINE.items()]
    if summary["by_defect_type"]:
        lines += ["", *_type_lines(summary["by_defect_type"])]
    if summary["threshold"] is not None:
        lines += ["", f"threshold {summary['threshold']['value']:.4g}. {summary['threshold']['statement']}"]
    return "\n".join([*lines, *(f"note: {note}" for note in summary["notes"])])


def score_images(
    groups: Sequence[str],
    types: Sequence[str],
    scores: np.ndarray,
    threshold: dict[str, Any] | None,
    *,
    maps: metrics.Planes | None,
    masks: metrics.Planes | None,
    roi: np.ndarray | None,
    tally: PixelTally | None,
    seed: int,
    num_draws: int,
) -> ScoredImages:
    """A test set's images with all that metrics and their intervals are computed from; all sequences (N,)."""
    groups, types = np.asarray(groups, dtype=str), np.asarray(types, dtype=str)
    if not groups.size == types.size == np.size(scores) or groups.size == 0:
        sizes = f"{groups.size} groups, {types.size} defect types, {np.size(scores)} scores"
        raise ValueError(f"{sizes}: give one of each per test image, and at least one image")
    if num_draws < MIN_DRAWS:
        raise ValueError(f"num_draws is {num_draws}: an interval needs at least {MIN_DRAWS} bootstrap draws, e.g. 1000")
    scores, labels = metrics.check_scores(scores, types != GOOD)
    has_truth, table = np.zeros(types.size, dtype=bool), None
    if maps is not None and masks is not None:
        maps, masks = metrics.check_maps(maps, masks, roi)
        if len(maps) != types.size:
            raise ValueError(f"{len(maps)} anomaly maps for {types.size} test images: give one map per image")
        has_truth = ~labels | np.array([metrics.inside(mask, roi).any() for mask in masks])
        if has_truth.any():
            counted = (metrics.take_planes(planes, has_truth) for planes in (maps, masks))
            table = bootstrap.pixel_table(*counted, roi=roi)
    if tally is not None:
        has_truth, table = np.array(tally.has_truth), tally.table()
    value = None if threshold is None else float(threshold["value"])
    return ScoredImages(groups, types, scores, maps, masks, roi, tally, has_truth, table, value, seed, num_draws)


def _image_auroc(test: ScoredImages, rows: np.ndarray) -> Interval | None:
    scores, labels = test.scores[rows], test.labels[rows]
    value = metrics.image_auroc(scores, labels)
    if value is None:
        return None
    return _interval(value, test.bounds(bootstrap.auroc_statistic(scores, labels), rows))


def _pixel_metrics(test: ScoredImages, rows: np.ndarray) -> dict[str, Interval | None]:
    rows = rows & test.has_truth
    values = None if test.table is None else _pixel_values(test, rows)
    if values is None:
        return {"pixel_auroc": None, "pro_auc": None}
    table = test.table.take(rows[test.has_truth])
    statistics = (bootstrap.pixel_auroc_statistic(table), bootstrap.pro_statistic(table))
    num_draws = min(test.num_draws, MAX_PIXEL_DRAWS)
    once = np.ones((1, int(rows.sum())))
    intervals = []
    for value, statistic in zip(values, statistics, strict=True):
        bounds = test.bounds(statistic, rows, num_draws)
        # the grid's own error, known on the full sample, is taken off the draws
        intervals.append(_interval(value, bounds, shift=value - float(statistic(once)[0])))
    return dict(zip(("pixel_auroc", "pro_auc"), intervals, strict=True))


def _pixel_values(test: ScoredImages, rows: np.ndarray) -> tuple[float, float] | None:
    """Pixel ROCAUC and PROAUC; with a tally, `rows` are all images of their types whose pixels count."""
    if test.tally is None:
        counted = (metrics.take_planes(planes, rows) for planes in (test.maps, test.masks))
        return metrics.pixel_metrics(*counted, roi=test.roi)
    streamed = test.tally.stream_of(np.unique(test.types[rows])).metrics()
    return None if streamed is None else (streamed.pixel_auroc, streamed.pro_auc)


def _decision_metrics(test: ScoredImages) -> dict[str, Interval | None]:
    """Precision and F1 need both classes: without good images precision is 1 whatever the model does."""
    if test.threshold is None:
        return dict.fromkeys(("f1", "precision", "recall", "false_alarm_rate"))
    labels, every = test.labels, np.ones(test.types.size, dtype=bool)
    calls, counts = test.scores > test.threshold, metrics.confusion(test.scores, labels, test.threshold)
    has_both = labels.any() and not labels.all()
    f1, precision = (metrics.f1(counts), metrics.precision(counts)) if has_both else (None, None)
    return {
        "f1": _interval(f1, test.bounds(bootstrap.f1_statistic(calls, labels), every)),
        "precision": _interval(precision, test.bounds(bootstrap.precision_statistic(calls, labels), every)),
        "recall": _rate(test, labels),
        "false_alarm_rate": _rate(test, ~labels),
    }


def _of_type(test: ScoredImages, name: str) -> dict[str, Any]:
    """One defect type against all good images."""
    is_type = test.types == name
    rows = is_type | ~test.labels
    recall = None if test.threshold is None else _rate(test, is_type)
    image_auroc = _image_auroc(test, rows)
    return {"count": int(is_type.sum()), "image_auroc": image_auroc, **_pixel_metrics(test, rows), "recall": recall}


def _rate(test: ScoredImages, rows: np.ndarray) -> Interval | None:
    """Share of `rows` called defective with Clopper-Pearson, widened to the bootstrap where images share groups."""
    calls = test.scores[rows] > test.threshold
    if calls.size == 0:
        return None
    low, high = bootstrap.clopper_pearson(int(calls.sum()), calls.size)
    if np.unique(test.groups[rows]).size < calls.size:
        bounds = test.bounds(lambda weights: weights @ calls / weights.sum(axis=1), rows)
        low, high = min(low, bounds[0]), max(high, bounds[1])
    return _interval(calls.mean(), (low, high))


def _interval(value: float | None, bounds: bootstrap.Bounds | None, *, shift: float = 0.0) -> Interval | None:
    """The contract's interval; a percentile interval is stretched to hold the value it belongs to."""
    if value is None or bounds is None:
        return None
    low, high = (min(max(bound + shift, 0.0), 1.0) for bound in bounds)
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}


def _notes(test: ScoredImages, intervals: dict[str, Interval | None]) -> list[str]:
    labels, has_masks = test.labels, test.has_masks
    candidates = [
        (labels.all(), "No good test images: image ROCAUC, precision, F1 and the false-alarm rate are n/a."),
        (not labels.any(), "No defective test images: ROCAUC, PRO, precision, recall and F1 are n/a."),
        (not has_masks, "No masks: image metrics only."),
        (test.masks is not None and test.maps is None, "No anomaly maps: image metrics only."),
        *_error_notes(test),
        (test.threshold is None, "No threshold: F1, precision, recall and the false-alarm rate are n/a."),
        *_interval_notes(test, intervals),
    ]
    return [sentence for applies, sentence in candidates if applies]


def _error_notes(test: ScoredImages) -> list[tuple[bool, str]]:
    streamed = None if test.tally is None else test.tally.stream_of(test.tally.streams).metrics()
    if streamed is None:
        return []
    errors = f"pixel ROCAUC to within {streamed.pixel_auroc_error:.1g}, PROAUC to within {streamed.pro_auc_error:.1g}"
    return [(True, f"Too many test images to keep their maps: {errors}.")]


def _interval_notes(test: ScoredImages, intervals: dict[str, Interval | None]) -> list[tuple[bool, str]]:
    labels = test.labels
    has_pixels = test.has_masks and (test.maps is not None or test.tally is not None)
    num_unmasked = int((~test.has_truth).sum()) if has_pixels else 0
    num_units = [np.unique(test.groups[of_class]).size for of_class in (labels, ~labels) if of_class.any()]
    perfect = [name for name, interval in intervals.items() if interval is not None and interval["low"] == 1.0]
    return [
        (num_unmasked > 0, f"{num_unmasked} defective images have an empty mask: left out of the pixel metrics."),
        (
            min(num_units) < MIN_UNITS,
            f"A class has {min(num_units)} < {MIN_UNITS} independent units: its intervals are too narrow.",
        ),
        (
            len(perfect) > 0,
            f"100 % in every resample: {', '.join(perfect)}. An interval without width is no certainty.",
        ),
    ]


def _type_lines(by_defect_type: dict[str, dict[str, Any]]) -> list[str]:
    width = max(len("defect type"), *(len(name) for name in by_defect_type)) + 2
    heads = "".join(f"{head:<23}" for head in ("image ROCAUC", "pixel ROCAUC", "PROAUC", "recall"))
    lines = [f"{'defect type':<{width}}{'images':>6}   {heads}".rstrip()]
    for name, entry in by_defect_type.items():
        cells = "".join(f"{_cell(entry[key]):<23}" for key in ("image_auroc", "pixel_auroc", "pro_auc", "recall"))
        lines.append(f"{name:<{width}}{entry['count']:>6}  {cells}".rstrip())
    return lines


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return f"{'n/a':>5}"
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:5.1f}  {low:.1f} to {high:.1f}"
