"""What the charts of the report are drawn from."""

import numpy as np
import pytest

from ndpnet.evaluation import charts


def history(num_steps: int) -> list[dict[str, float]]:
    rows = [
        {"step": step, "loss": 2.0 / (1 + step), "focal_term": 1.0 / (1 + step), "lr": 1e-4}
        for step in range(num_steps)
    ]
    return [*rows, {"step": 100, "validation/image_auroc": 0.8}, {"step": 199, "validation/image_auroc": 0.9}]


def test_threshold_is_an_edge_between_bars() -> None:
    scores = np.random.default_rng(0).random(100)
    edges = charts.score_bins(scores, threshold=0.37)
    assert np.abs(edges - 0.37).min() < 1e-12
    assert edges[0] <= scores.min()
    assert edges[-1] >= scores.max()
    assert np.histogram(scores, bins=edges)[0].sum() == 100
    saturated = np.array([1.0, 1.0, 0.5])  # a score equal to the threshold is passed: left of the line
    edges = charts.score_bins(saturated, threshold=1.0)
    counts, _ = np.histogram(saturated, bins=edges)
    assert counts[edges[1:] > 1.001].sum() == 0
    assert counts.sum() == 3
    assert charts.score_bins(np.array([0.37]), threshold=0.37) == pytest.approx([-0.63, 0.37, 1.37])


def test_losses_and_validation_are_told_apart() -> None:
    rows = [*history(4), {"step": 5, "loss": float("nan"), "focal_term": 0.0, "lr": 1e-4}]
    losses, validation = charts.loss_series(rows)
    assert list(losses) == ["loss", "focal_term"]
    assert list(validation) == ["validation/image_auroc"]
    np.testing.assert_allclose(losses["loss"][1], [2.0, 1.0, 2 / 3, 0.5])
    assert losses["focal_term"][0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(charts.smooth(np.full(50, 0.3)), 0.3)
    assert charts.smooth(np.tile([1.0, 100.0], 200))[150:250] == pytest.approx(np.full(100, 10.0), rel=1e-2)
