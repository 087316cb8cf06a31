"""Bootstrap statistics against a recomputation draw by draw, and intervals against known coverage."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from ndpnet.evaluation import bootstrap, metrics


def names(count: int) -> list[str]:
    return [f"image{index}" for index in range(count)]


def small_pixel_set(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((8, 10, 12), dtype=bool)
    masks[2:, 2:5, 3:6] = True
    masks[4:, 7:9, 8:] = True
    masks[5, 0, 0] = True
    return (rng.integers(0, 40, masks.shape) / 8 + 1.2 * masks).astype(np.float32), masks


def draws_of(count: int, num_draws: int = 20) -> np.ndarray:
    labels = np.arange(count) >= 2
    return bootstrap.draw_weights(names(count), labels, num_draws=num_draws, rng=np.random.default_rng(1))


def test_draws_keep_groups_whole_and_both_classes() -> None:
    groups = ["a", "a", "b", "c", "c", "d", "e", "e"]
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1], dtype=bool)  # a, b good; c, d defective; e has both
    weights = bootstrap.draw_weights(groups, labels, num_draws=500, rng=np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 2] == 2).all()  # two good groups drawn, with replacement
    assert (weights[:, 3] + weights[:, 5] == 2).all()
    assert (weights[:, 6:] == 1).all()
    assert weights[:, 0].mean() == pytest.approx(1.0, abs=0.13)
    assert set(np.unique(weights[:, 0])) == {0.0, 1.0, 2.0}


def test_weighted_auroc_equals_repeating_the_images() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 30) / 4, np.arange(30) >= 12
    weights = bootstrap.draw_weights(names(30), labels, num_draws=50, rng=rng)
    values = bootstrap.auroc_statistic(scores, labels)(weights)
    repeats = weights.astype(int)
    expected = [metrics.image_auroc(np.repeat(scores, row), np.repeat(labels, row)) for row in repeats]
    assert values == pytest.approx(expected, abs=1e-12)


def test_weighted_f1_and_precision_equal_repeating_the_images() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.random(25), np.arange(25) >= 10
    weights = bootstrap.draw_weights(names(25), labels, num_draws=30, rng=rng)
    counts = [metrics.confusion(np.repeat(scores, row), np.repeat(labels, row), 0.6) for row in weights.astype(int)]
    calls = scores > 0.6
    assert bootstrap.f1_statistic(calls, labels)(weights) == pytest.approx([metrics.f1(c) for c in counts])
    assert bootstrap.precision_statistic(calls, labels)(weights) == pytest.approx(
        [metrics.precision(c) for c in counts]
    )


def test_pixel_statistics_equal_repeating_the_images_when_every_value_is_on_the_grid() -> None:
    maps, masks = small_pixel_set()
    table, weights = bootstrap.pixel_table(maps, masks, grid_size=4000), draws_of(8)
    repeated = [(np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0)) for row in weights.astype(int)]
    for max_fpr in (0.05, 0.3):
        expected = [metrics.pro_auc(*pair, max_fpr) for pair in repeated]
        assert bootstrap.pro_statistic(table, max_fpr)(weights) == pytest.approx(expected, abs=1e-12)
    expected = [metrics.pixel_auroc(*pair) for pair in repeated]
    assert bootstrap.pixel_auroc_statistic(table)(weights) == pytest.approx(expected, abs=1e-12)


def test_the_default_grid_is_close_on_continuous_maps() -> None:
    rng = np.random.default_rng(4)
    masks = np.zeros((20, 64, 64), dtype=bool)
    masks[8:, 10:20, 10:14] = True
    masks[12:, 40:43, 30:33] = True
    maps = rng.standard_normal(masks.shape).astype(np.float32) + 2.5 * masks
    table, weights = bootstrap.pixel_table(maps, masks), draws_of(20, num_draws=5)
    repeated = [(np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0)) for row in weights.astype(int)]
    assert bootstrap.pro_statistic(table)(weights) == pytest.approx([metrics.pro_auc(*p) for p in repeated], abs=5e-4)
    expected = [metrics.pixel_auroc(*pair) for pair in repeated]
    assert bootstrap.pixel_auroc_statistic(table)(weights) == pytest.approx(expected, abs=5e-4)


def test_a_part_of_the_table_is_the_table_of_the_part() -> None:
    maps, masks = small_pixel_set()
    rows = np.array([True, True, False, True, False, True, True, False])
    part = bootstrap.pixel_table(maps, masks, grid_size=4000).take(rows)
    value = bootstrap.pro_statistic(part)(np.ones((1, 5)))[0]
    assert value == pytest.approx(metrics.pro_auc(maps[rows], masks[rows]), abs=1e-12)
    assert bootstrap.pixel_table(maps[:2], masks[:2]) is None


def test_intervals_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    scores, labels, groups = rng.random(60), np.arange(60) >= 30, names(60)
    statistic = bootstrap.auroc_statistic(scores, labels)
    first = bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=200, seed=5)
    assert first == bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=200, seed=5)
    assert first != bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=200, seed=6)
    narrow = bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=200, seed=5, confidence=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def test_many_images_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, labels, groups = rng.random(50) + np.arange(50) / 60, np.arange(50) >= 25, names(50)
    sizes = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        sizes.append(len(weights))
        return bootstrap.auroc_statistic(scores, labels)(weights)

    whole = bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=1000)
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 50 * 300)
    parts = bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=1000)
    assert sizes == [1000, 300, 300, 300, 100]
    assert parts == pytest.approx(whole, abs=0.02)


def test_undefined_draws_are_left_out() -> None:
    labels = np.array([False, False, False, True])
    calls = np.array([True, False, False, False])
    low, high = bootstrap.bootstrap_interval(bootstrap.precision_statistic(calls, labels), names(4), labels)
    assert (low, high) == (0.0, 0.0)
    nothing = bootstrap.precision_statistic(np.zeros(4, dtype=bool), labels)
    assert bootstrap.bootstrap_interval(nothing, names(4), labels) is None


def test_auroc_intervals_cover_the_truth() -> None:
    rng, labels, groups = np.random.default_rng(7), np.arange(90) >= 40, names(90)
    truth = NormalDist().cdf(1.0 / math.sqrt(2))  # of N(1, 1) against N(0, 1)
    covered = 0
    for seed in range(200):
        scores = rng.standard_normal(90) + labels
        statistic = bootstrap.auroc_statistic(scores, labels)
        low, high = bootstrap.bootstrap_interval(statistic, groups, labels, num_draws=300, seed=seed)
        covered += low <= truth <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_dependent_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) >= 60
    scores = np.repeat(rng.standard_normal(12), 10) + 1.0 * labels  # ten identical images of each part
    statistic = bootstrap.auroc_statistic(scores, labels)
    as_images = bootstrap.bootstrap_interval(statistic, names(120), labels)
    as_parts = bootstrap.bootstrap_interval(statistic, [f"part{index // 10}" for index in range(120)], labels)
    assert as_parts[1] - as_parts[0] > 2 * (as_images[1] - as_images[0])


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.30850), (10, 10, 0.69150, 1.0), (5, 10, 0.18709, 0.81291), (1, 100, 0.00025, 0.05446)],
)
def test_clopper_pearson_known_values(hits: int, trials: int, low: float, high: float) -> None:
    assert bootstrap.clopper_pearson(hits, trials) == pytest.approx((low, high), abs=1e-5)


def test_clopper_pearson_of_no_hits_by_its_closed_form() -> None:
    assert bootstrap.clopper_pearson(0, 28)[1] == pytest.approx(1 - 0.025 ** (1 / 28), abs=1e-12)
