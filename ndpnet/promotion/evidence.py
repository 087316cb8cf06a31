"""What is known of a version before it may become champion: both models judged now, by one code, on one test set."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ndpnet.data.prepared import Pictures, PreparedData
from ndpnet.evaluation import judging
from ndpnet.inference.inspector import Inspector
from ndpnet.metrics import summary, weighted
from ndpnet.metrics.intervals import Statistic, jackknife
from ndpnet.promotion.gate import Compared, Evidence, TypeDrop

PIXEL_METRICS = ("pixel_auroc", "pro_auc")
RANKING_METRICS = ("image_auroc", *PIXEL_METRICS)  # of a defect type: a rate over a handful of images jumps
NUM_TIMED, NUM_WARM = 20, 2  # pairs of predictions
MAX_TIMED_SECONDS = 60.0


@dataclass(frozen=True)
class JudgedModel:
    """One model's answers on the test set, and the summary of them that `evaluate` writes."""

    test: summary.ScoredImages
    summary: dict[str, Any]


# a package, and the prepared folder that it is judged on; its size or mode may differ from the other model's
Side = tuple[Path, Path]


def gather(
    challenger: Side,
    champion: Side | None,
    *,
    metrics: Sequence[str],
    device: str = "cpu",
) -> Evidence:
    """Judge one or two packages on the same test images. ValueError: folders and packages do not fit each other.

    Test images that one of the models was made with are counted, and then nothing is judged.
    """
    sides = [challenger] if champion is None else [challenger, champion]
    prepared = [PreparedData.load(prepared_dir) for _, prepared_dir in sides]
    inspectors = [Inspector.load(package_dir, device=device) for package_dir, _ in sides]
    _check_sides(prepared, inspectors)
    test_set, num_seen = _describe(prepared), count_seen(prepared[0], inspectors)
    if num_seen:
        return Evidence(test_set, num_seen)
    judged = _judge(prepared, inspectors)
    seconds = time_both(inspectors, [data.images("test") for data in prepared])
    first, second = judged[0], judged[1] if champion is not None else None
    names = ("challenger", "champion")
    return Evidence(
        test_set=test_set,
        num_seen=0,
        num_units=first.test.num_units,
        metrics={name: compare(name, first, second) for name in metrics},
        false_alarms=first.summary["false_alarm_rate"],
        worst_type=find_worst_type(first.summary, second.summary, metrics) if second else None,
        latency_ratio=seconds[0] / seconds[1] if second else None,
        milliseconds={name: 1000 * value for name, value in zip(names, seconds, strict=False)},
        summaries={name: judgement.summary for name, judgement in zip(names, judged, strict=False)},
    )


def count_seen(prepared: PreparedData, inspectors: Sequence[Inspector]) -> int:
    """Test images that one of the models was trained, watched or calibrated on."""
    seen = (record for inspector in inspectors for record in inspector.opened_package.manifest().files)
    known = set().union(*(record.known_by for record in seen))
    return sum(bool(record.known_by & known) for record in prepared.records("test"))


def compare(metric: str, challenger: JudgedModel, champion: JudgedModel | None) -> Compared:
    """A metric of both models, and how far the difference of the two scatters.

    Paired: groups of test images are left out for both at once, so what is hard for both cancels out.
    """
    value = _value(challenger.summary, metric)
    before = None if champion is None else _value(champion.summary, metric)
    if champion is None or value is None or before is None:
        return Compared(value, before)
    if value == before and _is_same_model(metric, challenger.test, champion.test):
        return Compared(value, before, is_same_model=True)
    rows, classes = _rows(metric, challenger.test)
    first, second = _statistic(metric, challenger.test), _statistic(metric, champion.test)
    spread = jackknife(
        lambda weights: first(weights) - second(weights),
        challenger.test.groups[rows],
        [members[rows] for members in classes],
    )
    return Compared(value, before, spread if spread.is_known else None)


def find_worst_type(challenger: dict[str, Any], champion: dict[str, Any], metrics: Sequence[str]) -> TypeDrop | None:
    """The defect type and the ranking metric, of the chosen ones, that lost most; None if none can be measured."""
    drops = []
    for defect_type, before in champion["by_defect_type"].items():
        for metric in RANKING_METRICS:
            old, new = before[metric], challenger["by_defect_type"][defect_type][metric]
            if metric in metrics and old is not None and new is not None:
                drops.append(TypeDrop(defect_type, metric, old["value"] - new["value"]))
    return max(drops, key=lambda loss: loss.drop, default=None)


def time_both(inspectors: Sequence[Inspector], images: Sequence[Pictures]) -> list[float]:
    """Median seconds of a prediction by each model, in turn: what else this machine does meets all of them alike."""
    seconds: list[list[float]] = [[] for _ in inspectors]
    deadline = time.monotonic() + MAX_TIMED_SECONDS
    for number in range(NUM_WARM + NUM_TIMED):
        row = number % len(images[0])
        order = range(len(inspectors)) if number % 2 else reversed(range(len(inspectors)))
        for index in order:
            image = np.asarray(images[index][row])
            started = time.perf_counter()
            inspectors[index].predict(image)
            if number >= NUM_WARM:
                seconds[index].append(time.perf_counter() - started)
        if number > NUM_WARM and time.monotonic() > deadline:
            break
    return [median(taken) for taken in seconds]


def _judge(prepared: Sequence[PreparedData], inspectors: Sequence[Inspector]) -> list[JudgedModel]:
    """Both models on their own pictures of the same test images, row by row."""
    judged = []
    for data, inspector in zip(prepared, inspectors, strict=True):
        judging.check_inputs(data, inspector.opened_package)
        judged.append(judging.judge(data, inspector))
    paths = [[record.path for record in test.records] for test in judged]
    if paths[0] != paths[-1]:
        raise ValueError(
            "the regions of interest of the two models leave out other test images: they cannot be compared (give both "
            "the same region, or promote with --force --reason)"
        )
    category = prepared[0].manifest.category
    return [JudgedModel(test, summary.summarise(test, category=category)) for test in judged]


def _is_same_model(metric: str, first: summary.ScoredImages, second: summary.ScoredImages) -> bool:
    """Whether a metric that is the same sees one model: other networks differ in the last bits of every score.

    A ranking has no threshold.
    """
    is_threshold_shared = metric in RANKING_METRICS or first.threshold == second.threshold
    return is_threshold_shared and np.array_equal(first.scores, second.scores)


def _rows(metric: str, test: summary.ScoredImages) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """The images that a metric counts (N,), and the classes of images that it cannot lack: bool (N,) each."""
    labels = test.labels
    if metric in PIXEL_METRICS:
        return test.has_truth, (labels,)  # a defective one without a mask cannot say where it is defective
    return np.ones(labels.size, dtype=bool), (labels, ~labels) if metric == "image_auroc" else (labels,)


def _statistic(metric: str, test: summary.ScoredImages) -> Statistic:
    if metric == "image_auroc":
        return weighted.auroc_statistic(test.scores, test.labels)
    if metric in PIXEL_METRICS:
        assert test.pixels is not None
        return weighted.pixel_statistics(test.pixels.table)[PIXEL_METRICS.index(metric)]
    # recall is precision with the roles exchanged: calls among the defective, not defective among the calls
    return weighted.precision_statistic(test.labels, test.calls)


def _value(summary: dict[str, Any], metric: str) -> float | None:
    return None if summary[metric] is None else summary[metric]["value"]


def _check_sides(prepared: Sequence[PreparedData], inspectors: Sequence[Inspector]) -> None:
    """Refuse another category, and two folders that are not the same test images in the same order."""
    for side, inspector in zip(prepared, inspectors, strict=True):
        category = inspector.opened_package.config["category"]
        if side.manifest.category != category:
            raise ValueError(
                f"{side.folder} is of the category {side.manifest.category!r}, the model of {category!r} "
                "(pass the prepared folder of the model's category)"
            )
    tests = [[(r.sha256, r.mask_sha256, r.group) for r in side.records("test")] for side in prepared]
    if tests[0] != tests[-1]:
        raise ValueError(
            f"{prepared[0].folder} and {prepared[-1].folder} differ in their test images or groups, so the two models "
            "cannot be compared (prepare the same data for both)"
        )


def _describe(prepared: Sequence[PreparedData]) -> dict[str, Any]:
    records, flags = prepared[0].records("test"), [side.settings.get("is_pinned") for side in prepared]
    return {
        "data_hash": prepared[0].manifest.data_hash,
        "num_images": len(records),
        "num_groups": len({record.group for record in records}),
        "is_pinned": None if None in flags else all(flags),
    }
