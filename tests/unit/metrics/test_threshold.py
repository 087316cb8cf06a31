"""The conformal threshold: its exact rank, its boundary, and its guarantee by simulation."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ndpnet.metrics.threshold import fit_review, fit_threshold, highest_scores, promised_rates


def singletons(count: int) -> list[str]:
    return [f"part{index}" for index in range(count)]


@settings(max_examples=40)
@example(98, 10, 0)  # one too few for 1 %: the maximum, and 1/99
@example(99, 10, 0)
@example(198, 10, 0)
@example(199, 10, 0)  # 200 * 0.99 = 198 exactly, where floats would round up
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 5))
def test_singletons_give_the_kth_smallest(num_scores: int, per_mille: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 60, num_scores) / 8  # with ties
    record = fit_threshold(scores, singletons(num_scores), target_rate=per_mille / 1000)
    rank = -(-(num_scores + 1) * (1000 - per_mille) // 1000)  # ceil((n+1)(1-rate)) in integers
    if rank > num_scores:
        assert record["value"] == scores.max()
        assert record["guaranteed_rate"] == pytest.approx(1 / (num_scores + 1), abs=1e-15)
    else:
        assert record["value"] == np.sort(scores)[rank - 1]
        assert record["guaranteed_rate"] == per_mille / 1000


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.001, 999), (0.3, 3), (1 / 3, 2), (0.5, 1)])
def test_units_needed_is_the_least_that_reaches_the_rate(rate: float, needed: int) -> None:
    record = fit_threshold(np.arange(float(needed)), singletons(needed), target_rate=rate)
    assert record["units_needed"] == needed
    assert record["guaranteed_rate"] == rate
    if needed > 1:
        too_few = fit_threshold(np.arange(needed - 1.0), singletons(needed - 1), target_rate=rate)
        assert too_few["guaranteed_rate"] == pytest.approx(1 / needed)


def test_weights_of_unequal_units_by_hand() -> None:
    # three units: {1, 2}, {3, 4, 5, 6}, {7}; rate 1/2, so images above may weigh 4/2 - 1 = 1 unit
    scores = np.array([1.0, 2, 3, 4, 5, 6, 7])
    groups = ["a", "a", "b", "b", "b", "b", "c"]
    assert fit_threshold(scores, groups, target_rate=0.5)["value"] == 6.0  # above 6: 1. Above 5: 1 1/4
    assert fit_threshold(scores, groups, target_rate=0.49)["value"] == 7.0  # above 6: 1 > 0.96
    assert fit_threshold(scores, groups, target_rate=0.57)["value"] == 5.0  # budget 1.28: above 5: 1.25, above 4: 1.5
    record = fit_threshold(scores, groups, target_rate=0.2)
    assert (record["value"], record["guaranteed_rate"]) == (7.0, 0.25)
    assert (record["num_units"], record["num_images"], record["units_needed"]) == (3, 7, 4)


def test_thirds_add_up_exactly() -> None:
    # 3 * (1/3) must be one whole unit: budget 4 * 0.5 - 1 = 1, and the unit of three sits on top
    scores, groups = np.array([0.0, 1, 7, 8, 9]), ["a", "b", "c", "c", "c"]
    assert fit_threshold(scores, groups, target_rate=0.5)["value"] == 1.0


def draw_unit(rng: np.random.Generator) -> np.ndarray:
    """Dependent images of one unit: a common level, and the worst units have the fewest images."""
    level = rng.standard_normal()
    return level + 0.3 * rng.standard_normal(1 if level > 1 else rng.integers(5, 25))


@pytest.mark.parametrize(("num_units", "rate"), [(4, 0.1), (19, 0.1)])
def test_false_alarms_of_dependent_images_by_simulation(num_units: int, rate: float) -> None:
    rng = np.random.default_rng(num_units)
    new_images = np.sort([rng.choice(draw_unit(rng)) for _ in range(10_000)])
    misses, pooled_misses = [], []
    for _ in range(200):
        units = [draw_unit(rng) for _ in range(num_units)]
        scores = np.concatenate(units)
        groups = [str(index) for index, unit in enumerate(units) for _ in unit]
        record = fit_threshold(scores, groups, target_rate=rate)
        pooled = fit_threshold(scores, singletons(scores.size), target_rate=rate)
        misses.append(1 - np.searchsorted(new_images, record["value"], side="right") / new_images.size)
        pooled_misses.append(1 - np.searchsorted(new_images, pooled["value"], side="right") / new_images.size)
    noise = 4 * np.std(misses) / math.sqrt(200) + 4 * math.sqrt(rate / new_images.size)
    guaranteed = record["guaranteed_rate"]
    assert guaranteed == max(rate, 1 / (num_units + 1))
    assert guaranteed - 2 / (num_units + 1) - noise <= np.mean(misses) <= guaranteed + noise
    if num_units > 10:  # taking the images as independent breaks the promise: the simulation can tell
        assert np.mean(pooled_misses) > rate + noise


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no calibration scores \(set data.calibration_fraction"):
        fit_threshold(np.empty(0), [])
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_threshold(np.array([1.0, np.inf]), ["a", "b"])
    with pytest.raises(ValueError, match="one group per score"):
        fit_threshold(np.arange(3.0), ["a", "b"])
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="target_rate is"):
            fit_threshold(np.arange(3.0), singletons(3), target_rate=rate)


@settings(max_examples=20)
@given(st.integers(2, 30), st.integers(1, 6), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 5))
def test_the_highest_scores_and_what_the_threshold_would_be_without_each(
    count: int, num_units: int, rate: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores, groups = rng.integers(0, 20, count) / 8, [f"part{unit}" for unit in rng.integers(0, num_units, count)]
    paths = [f"{index}.png" for index in range(count)]
    rows = highest_scores(paths, scores, groups, target_rate=rate)
    assert [row["score"] for row in rows] == sorted(scores, reverse=True)[:6]
    for row in rows:
        index = paths.index(row["path"])
        others = [place for place in range(count) if place != index]
        left = fit_threshold(scores[others], [groups[place] for place in others], target_rate=rate)
        assert (row["score"], row["value_without"]) == (scores[index], left["value"])


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_what_is_promised_per_unit_is_kept(share: float) -> None:
    """Units of 6 images that look alike: the highest of a new unit exceeds the threshold as often as stated."""
    num_units, stated, seen = 50, [], []
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(num_units), 6).astype(str).tolist()

    def units(count: int) -> np.ndarray:
        return rng.standard_normal((count, 1)) * share**0.5 + rng.standard_normal((count, 6)) * (1 - share) ** 0.5

    for _ in range(60):
        record = fit_threshold(units(num_units).ravel(), groups, target_rate=0.05)
        stated.append(record["unit_rate"])
        seen.append((units(400).max(axis=1) > record["value"]).mean())
    spread = np.std(seen) / 60**0.5
    assert np.mean(seen) <= np.mean(stated) + 3 * spread
    assert np.mean(seen) >= 0.75 * np.mean(stated)


def test_who_counts_units_is_told_what_is_promised_for_them() -> None:
    scores, groups = np.arange(80.0), [f"part{index // 2}" for index in range(80)]
    record = fit_threshold(scores, groups, target_rate=0.05)
    assert (record["value"], record["unit_rate"]) == (77.0, 2 / 41)  # two images of one unit lie above
    assert record["statement"].startswith(
        "At most 5.0 % false alarms on new good images (4.9 % of units with 2 images): on average, "
    )
    assert "units with" not in fit_threshold(scores, singletons(80), target_rate=0.05)["statement"]


def test_what_other_thresholds_would_promise() -> None:
    scores, groups = np.array([0.1, 0.3, 0.2, 0.4]), ["a", "a", "b", "c"]
    # above 0.2 lie half of a and all of c: 1.5 of 3 units, and the new one
    expected = [[0.1, 3.5 / 4], [0.2, 2.5 / 4], [0.3, 2 / 4], [0.4, 1 / 4]]
    np.testing.assert_allclose(promised_rates(scores, groups), expected)
    many = np.random.default_rng(0).random(1000)
    rates = promised_rates(many, singletons(1000))
    assert len(rates) == 64
    assert [rates[0][0], rates[-1]] == [many.min(), [many.max(), pytest.approx(1 / 1001)]]
    for value, rate in rates:
        assert rate == pytest.approx(((many > value).sum() + 1) / 1001)


def test_a_second_bound_sends_at_most_the_promised_share_to_review() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        scores, groups = rng.normal(size=60), [str(number) for number in range(60)]
        upper = fit_threshold(scores, groups, target_rate=0.05)
        review = fit_review(scores, groups, target_rate=0.05, review_rate=0.1)
        assert review["value"] < upper["value"]
        assert review["guaranteed_rate"] == pytest.approx(0.15)
        shares.append(np.mean(rng.normal(size=200) > review["value"]))
    assert np.mean(shares) <= 0.15
    assert np.mean(shares) > 0.12  # and no less than it must


@pytest.mark.parametrize(("num_units", "is_enough"), [(10, False), (19, True)])
def test_too_few_units_for_a_second_bound_is_said(num_units: int, is_enough: bool) -> None:
    groups = [str(number) for number in range(num_units)]
    review = fit_review(np.arange(float(num_units)), groups, target_rate=0.05, review_rate=0.05)
    assert ("too few for a second threshold" in review["statement"]) != is_enough


@pytest.mark.parametrize("review_rate", [0.0, -0.1, 0.99, float("nan")])
def test_a_review_rate_leaves_something_to_call_good(review_rate: float) -> None:
    with pytest.raises(ValueError, match="review_rate"):
        fit_review(np.arange(10.0), list("abcdefghij"), target_rate=0.05, review_rate=review_rate)
