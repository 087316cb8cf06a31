"""The promotion gate: numbers and bounds in, checks and a decision out. Nothing here reads, measures or asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ndpnet.metrics.intervals import TAIL, Spread, margin, refused_share, smallest_difference
from ndpnet.metrics.summary import HEADLINE

Verdict = Literal["pass", "fail", "not available", "not applicable"]

MIN_UNITS = 5  # independent units of each class: fewer can hardly show the spread between units
REFUSED_SHARE = 0.1  # of test sets on which tolerances `auto` refuse a challenger as good as the champion


@dataclass(frozen=True)
class MetricBound:
    """What a metric must reach: at least `floor` itself, and at most `tolerance` below the champion."""

    tolerance: float | Literal["auto"]
    floor: float


@dataclass(frozen=True)
class Bounds:
    """What the gate compares with; the defaults stand in params.yaml."""

    metrics: Mapping[str, MetricBound]
    false_alarm_budget: float
    false_alarm_bound: Literal["lower", "point", "upper"]
    max_type_drop: float
    max_latency_ratio: float
    max_export_difference: float


@dataclass(frozen=True)
class Compared:
    """One metric of both models on the same images, and the spread of challenger - champion; None: it is not known."""

    challenger: float | None
    champion: float | None = None
    spread: Spread | None = None
    is_same_model: bool = False


@dataclass(frozen=True)
class Rate:
    """A measured rate with its exact interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TypeDrop:
    """The defect type that lost most, champion - challenger; negative when every type has gained."""

    defect_type: str
    metric: str
    drop: float


@dataclass(frozen=True)
class Numbers:
    """All that the gate decides by. None: not known, which is never taken for good."""

    has_champion: bool
    metrics: Mapping[str, Compared]
    is_training_pinned: bool | None = None
    is_test_pinned: bool | None = None
    is_git_clean: bool | None = None
    git_changes: str = ""
    is_withdrawn: bool = False
    num_seen: int | None = None
    num_units: int | None = None
    threshold: float | None = None
    false_alarms: Rate | None = None
    worst_type: TypeDrop | None = None
    latency_ratio: float | None = None
    has_export: bool = False
    export_difference: float | None = None


@dataclass(frozen=True)
class Check:
    """One line of the evidence. `is_blocking`: the version may not be promoted because of it."""

    name: str
    number: float | None
    bound: float | None
    verdict: Verdict
    is_blocking: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """For promotion.json."""
        return dict(vars(self))


def decide(numbers: Numbers, bounds: Bounds) -> tuple[Check, ...]:
    """Every check, in the order of the table. The version passes when none is blocking: `has_passed`.

    Not known blocks, except where the test set cannot tell: a metric without masks or good images (one of the chosen
    metrics must be measurable), and defect types.
    """
    return (
        _withdrawn(numbers),
        _flag("training data pinned", numbers.is_training_pinned, "the data that trained it was pinned"),
        _flag("test data pinned", numbers.is_test_pinned, "the data that it is judged on is pinned"),
        _git_clean(numbers),
        _unseen(numbers.num_seen),
        _units(numbers.num_units),
        _threshold(numbers.threshold),
        _false_alarms(numbers.false_alarms, bounds),
        *_metrics(numbers, bounds),
        _types(numbers, bounds.max_type_drop),
        _latency(numbers, bounds.max_latency_ratio),
        _export(numbers, bounds.max_export_difference),
    )


def has_passed(checks: tuple[Check, ...]) -> bool:
    """Whether nothing speaks against the version."""
    return not any(check.is_blocking for check in checks)


def _check(
    name: str,
    number: float | None,
    bound: float | None,
    is_good: bool | None,
    sentence: str,
    *,
    is_required: bool = True,
) -> Check:
    """A check that was made (is_good) or could not be made (None, which blocks where the check is required)."""
    if is_good is None:
        return Check(name, None, bound, "not available", is_required, sentence)
    return Check(name, number, bound, "pass" if is_good else "fail", not is_good, sentence)


def _not_applicable(name: str, bound: float | None, sentence: str) -> Check:
    return Check(name, None, bound, "not applicable", False, sentence)


def _withdrawn(numbers: Numbers) -> Check:
    sentence = "it was champion and was rolled back" if numbers.is_withdrawn else "never rolled back"
    return _check("not rolled back", float(numbers.is_withdrawn), 0.0, not numbers.is_withdrawn, sentence)


def _flag(name: str, is_so: bool | None, claim: str) -> Check:
    sentence = claim if is_so else f"{'nothing says that' if is_so is None else 'it is not so that'} {claim}"
    return _check(name, None if is_so is None else float(is_so), 1.0, is_so, sentence)


def _git_clean(numbers: Numbers) -> Check:
    claim = "it was made from a commit without further changes"
    if numbers.is_git_clean is False:
        claim += f": {numbers.git_changes or 'unknown files'} (commit them, then `ndpnet register` it again)"
    return _flag("git tree clean", numbers.is_git_clean, claim)


def _unseen(num_seen: int | None) -> Check:
    name = "test images unseen"
    if num_seen is None:
        return _check(name, None, 0.0, None, "the test images were not compared with the training images")
    sentence = f"{num_seen} test images are among the training images of one of the models"
    return _check(name, num_seen, 0.0, num_seen == 0, sentence)


def _units(num_units: int | None) -> Check:
    name = "independent test units"
    if num_units is None:
        return _check(name, None, MIN_UNITS, None, "no test set was judged")
    sentence = f"the smaller class of the test set has {num_units} independent units"
    return _check(name, num_units, MIN_UNITS, num_units >= MIN_UNITS, sentence)


def _threshold(threshold: float | None) -> Check:
    sentence = "it has a threshold" if threshold is not None else "without a threshold it gives no verdict"
    return _check("threshold", threshold, None, threshold is not None, sentence)


def _false_alarms(rate: Rate | None, bounds: Bounds) -> Check:
    """By default the rate as measured. The bound of its interval would refuse a model without one false alarm on
    fewer than 72 good images at 5 %; the threshold's guarantee comes from calibration, not from here.
    """
    name, budget = "false-alarm rate", bounds.false_alarm_budget
    if rate is None:
        return _check(name, None, budget, None, "no good test image, or no threshold: false alarms are unknown")
    numbers = {"lower": (rate.low, "lower bound"), "point": (rate.value, "as measured")}
    number, kind = (numbers | {"upper": (rate.high, "upper bound")})[bounds.false_alarm_bound]
    sentence = f"{_percent(rate.value)}, 95 % interval {_percent(rate.low)} to {_percent(rate.high)}; {kind} counts"
    return _check(name, number, budget, number <= budget, sentence)


def _metrics(numbers: Numbers, bounds: Bounds) -> list[Check]:
    measurable = [name for name in bounds.metrics if _value_of(numbers, name) is not None]
    refused = REFUSED_SHARE / max(1, sum(bounds.metrics[name].tolerance == "auto" for name in measurable))
    checks = [
        check
        for name, bound in bounds.metrics.items()
        for check in (_floor(numbers, name, bound.floor), _not_worse(numbers, name, bound.tolerance, refused))
    ]
    count, sentence = len(measurable), f"{len(measurable)} of {len(bounds.metrics)} chosen metrics can be measured here"
    return [_check("metrics measurable", count, 1.0, count >= 1, sentence), *checks]


def _value_of(numbers: Numbers, metric: str) -> float | None:
    return numbers.metrics[metric].challenger if metric in numbers.metrics else None


def _floor(numbers: Numbers, metric: str, floor: float) -> Check:
    value = _value_of(numbers, metric)
    if value is None:
        return _check(metric, None, floor, None, "this test set cannot tell", is_required=False)
    return _check(metric, value, floor, value >= floor, f"{_percent(value)}, at least {_percent(floor)} is asked")


def _not_worse(numbers: Numbers, metric: str, tolerance: float | Literal["auto"], refused: float) -> Check:
    """Whether it is at most `tolerance` worse; `auto`: so wide that an equal one fails on the share `refused`."""
    name, bound = f"{metric} against champion", None if tolerance == "auto" else -tolerance
    compared = numbers.metrics.get(metric)
    if not numbers.has_champion:
        return _not_applicable(name, bound, "there is no champion yet")
    if compared is None or compared.challenger is None:
        return _check(name, None, bound, None, "this test set cannot tell", is_required=False)
    if compared.is_same_model:
        return _check(name, 0.0, bound, True, "the two models give every image the same score")
    if compared.champion is None or compared.spread is None:
        # the test set can tell of the challenger: that it cannot of the champion is no reason to trust
        return _check(name, None, bound, None, "the difference to the champion could not be measured")
    if tolerance == "auto":
        tolerance = margin(compared.spread, TAIL) + margin(compared.spread, refused)
    low = smallest_difference(compared.challenger - compared.champion, compared.spread)
    return _check(name, low, -tolerance, low >= -tolerance, _difference_in_words(compared, low, tolerance))


def _difference_in_words(compared: Compared, low: float, tolerance: float) -> str:
    assert compared.challenger is not None
    assert compared.champion is not None
    assert compared.spread is not None
    points = 100 * (compared.challenger - compared.champion)
    refused = refused_share(compared.spread, tolerance)
    return (
        f"{_percent(compared.challenger)} against {_percent(compared.champion)} ({points:+.1f} points); lower bound of "
        f"the paired difference {100 * low:+.1f} points, {100 * -tolerance:+.1f} allowed: this refuses a challenger "
        f"just as good on {100 * refused:.0f} % of such test sets"
    )


def _types(numbers: Numbers, max_drop: float) -> Check:
    name, worst = "defect types", numbers.worst_type
    if not numbers.has_champion:
        return _not_applicable(name, max_drop, "there is no champion yet")
    if worst is None:
        return _check(name, None, max_drop, None, "this test set cannot tell defect types apart", is_required=False)
    sentence = f"{worst.defect_type} does worst of all: {-100 * worst.drop:+.1f} points of {HEADLINE[worst.metric]}"
    return _check(name, worst.drop, max_drop, worst.drop <= max_drop, sentence)


def _latency(numbers: Numbers, max_ratio: float) -> Check:
    name, ratio = "latency ratio", numbers.latency_ratio
    if not numbers.has_champion:
        return _not_applicable(name, max_ratio, "there is no champion yet")
    if ratio is None:
        return _check(name, None, max_ratio, None, "the two were not timed against each other")
    return _check(name, ratio, max_ratio, ratio <= max_ratio, f"{ratio:.2f} times the champion's time, on this machine")


def _export(numbers: Numbers, max_difference: float) -> Check:
    name, difference = "export parity", numbers.export_difference
    if not numbers.has_export:
        return _not_applicable(name, max_difference, "no exported engine is registered")
    if difference is None:
        return _check(name, None, max_difference, None, "the exported engine was not compared with the model")
    sentence = f"exported engines differ from torch by up to {difference:.2g}, fp32 in score, others in ROCAUC"
    return _check(name, difference, max_difference, difference <= max_difference, sentence)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
