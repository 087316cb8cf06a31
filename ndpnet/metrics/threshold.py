"""The decision threshold: hierarchical split conformal (Lee, Barber, Willett 2023), one false-alarm rate guaranteed."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

MAX_DENOMINATOR = 10**12  # reads the float 0.01 as the 1/100 that was meant
MIN_RATE = 1e-6
NUM_HIGHEST = 6  # calibration images that are named
MAX_PROMISES = 64  # thresholds whose promise is on record


def fit_threshold(scores: np.ndarray, groups: Sequence[str], *, target_rate: float = 0.01) -> dict[str, Any]:
    """Threshold record: P(new good image of a new unit scores > value) <= guaranteed_rate. scores, groups: (N,).

    Each image of unit k weighs 1/((K+1) N_k) and infinity 1/(K+1); the value is the (1 - target_rate) quantile. With
    one image per unit it is the ceil((n+1)(1-target_rate))-th smallest score. unit_rate: the same promise for the
    highest score of a new unit; of K units at hand k exceed the value, so a new one does with (k+1)/(K+1).
    ValueError: no or non-finite scores.
    """
    scores = _check(scores, groups, target_rate)
    rate = Fraction(target_rate).limit_denominator(MAX_DENOMINATOR)
    num_units = len(set(groups))
    # the quantile is infinite when infinity's own weight 1/(K+1) exceeds the rate: the maximum then guarantees 1/(K+1)
    is_enough = rate * (num_units + 1) >= 1
    value = _conformal_quantile(scores, groups, rate * (num_units + 1) - 1) if is_enough else float(scores.max())
    record = {
        "value": value,
        "target_rate": float(target_rate),
        "guaranteed_rate": float(target_rate) if is_enough else 1.0 / (num_units + 1),
        "unit_rate": (len({group for group, score in zip(groups, scores, strict=True) if score > value}) + 1)
        / (num_units + 1),
        "num_units": num_units,
        "num_images": int(scores.size),
        "units_needed": math.ceil(1 / rate) - 1,
    }
    return {**record, "statement": _statement(record)}


def fit_review(scores: np.ndarray, groups: Sequence[str], *, target_rate: float, review_rate: float) -> dict[str, Any]:
    """Lower bound of the scores that a person looks at: P(new good image scores > value) <= guaranteed_rate.

    That rate is target_rate + review_rate: false alarms and good images sent to review. ValueError: as `fit_threshold`.
    """
    total = target_rate + review_rate
    if not (review_rate > 0 and total < 1):
        raise ValueError(f"review_rate is {review_rate}: choose one above 0 and, with {target_rate}, below 1")
    fitted = fit_threshold(scores, groups, target_rate=total)
    share = percent_of(fitted["guaranteed_rate"])
    statement = f"At most {share} of new good images are sent to review or called defective."
    if fitted["value"] >= fit_threshold(scores, groups, target_rate=target_rate)["value"]:
        statement += f" But {fitted['num_units']} calibration units are too few for a second threshold below the first."
    return {
        "value": fitted["value"],
        "review_rate": float(review_rate),
        "guaranteed_rate": fitted["guaranteed_rate"],
        "statement": statement,
    }


def highest_scores(
    paths: Sequence[str], scores: np.ndarray, groups: Sequence[str], *, target_rate: float
) -> list[dict[str, Any]]:
    """The images that the threshold hangs on, highest first: {path, score, value_without}. All: (N,).

    value_without: the threshold if that image had not been there; None of the only one.
    """
    scores = np.asarray(scores, dtype=np.float64)
    rows = []
    for index in np.argsort(-scores, kind="stable")[:NUM_HIGHEST]:
        others = [group for place, group in enumerate(groups) if place != index]
        fitted = fit_threshold(np.delete(scores, index), others, target_rate=target_rate) if others else None
        without = None if fitted is None else fitted["value"]
        rows.append({"path": paths[index], "score": float(scores[index]), "value_without": without})
    return rows


def promised_rates(scores: np.ndarray, groups: Sequence[str]) -> list[list[float]]:
    """What other thresholds would promise: [threshold, rate], thresholds rising. scores, groups: (N,).

    Between two of them the lower one's rate holds, below the first one none: 1. At most MAX_PROMISES, evenly spread.
    """
    values = np.unique(np.asarray(scores, dtype=np.float64))
    thresholds = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_PROMISES)).round().astype(int))]
    return [[float(value), promised_rate(scores, groups, value)] for value in thresholds]


def promised_rate(scores: Sequence[float] | np.ndarray, groups: Sequence[str], threshold: float) -> float:
    """At most this share of new good images of new units is above a threshold. scores, groups: (N,)."""
    sizes = Counter(groups)
    shares = np.array([1 / sizes[group] for group in groups])
    return float((1 + shares[np.asarray(scores) > threshold].sum()) / (len(sizes) + 1))


def _conformal_quantile(scores: np.ndarray, groups: Sequence[str], budget: Fraction) -> float:
    """Smallest score above which images weigh at most `budget`, each 1/N_k; in fractions, so exact at the boundary."""
    unit_sizes = Counter(groups)
    spent = Fraction(0)
    for index in np.argsort(-scores, kind="stable"):
        spent += Fraction(1, unit_sizes[groups[index]])
        if spent > budget:
            return float(scores[index])
    raise AssertionError("all units together weigh more than any budget of a rate below 1")


def _check(scores: np.ndarray, groups: Sequence[str], target_rate: float) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if not MIN_RATE <= target_rate < 1.0:
        raise ValueError(f"target_rate is {target_rate}: choose one from {MIN_RATE} to below 1, e.g. 0.01")
    if scores.size == 0:
        raise ValueError("no calibration scores (set data.calibration_fraction above 0 and prepare again)")
    if scores.shape != (len(groups),):
        raise ValueError(f"{scores.shape} calibration scores for {len(groups)} groups: give one group per score")
    if not np.isfinite(scores).all():
        raise ValueError("calibration scores contain NaN or infinity: the model diverged, train it again")
    return scores


def _statement(record: dict[str, Any]) -> str:
    num_units, target = record["num_units"], percent_of(record["target_rate"])
    units = f"{num_units} independent calibration unit{'s' if num_units > 1 else ''}"
    if num_units < record["units_needed"]:
        best, needed = percent_of(record["guaranteed_rate"]), record["units_needed"]
        return (
            f"On average at most {best} false alarms on new good images, not the {target} asked for: {units}; "
            f"{needed} would do."
        )
    return (
        f"At most {target} false alarms on new good images{_of_units(record)}: on average, while the line stays as it "
        f"was; set by {units}."
    )


def _of_units(record: dict[str, Any]) -> str:
    """The promise for who counts units, if they have several images."""
    if record["num_images"] == record["num_units"]:
        return ""
    per_unit = record["num_images"] / record["num_units"]
    return f" ({percent_of(record['unit_rate'])} of units with {per_unit:.3g} images)"


def percent_of(rate: float) -> str:
    """A rate for people; a small one is never shown as none."""
    return f"{100 * rate:.1f} %" if rate >= 0.01 or rate == 0 else f"{100 * rate:.2g} %"
