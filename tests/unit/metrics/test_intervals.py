"""Intervals against known truths: coverage by simulation with few groups of images that look alike; closed forms."""

from collections.abc import Iterable, Iterator
from statistics import NormalDist

import numpy as np
import pytest

from ndpnet.metrics import intervals
from ndpnet.metrics.intervals import CHANCE_SHARE, Spread, jackknife, metric_interval, rate_interval
from ndpnet.metrics.weighted import auroc_statistic

NUM_SETS = 300
PER_GROUP = 6
NORMAL = NormalDist()


def names(count: int) -> list[str]:
    return [f"image{index}" for index in range(count)]


def alike(rng: np.random.Generator, num_groups: int, per_group: int | list[int], share: float) -> np.ndarray:
    """Standard normal scores (N,), `share` of whose variance a group has in common."""
    common = np.repeat(rng.standard_normal(num_groups), per_group)
    return common * share**0.5 + rng.standard_normal(common.size) * (1 - share) ** 0.5


def simulated_sets(num_defective: int, num_good: int, auroc: float, share: float) -> Iterator[tuple[np.ndarray, ...]]:
    """(scores, labels, groups) of test sets with groups of one class each, whose true ROCAUC is `auroc`."""
    rng, num_groups = np.random.default_rng(0), num_defective + num_good
    groups, labels = (
        np.repeat(each, PER_GROUP) for each in (np.arange(num_groups), np.arange(num_groups) < num_defective)
    )
    for _ in range(NUM_SETS):
        yield alike(rng, num_groups, PER_GROUP, share) + labels * 2**0.5 * NORMAL.inv_cdf(auroc), labels, groups


def auroc_and_spread(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[float, Spread]:
    statistic = auroc_statistic(scores, labels)
    return float(statistic(np.ones((1, labels.size)))[0]), jackknife(statistic, groups, (labels, ~labels))


def assert_truth_is_held(bounds: Iterable[intervals.Bounds], truth: float) -> None:
    assert np.mean([low <= truth <= high for low, high in bounds]) >= 0.93


def auroc_bounds(*test_set: np.ndarray) -> intervals.Bounds:
    return metric_interval(*auroc_and_spread(*test_set), chance_share=CHANCE_SHARE)


# a percentile bootstrap over groups holds the truth in 48 % to 95 % of these, in most of them below 90 %
@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("auroc", [0.9, 0.98])
@pytest.mark.parametrize("num_groups", [(5, 5), (5, 20)])
def test_intervals_of_image_rocauc_hold_the_truth(num_groups: tuple[int, int], auroc: float, share: float) -> None:
    assert_truth_is_held((auroc_bounds(*each) for each in simulated_sets(*num_groups, auroc, share)), auroc)


def test_groups_of_both_classes_hold_the_truth_too() -> None:
    rng, auroc = np.random.default_rng(0), 0.9
    labels, groups = np.tile(np.arange(PER_GROUP) < 2, 10), np.repeat(np.arange(10), PER_GROUP)
    shift = 2**0.5 * NORMAL.inv_cdf(auroc)
    within = NORMAL.cdf(shift / (2 * 0.5) ** 0.5)  # a group's own share of the score cancels out between its images
    truth = auroc + (within - auroc) / 10  # one pair in ten is of one group
    scores = (alike(rng, 10, PER_GROUP, 0.5) + labels * shift for _ in range(NUM_SETS))
    assert_truth_is_held((auroc_bounds(each, labels, groups) for each in scores), truth)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("rate", [0.5, 0.98])
@pytest.mark.parametrize("sizes", [[PER_GROUP] * 5, [PER_GROUP] * 40, [60] + [2] * 9])
def test_intervals_of_rates_hold_the_truth(sizes: list[int], rate: float, share: float) -> None:
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    hits = (alike(rng, len(sizes), sizes, share) < NORMAL.inv_cdf(rate) for _ in range(NUM_SETS))
    assert_truth_is_held((rate_interval(each, groups) for each in hits), rate)


def test_the_power_that_the_gate_states_is_what_happens() -> None:
    rng, tolerance, num_groups = np.random.default_rng(0), 0.02, 10
    groups, labels = np.repeat(np.arange(2 * num_groups), 2), np.arange(4 * num_groups) < 2 * num_groups
    refused, stated, chosen = [], [], []
    for _ in range(NUM_SETS):
        common = alike(rng, 2 * num_groups, 2, 0.5) + 3 * labels
        first, second = (common + 0.4 * alike(rng, 2 * num_groups, 2, 0.5) for _ in range(2))
        statistics = [auroc_statistic(scores, labels) for scores in (first, second)]

        def difference(weights: np.ndarray, pair: list = statistics) -> np.ndarray:
            return pair[0](weights) - pair[1](weights)

        spread = jackknife(difference, groups, (labels, ~labels))
        low = intervals.smallest_difference(float(difference(np.ones((1, labels.size)))[0]), spread)
        refused.append(low < -tolerance)
        stated.append(intervals.refused_share(spread, tolerance))
        chosen.append(low < -intervals.margin(spread, intervals.TAIL) - intervals.margin(spread, 0.1))
        assert low <= 0.05
    assert np.mean(refused) == pytest.approx(np.mean(stated), abs=0.06)
    assert 0.02 <= np.mean(chosen) <= 0.12


def test_the_spread_of_groups_of_one_class_is_obuchowskis() -> None:
    (scores, labels, groups), *_ = simulated_sets(12, 15, 0.8, 0.5)
    value, spread = auroc_and_spread(scores, labels, groups)
    wins = scores[labels][:, None] > scores[~labels]
    variance = 0.0
    for of_class, components in ((labels, wins.mean(axis=1)), (~labels, wins.mean(axis=0))):
        sums = np.bincount(groups[of_class] - groups[of_class].min(), weights=components - value)
        variance += sums.size / (sums.size - 1) * (sums**2).sum() / of_class.sum() ** 2
    # leaving out one of n groups changes a mean by 1 / (n - 1) where a component has 1 / n
    assert spread.error == pytest.approx(variance**0.5, rel=0.01)
    assert (spread.num_units, spread.degrees) == (12, 11)


def test_without_any_spread_the_units_are_counted() -> None:
    labels = np.arange(40) < 16
    value, spread = auroc_and_spread(1.0 * labels, labels, np.arange(40) // 2)
    assert (value, spread) == (1.0, Spread(0.0, 8))
    low, high = metric_interval(value, spread, chance_share=CHANCE_SHARE)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 8)), 1.0)
    assert metric_interval(0.0, spread) == (0.0, pytest.approx(1 - 0.025 ** (1 / 8)))
    assert intervals.margin(spread, 0.025) == pytest.approx(1 - 0.025 ** (1 / 8))
    assert (intervals.refused_share(spread, 0.3), intervals.refused_share(spread, 0.4)) == (1.0, 0.0)


def test_one_group_says_nothing() -> None:
    labels = np.arange(20) < 10
    spread = auroc_and_spread(np.random.default_rng(0).random(20), labels, np.where(labels, 0, np.arange(20)))[1]
    assert not spread.is_known
    assert metric_interval(0.7, spread) == (0.0, 1.0)
    assert rate_interval(np.ones(20, dtype=bool), ["part"] * 20) == (pytest.approx(0.025), 1.0)


def test_of_many_groups_several_are_left_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal(1000), np.arange(1000) < 400
    few = auroc_and_spread(scores + labels, labels, names(1000))[1]
    assert few.degrees == 255
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 10_000)
    assert auroc_and_spread(scores + labels, labels, names(1000))[1].error == pytest.approx(few.error, rel=1e-12)
    monkeypatch.setattr(intervals, "MAX_BLOCKS", 1000)
    all_of_them = auroc_and_spread(scores + labels, labels, names(1000))[1]
    assert few.error == pytest.approx(all_of_them.error, rel=0.1)
    assert all_of_them.degrees == 399


def test_independent_images_have_clopper_pearson_and_images_that_agree_one_vote() -> None:
    hits = np.arange(24) < 20
    assert rate_interval(hits, names(24)) == intervals.clopper_pearson(20, 24)
    assert intervals.clopper_pearson(5, 10) == pytest.approx((0.18709, 0.81291), abs=1e-5)  # of a table
    assert rate_interval(np.repeat(hits, 3), np.arange(72) // 3)[0] < intervals.clopper_pearson(20, 24)[0]
    assert rate_interval(np.ones(72, dtype=bool), np.arange(72) // 3)[0] == pytest.approx(0.025 ** (1 / 24))
