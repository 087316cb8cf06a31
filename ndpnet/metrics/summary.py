"""metrics.json: every metric with its interval, over all test images and per defect type, and what is n/a and why."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ndpnet.metrics import exact, intervals, weighted
from ndpnet.metrics.streaming import PixelTally
from ndpnet.table import format_rows

GOOD = "good"
MIN_UNITS = 5  # independent units of a class: fewer can hardly show the spread between units
HEADLINE = {
    "image_auroc": "image ROCAUC",
    "pixel_auroc": "pixel ROCAUC",
    "pro_auc": "PROAUC",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "recall_overlap": "recall by overlap",
    "false_alarm_rate": "false alarms",
}
OF_TYPE = ("image_auroc", "pixel_auroc", "pro_auc", "recall")  # in the table of defect types

Interval = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """Everything measured on N test images, of any mix of sizes.

    With a tally of the images' pixels instead of maps and masks pixel metrics are within an error that a note states.
    Pixel fields leave out defective images without a mask.
    """

    groups: np.ndarray  # str (N,): images of one are not independent
    types: np.ndarray  # str (N,), GOOD: free of defects
    scores: np.ndarray  # float64 (N,)
    threshold_record: dict[str, Any] | None
    maps: exact.Planes | None = None  # float32 (N, H, W), or N times (H, W)
    masks: exact.Planes | None = None  # (N, H, W), or N times (H, W); not 0: defect
    roi: np.ndarray | None = None  # bool (H, W): pixels outside do not count
    tally: PixelTally | None = None  # in the place of maps: of too many images to keep them

    def __post_init__(self) -> None:
        assert 0 < len(self.groups) == len(self.types) == len(self.scores)
        assert self.maps is None or len(self.maps) == len(self.scores)
        exact.check_scores(self.scores, self.labels)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) bool, True = defective."""
        return self.types != GOOD

    @property
    def num_units(self) -> int:
        """Independent units of the smaller class, of those that the test set has."""
        classes = (self.labels, ~self.labels)
        return min(np.unique(self.groups[of_class]).size for of_class in classes if of_class.any())

    @cached_property
    def planes(self) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        """Maps and masks, checked; bool masks. None without one of them."""
        if self.maps is None or self.masks is None:
            return None
        return exact.check_maps(self.maps, self.masks, self.roi)

    @cached_property
    def peaks(self) -> np.ndarray | None:
        """(N,): highest anomaly inside the mask, NaN where that is empty; None without masks and maps."""
        if self.tally is not None:
            return np.array(self.tally.peaks)
        return None if self.planes is None else exact.peaks_inside(*self.planes, self.roi)

    @cached_property
    def has_truth(self) -> np.ndarray:
        """(N,) bool: the pixels of this image count."""
        if self.peaks is None:
            return np.zeros(self.types.size, dtype=bool)
        return ~self.labels | ~np.isnan(self.peaks)

    @cached_property
    def pixels(self) -> weighted.PixelFigures | None:
        """Pixel metrics of all images whose pixels count; None without a good or a defective one."""
        if self.tally is not None:
            return self.tally.figures()
        return None if self.planes is None else weighted.pixel_figures(*self.planes_of(self.has_truth), roi=self.roi)

    def planes_of(self, rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Maps and masks of some of the images. rows: bool (N,)."""
        assert self.planes is not None
        maps, masks = (exact.take_planes(planes, rows) for planes in self.planes)
        return maps, masks

    @property
    def threshold(self) -> float | None:
        """Scores above it are called defective."""
        return None if self.threshold_record is None else float(self.threshold_record["value"])

    @property
    def has_masks(self) -> bool:
        """Whether anybody said where the defects are."""
        return self.masks is not None or self.tally is not None

    @property
    def calls(self) -> np.ndarray:
        """(N,) bool: called defective; with a threshold alone."""
        assert self.threshold is not None
        return self.scores > self.threshold

    @property
    def overlaps(self) -> np.ndarray:
        """(N,) bool: called defective, and what exceeds the threshold meets the defect."""
        assert self.peaks is not None
        return self.calls & (self.peaks > self.threshold)


def summarise(test: ScoredImages, *, category: str) -> dict[str, Any]:
    """The contents of metrics.json. n/a is None, with the reason in "notes".

    Intervals are 95 % and take groups, not images, as independent (`intervals`).
    """
    every = np.ones(test.types.size, dtype=bool)
    labels = test.labels
    measured = {"image_auroc": _image_auroc(test, every), **_pixel_metrics(test, every), **_decision_metrics(test)}
    return {
        "category": category,
        "num_good": int((~labels).sum()),
        "num_defective": int(labels.sum()),
        "has_masks": test.has_masks,
        **measured,
        "confusion": None if test.threshold is None else exact.confusion(test.scores, labels, test.threshold),
        "by_defect_type": {str(name): _of_type(test, name) for name in np.unique(test.types[labels])},
        "threshold": test.threshold_record,
        "notes": _notes(test),
    }


def headline_of(summary: dict[str, Any]) -> dict[str, float]:
    """The metrics of all test images without their intervals, as a table of runs shows them; none that is n/a."""
    return {key: summary[key]["value"] for key in HEADLINE if summary[key] is not None}


def format_table(summary: dict[str, Any]) -> str:
    """The summary as plain text for a terminal: metrics in % with their intervals, then one line per defect type."""
    title = f"{summary['category']}: {summary['num_good']} good and {summary['num_defective']} defective test images"
    rows = [("", "%", "95 % interval"), *((label, *_cells(summary[key])) for key, label in HEADLINE.items())]
    lines = [title, *format_rows(rows, are_numbers=True)]
    if by_type := summary["by_defect_type"]:
        head = ("defect type", "images", *(HEADLINE[key] for key in OF_TYPE))
        of_types = [
            (name, str(of["count"]), *(" ".join(_cells(of[key])) for key in OF_TYPE)) for name, of in by_type.items()
        ]
        lines += ["", *format_rows([head, *of_types], are_numbers=True)]
    if summary["threshold"] is not None:
        lines += ["", f"threshold {summary['threshold']['value']:.4g}. {summary['threshold']['statement']}"]
    return "\n".join([*lines, *(f"note: {note}" for note in summary["notes"])])


def _image_auroc(test: ScoredImages, rows: np.ndarray) -> Interval | None:
    scores, labels = test.scores[rows], test.labels[rows]
    value = exact.image_auroc(scores, labels)
    if value is None:
        return None
    spread = intervals.jackknife(weighted.auroc_statistic(scores, labels), test.groups[rows], (labels, ~labels))
    return _interval(value, intervals.metric_interval(value, spread, chance_share=intervals.CHANCE_SHARE))


def _pixel_metrics(test: ScoredImages, rows: np.ndarray) -> dict[str, Interval | None]:
    rows = rows & test.has_truth
    values = None if test.pixels is None else _pixel_values(test, test.pixels, rows)
    if test.pixels is None or values is None:
        return {"pixel_auroc": None, "pro_auc": None}
    statistics = weighted.pixel_statistics(test.pixels.table.take(rows[test.has_truth]))
    named = zip(("pixel_auroc", "pro_auc"), values, statistics, strict=True)
    groups, labels = test.groups[rows], test.labels[rows]
    return {
        name: _interval(value, intervals.metric_interval(value, intervals.jackknife(statistic, groups, (labels,))))
        for name, value, statistic in named
    }


def _pixel_values(test: ScoredImages, of_all: weighted.PixelFigures, rows: np.ndarray) -> tuple[float, float] | None:
    """Pixel ROCAUC and PROAUC; with a tally, `rows` are all images of their types whose pixels count."""
    if np.array_equal(rows, test.has_truth):
        return of_all.values
    if test.tally is None:
        return exact.pixel_metrics(*test.planes_of(rows), roi=test.roi)
    streamed = test.tally.stream_of(np.unique(test.types[rows])).metrics()
    return None if streamed is None else streamed[0]


def _decision_metrics(test: ScoredImages) -> dict[str, Interval | None]:
    """Precision and F1 need both classes: without good images precision is 1 whatever the model does."""
    if test.threshold is None:
        return dict.fromkeys(("f1", "precision", "recall", "recall_overlap", "false_alarm_rate"))
    labels, has_both = test.labels, test.labels.any() and not test.labels.all()
    return {
        "f1": _f1(test) if has_both else None,
        "precision": _rate(test, labels, test.calls) if has_both else None,
        "recall": _rate(test, test.calls, labels),
        "recall_overlap": _recall_overlap(test, labels),
        "false_alarm_rate": _rate(test, test.calls, ~labels),
    }


def _f1(test: ScoredImages) -> Interval:
    labels, calls = test.labels, test.calls
    assert test.threshold is not None
    value = exact.f1(exact.confusion(test.scores, labels, test.threshold))
    assert value is not None  # there are defective images
    spread = intervals.jackknife(weighted.f1_statistic(calls, labels), test.groups, (labels | calls,))
    return _interval(value, intervals.metric_interval(value, spread, chance_share=intervals.CHANCE_SHARE))


def _of_type(test: ScoredImages, name: str) -> dict[str, Any]:
    """One defect type against all good images."""
    is_type = test.types == name
    rows = is_type | ~test.labels
    rates = dict.fromkeys(("recall", "recall_overlap"))
    if test.threshold is not None:
        rates = {"recall": _rate(test, test.calls, is_type), "recall_overlap": _recall_overlap(test, is_type)}
    return {
        "count": int(is_type.sum()),
        "image_auroc": _image_auroc(test, rows),
        **_pixel_metrics(test, rows),
        **rates,
    }


def _recall_overlap(test: ScoredImages, rows: np.ndarray) -> Interval | None:
    """Of the defective images with a mask, those found where the defect is."""
    return None if test.peaks is None else _rate(test, test.overlaps, rows & test.has_truth)


def _rate(test: ScoredImages, hits: np.ndarray, rows: np.ndarray) -> Interval | None:
    """Share of `rows` that are hits; None without rows. bool (N,) each."""
    if not rows.any():
        return None
    return _interval(hits[rows].mean(), intervals.rate_interval(hits[rows], test.groups[rows]))


def _interval(value: float, bounds: intervals.Bounds) -> Interval:
    """The contract's interval; it holds the value it belongs to, whatever was rounded."""
    return {"value": float(value), "low": float(min(bounds[0], value)), "high": float(max(bounds[1], value))}


def _notes(test: ScoredImages) -> list[str]:
    labels, has_masks = test.labels, test.has_masks
    is_silent = test.threshold is not None and not test.calls.any()
    num_unmasked = int((~test.has_truth).sum()) if has_masks else 0
    errors = (0.0, 0.0) if test.pixels is None else test.pixels.errors
    candidates = [
        (labels.all(), "No good test images: image ROCAUC, precision, F1 and the false-alarm rate are n/a."),
        (not labels.any(), "No defective test images: ROCAUC, PROAUC, precision, recall and F1 are n/a."),
        (not has_masks, "No masks: image metrics only."),
        (
            test.tally is not None and test.pixels is not None,
            "Too many test images to keep their maps: "
            f"pixel ROCAUC to within {errors[0]:.1g}, PROAUC to within {errors[1]:.1g}.",
        ),
        (test.threshold is None, "No threshold: F1, precision, recall and the false-alarm rate are n/a."),
        (is_silent and labels.any() and not labels.all(), "No test image is called defective: precision is n/a."),
        (
            num_unmasked > 0,
            f"{num_unmasked} defective images have an empty mask: left out of the pixel metrics and recall by overlap.",
        ),
        (
            test.num_units < MIN_UNITS,
            f"A class has {test.num_units} < {MIN_UNITS} independent units: intervals say little.",
        ),
    ]
    return [sentence for applies, sentence in candidates if applies]


def _cells(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "n/a", ""
    value, low, high = (f"{100 * interval[key]:.1f}" for key in ("value", "low", "high"))
    return value, f"{low} to {high}"
