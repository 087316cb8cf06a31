"""The promotion gate: numbers and bounds in, checks and a decision out. Nothing here reads, measures or asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ndpnet.config_platform import PromotionConfig
from ndpnet.metrics.intervals import TAIL, Spread, margin, refused_share, smallest_difference
from ndpnet.metrics.summary import HEADLINE, MIN_UNITS, Interval
from ndpnet.metrics.threshold import percent_of

Verdict = Literal["pass", "fail", "not available", "not applicable"]

NO_CHAMPION, CANNOT_TELL = "there is no champion yet", "this test set cannot tell"
REFUSED_SHARE = 0.1  # of test sets on which tolerances `auto` refuse a challenger as good as the champion


@dataclass(frozen=True)
class Compared:
    """One metric of both models on the same images, and the spread of challenger - champion; None: it is not known."""

    challenger: float | None
    champion: float | None = None
    spread: Spread | None = None
    is_same_model: bool = False


@dataclass(frozen=True)
class TypeDrop:
    """The defect type that lost most, champion - challenger; negative when every type has gained."""

    defect_type: str
    metric: str
    drop: float


@dataclass(frozen=True)
class Evidence:
    """What was measured of a challenger beside the champion. None: not known, which is never taken for good."""

    test_set: Mapping[str, Any] = field(default_factory=dict)
    num_seen: int | None = None
    num_units: int | None = None
    metrics: Mapping[str, Compared] = field(default_factory=dict)
    false_alarms: Interval | None = None
    worst_type: TypeDrop | None = None
    latency_ratio: float | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    summaries: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Challenger:
    """What registry and package say of a version. None: not known; of export_difference: there is no export."""

    has_champion: bool
    is_training_pinned: bool | None = None
    is_git_clean: bool | None = None
    git_changes: str = ""
    is_withdrawn: bool = False
    threshold: float | None = None
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


def decide(version: Challenger, evidence: Evidence, bounds: PromotionConfig) -> tuple[Check, ...]:
    """Every check, in the order of the table. The version passes when none is blocking: `has_passed`.

    Not known blocks, except where the test set cannot tell: a metric without masks or good images (one of the chosen
    metrics must be measurable), and defect types.
    """
    withdrawn = "it was champion and was rolled back" if version.is_withdrawn else "never rolled back"
    seen = f"{evidence.num_seen} test images are among the training images of one of the models"
    uncompared = "the test images were not compared with the training images"
    units = f"the smaller class of the test set has {evidence.num_units} independent units"
    is_test_pinned = evidence.test_set.get("is_pinned")
    return (
        _check("not rolled back", float(version.is_withdrawn), 0.0, withdrawn),
        _flag("training data pinned", version.is_training_pinned, "the data that trained it was pinned"),
        _flag("test data pinned", is_test_pinned, "the data that it is judged on is pinned"),
        _git_clean(version),
        _check("test images unseen", evidence.num_seen, 0.0, seen, uncompared),
        _check("independent test units", evidence.num_units, MIN_UNITS, units, "no test set was judged", is_least=True),
        _threshold(version.threshold),
        _false_alarms(evidence.false_alarms, bounds),
        *_metrics(evidence.metrics, bounds, has_champion=version.has_champion),
        *_beside_champion(evidence, bounds, has_champion=version.has_champion),
        _export(version.export_difference, bounds.max_export_difference),
    )


def has_passed(checks: tuple[Check, ...]) -> bool:
    """Whether nothing speaks against the version."""
    return not any(check.is_blocking for check in checks)


def passes_floors(summary: Mapping[str, Any], bounds: PromotionConfig) -> bool:
    """Whether a model is worth registering by its own numbers, those that `evaluate` returns.

    Each metric with a floor that the test set could tell must reach it, and the test set must tell one.
    """
    measured = {name: summary[name]["value"] for name in bounds.floors if summary.get(name) is not None}
    is_reached = all(value >= bounds.floors[name] for name, value in measured.items())
    return not bounds.floors or (bool(measured) and is_reached)


def _check(
    name: str,
    number: float | None,
    bound: float,
    sentence: str,
    unknown: str = "",
    *,
    is_least: bool = False,
    is_required: bool = True,
) -> Check:
    """A number beside what it may be at most, or at least; one that is not known blocks where it is required."""
    if number is None:
        return Check(name, None, bound, "not available", is_required, unknown)
    is_good = number >= bound if is_least else number <= bound
    return Check(name, number, bound, "pass" if is_good else "fail", not is_good, sentence)


def _not_applicable(name: str, bound: float | None, sentence: str) -> Check:
    return Check(name, None, bound, "not applicable", False, sentence)


def _flag(name: str, is_so: bool | None, claim: str) -> Check:
    sentence = claim if is_so else f"it is not so that {claim}"
    number = None if is_so is None else float(is_so)
    return _check(name, number, 1.0, sentence, f"nothing says that {claim}", is_least=True)


def _git_clean(version: Challenger) -> Check:
    claim = "it was made from a commit without further changes"
    if version.is_git_clean is False:
        claim += f": {version.git_changes or 'unknown files'} (commit them, then `ndpnet register` it again)"
    return _flag("git tree clean", version.is_git_clean, claim)


def _threshold(threshold: float | None) -> Check:
    if threshold is None:
        return Check("threshold", None, None, "fail", True, "without a threshold it gives no verdict")
    return Check("threshold", threshold, None, "pass", False, "it has a threshold")


def _false_alarms(rate: Interval | None, bounds: PromotionConfig) -> Check:
    """By default the rate as measured. The bound of its interval would refuse a model without one false alarm on
    fewer than 72 good images at 5 %; the threshold's guarantee comes from calibration, not from here.
    """
    name, budget = "false-alarm rate", bounds.false_alarm_budget
    if rate is None:
        return _check(name, None, budget, "", "no good test image, or no threshold: false alarms are unknown")
    kinds = {"lower": ("low", "lower bound"), "point": ("value", "as measured"), "upper": ("high", "upper bound")}
    name_of_end, kind = kinds[bounds.false_alarm_bound]
    value, low, high = (percent_of(rate[end]) for end in ("value", "low", "high"))
    return _check(name, rate[name_of_end], budget, f"{value}, 95 % interval {low} to {high}; {kind} counts")


def _metrics(measured: Mapping[str, Compared], bounds: PromotionConfig, *, has_champion: bool) -> list[Check]:
    compared = {name: measured.get(name, Compared(None)) for name in bounds.tolerances}
    measurable = [name for name in compared if compared[name].challenger is not None]
    refused = REFUSED_SHARE / max(1, sum(bounds.tolerances[name] == "auto" for name in measurable))
    checks = [
        check
        for name, tolerance in bounds.tolerances.items()
        for check in (
            _floor(name, compared[name].challenger, bounds.floors.get(name, 0.0)),
            _not_worse(name, compared[name] if has_champion else None, tolerance, refused),
        )
    ]
    sentence = f"{len(measurable)} of {len(compared)} chosen metrics can be measured here"
    return [_check("metrics measurable", len(measurable), 1.0, sentence, is_least=True), *checks]


def _floor(metric: str, value: float | None, floor: float) -> Check:
    sentence = "" if value is None else f"{percent_of(value)}, at least {percent_of(floor)} is asked"
    return _check(metric, value, floor, sentence, CANNOT_TELL, is_least=True, is_required=False)


def _not_worse(metric: str, compared: Compared | None, tolerance: float | Literal["auto"], refused: float) -> Check:
    """Whether it is at most `tolerance` worse; `auto`: so wide that an equal one fails on the share `refused`."""
    name, bound = f"{metric} against champion", None if tolerance == "auto" else -tolerance
    if compared is None:
        return _not_applicable(name, bound, NO_CHAMPION)
    if compared.challenger is None and compared.champion is None:
        return Check(name, None, bound, "not available", False, CANNOT_TELL)
    if compared.is_same_model:
        return Check(name, 0.0, bound, "pass", False, "the two models give every image the same score")
    if compared.challenger is None or compared.champion is None or compared.spread is None:
        # the test set can tell of one of them: that it cannot of the other is no reason to trust
        return Check(name, None, bound, "not available", True, "the difference to the champion could not be measured")
    if tolerance == "auto":
        tolerance = margin(compared.spread, TAIL) + margin(compared.spread, refused)
    low = smallest_difference(compared.challenger - compared.champion, compared.spread)
    return _check(name, low, -tolerance, _difference_in_words(compared, low, tolerance), is_least=True)


def _difference_in_words(compared: Compared, low: float, tolerance: float) -> str:
    assert compared.challenger is not None
    assert compared.champion is not None
    assert compared.spread is not None
    points = 100 * (compared.challenger - compared.champion)
    refused = refused_share(compared.spread, tolerance)
    challenger, champion = percent_of(compared.challenger), percent_of(compared.champion)
    return (
        f"{challenger} against {champion} ({points:+.1f} points); lower bound of the paired difference "
        f"{100 * low:+.1f} points, {100 * -tolerance:+.1f} allowed: this refuses a challenger just as good on "
        f"{100 * refused:.0f} % of such test sets"
    )


def _beside_champion(evidence: Evidence, bounds: PromotionConfig, *, has_champion: bool) -> list[Check]:
    names = {"defect types": bounds.max_type_drop, "latency ratio": bounds.max_latency_ratio}
    if not has_champion:
        return [_not_applicable(name, bound, NO_CHAMPION) for name, bound in names.items()]
    ratio, unknown = evidence.latency_ratio, "the two were not timed against each other"
    sentence = "" if ratio is None else f"{ratio:.2f} times the champion's time, on this machine"
    return [
        _types(evidence.worst_type, bounds.max_type_drop),
        _check("latency ratio", ratio, bounds.max_latency_ratio, sentence, unknown),
    ]


def _types(worst: TypeDrop | None, max_drop: float) -> Check:
    name = "defect types"
    if worst is None:
        return Check(name, None, max_drop, "not available", False, "this test set cannot tell defect types apart")
    sentence = f"{worst.defect_type} does worst of all: {-100 * worst.drop:+.1f} points of {HEADLINE[worst.metric]}"
    return _check(name, worst.drop, max_drop, sentence)


def _export(difference: float | None, max_difference: float) -> Check:
    name = "export parity"
    if difference is None:
        return _not_applicable(name, max_difference, "no exported engine is registered")
    sentence = f"exported engines differ from torch by up to {difference:.2g}, fp32 in score, others in ROCAUC"
    return _check(name, difference, max_difference, sentence)
