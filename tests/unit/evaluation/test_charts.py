"""What the charts of the report are drawn from, and the same curves as tables."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from ndpnet.evaluation import charts

NAMES = ["loss_phase1.csv", "loss_phase2.csv", "pro.csv", "roc.csv"]


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


def history(num_steps: int) -> list[dict[str, float]]:
    rows = [{"step": step, "loss": 2.0 / step, "repair": 1.0 / step, "lr": 1e-4} for step in range(1, num_steps + 1)]
    return [*rows, {"step": 2, "validation/image_auroc": 0.8}]


def read(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_tables_hold_the_curves_and_the_smoothed_losses(tmp_path: Path) -> None:
    fpr, tpr = np.array([0.0, 0.1, 1.0]), np.array([0.0, 1 / 3, 1.0])
    histories = {"phase1": history(5), "phase2": history(2000)}
    charts.write_curves(tmp_path, {"roc": (fpr, tpr), "pro": (0.3 * fpr, tpr)}, histories)
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    assert [(row["fpr"], row["tpr"]) for row in read(tmp_path / "roc.csv")] == list(zip(fpr, tpr, strict=True))
    assert [row["overlap"] for row in read(tmp_path / "pro.csv")] == tpr.tolist()
    short, long = read(tmp_path / "loss_phase1.csv"), read(tmp_path / "loss_phase2.csv")
    assert list(short[0]) == ["step", "loss", "repair"]
    assert [row["loss"] for row in short] == pytest.approx(charts.smooth(2.0 / np.arange(1, 6)))
    assert (tmp_path / "loss_phase1.csv").read_text().splitlines()[1].startswith("1,")  # a step is a whole number
    assert len(long) == charts.MAX_POINTS
    assert (long[0]["step"], long[-1]["step"]) == (1, 2000)


def test_charts_name_metrics_as_all_pages_do() -> None:
    drawn = charts.loss_chart(history(5), name="phase2")
    assert "image ROCAUC" in drawn
    assert "image auroc" not in drawn


def test_words_beside_each_other_have_room_to_be_larger_on_a_telephone() -> None:
    terms = ("loss", "reconstruction", "perceptual", "feature_repair", "segmentation", "validation/defect_perception")
    drawn = charts.loss_chart([{"step": step, **dict.fromkeys(terms, 1 / step)} for step in (1, 2)], name="phase2")
    words = re.findall(r'text-anchor: start[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', drawn)
    assert len(words) == len(terms) + 1  # the title
    for x, y, word in words:
        others = [float(other) for other, line, _ in words if line == y and float(other) > float(x)]
        assert float(x) + 6.6 * len(word) < min(others, default=345.6), word  # 11 px, of which a letter takes 0.6
    (label,) = (float(x) for x in re.findall(r"rotate\(-90 ([\d.]+)", drawn))
    for x, number in re.findall(r'text-anchor: end[^>]* x="([\d.]+)"[^>]*>([^<]+)<', drawn):
        assert float(x) - 6.6 * len(number) > label, number


def test_a_curve_that_is_not_available_is_a_table_without_rows(tmp_path: Path) -> None:
    charts.write_curves(tmp_path, {"roc": None, "pro": None}, {"phase1": [], "phase2": []})
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    assert (tmp_path / "roc.csv").read_text() == "fpr,tpr\n"
    assert (tmp_path / "loss_phase2.csv").read_text() == "step,loss\n"


def test_a_term_that_is_zero_at_times_has_gaps(tmp_path: Path) -> None:
    rows = [{"step": 1, "loss": 1.0, "repair": 0.0}, {"step": 2, "loss": 0.5, "repair": 0.25}]
    charts.write_curves(tmp_path, {"roc": None, "pro": None}, {"phase1": rows})
    with (tmp_path / "loss_phase1.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["repair"] == ""  # no logarithm, so no point
    assert float(second["repair"]) == pytest.approx(0.25)
