"""Metrics of weighted images against a recomputation with images repeated."""

import numpy as np
import pytest

from ndpnet.metrics import exact, weighted


def small_pixel_set() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 10, 12), dtype=bool)
    masks[2:, 2:5, 3:6] = True
    masks[4:, 7:9, 8:] = True
    masks[5, 0, 0] = True
    return (rng.integers(0, 40, masks.shape) / 8 + 1.2 * masks).astype(np.float32), masks


def draws_of(count: int, num_draws: int = 20) -> np.ndarray:
    """Images counted 0 to 3 times, two good ones and one defective at least once."""
    weights = np.random.default_rng(1).integers(0, 4, (num_draws, count)).astype(float)
    weights[:, :3] = np.maximum(weights[:, :3], 1)
    return weights


def table_of(maps: np.ndarray, masks: np.ndarray, **grid: int) -> weighted.PixelTable:
    """On a grid of the maps' own."""
    return weighted.pixel_table(maps, masks, weighted.grid_of(exact.rank_pixels(maps, masks), **grid))


def test_weighted_auroc_equals_repeating_the_images() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 30) / 4, np.arange(30) >= 12
    weights = draws_of(30, num_draws=50)
    weights[:, -1] += 1
    values = weighted.auroc_statistic(scores, labels)(weights)
    repeats = weights.astype(int)
    expected = [exact.image_auroc(np.repeat(scores, row), np.repeat(labels, row)) for row in repeats]
    assert values == pytest.approx(expected, abs=1e-12)


def test_weighted_f1_and_precision_equal_repeating_the_images() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.random(25), np.arange(25) >= 10
    weights = draws_of(25, num_draws=30)
    weights[:, -1] += 1
    counts = [exact.confusion(np.repeat(scores, row), np.repeat(labels, row), 0.6) for row in weights.astype(int)]
    calls = scores > 0.6
    assert weighted.f1_statistic(calls, labels)(weights) == pytest.approx([exact.f1(c) for c in counts])
    precisions = [c["true_positive"] / (c["true_positive"] + c["false_positive"]) for c in counts]
    assert weighted.precision_statistic(calls, labels)(weights) == pytest.approx(precisions)


def test_pixel_statistics_equal_repeating_the_images_when_every_value_is_on_the_grid() -> None:
    maps, masks = small_pixel_set()
    table, weights = table_of(maps, masks, grid_size=4000), draws_of(8)
    repeated = [(np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0)) for row in weights.astype(int)]
    for max_fpr in (0.05, 0.3):
        expected = [exact.pro_auc(*pair, max_fpr) for pair in repeated]
        assert weighted.pixel_statistics(table, max_fpr)[1](weights) == pytest.approx(expected, abs=1e-12)
    expected = [exact.pixel_auroc(*pair) for pair in repeated]
    assert weighted.pixel_statistics(table)[0](weights) == pytest.approx(expected, abs=1e-12)


def test_the_default_grid_is_close_on_continuous_maps() -> None:
    rng = np.random.default_rng(4)
    masks = np.zeros((20, 64, 64), dtype=bool)
    masks[8:, 10:20, 10:14] = True
    masks[12:, 40:43, 30:33] = True
    maps = rng.standard_normal(masks.shape).astype(np.float32) + 2.5 * masks
    table, weights = table_of(maps, masks), draws_of(20, num_draws=5)
    repeated = [(np.repeat(maps, row, axis=0), np.repeat(masks, row, axis=0)) for row in weights.astype(int)]
    statistics = weighted.pixel_statistics(table)
    for statistic, metric in zip(statistics, (exact.pixel_auroc, exact.pro_auc), strict=True):
        assert statistic(weights) == pytest.approx([metric(*pair) for pair in repeated], abs=5e-4)


def test_a_part_of_the_table_is_the_table_of_the_part() -> None:
    maps, masks = small_pixel_set()
    rows = np.array([True, True, False, True, False, True, True, False])
    part = table_of(maps, masks, grid_size=4000).take(rows)
    value = weighted.pixel_statistics(part)[1](np.ones((1, 5)))[0]
    assert value == pytest.approx(exact.pro_auc(maps[rows], masks[rows]), abs=1e-12)
