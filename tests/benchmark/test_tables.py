"""Tables from made-up results: means, spreads, differences and flags by hand."""

import statistics

import pytest

from ndpnet.benchmark.suites import SUITES
from ndpnet.benchmark.tables import Measured, by_seed, make_tables, paper
from ndpnet.benchmark.variants import ABLATIONS, FULL, Variant


def measured(
    category: str, seed: int, image: float, pixel: float, variant: Variant = FULL, subset: str = "all"
) -> Measured:
    found = {"image_auroc": image, "pixel_auroc": pixel, "pro_auc": None, "recall": 0.5, "false_alarm_rate": 0.25}
    counts = {"num_good": 3, "num_defective": 4}
    timing = {"milliseconds": 20.0, "gmac": 6.4}
    return Measured(variant.name, category, seed, variant, {subset: found | counts}, 60.0, timing)


def table(tables: list, start: str):
    return next(each for each in tables if each.title.startswith(start))


def test_a_mean_over_categories_needs_all_of_them() -> None:
    rows = [measured("carpet", 0, 0.9, 0.8), measured("grid", 0, 0.7, 0.6), measured("carpet", 1, 1.0, 0.8)]
    broken = Measured(FULL.name, "grid", 1, FULL, None, None, None)
    assert by_seed(rows, FULL.name, "all", "image_auroc", "carpet") == {0: 0.9, 1: 1.0}
    assert by_seed([*rows, broken], FULL.name, "all", "image_auroc") == {0: pytest.approx(0.8)}
    assert by_seed(rows, FULL.name, "all", "pro_auc", "carpet") == {}


def test_the_papers_columns_stand_beside_ours_and_differences_are_flagged() -> None:
    near = [measured("carpet", seed, value, 0.9) for seed, value in enumerate((0.95, 0.96))]
    far = [measured("grid", seed, value, 0.9) for seed, value in enumerate((0.50, 0.51))]
    found = table(make_tables(SUITES["mvtec-textures"], near + far), "Table II:")
    carpet, grid, mean = found.rows
    assert (carpet[0], grid[0], mean[0]) == ("carpet", "grid", "mean")
    assert found.head[1:-2] == list(paper()["tables"]["II"]["percent"])
    assert carpet[found.head.index("NDP-Net")] == "95.41"
    assert carpet[-2:] == ["95.50 ± 0.71", "+0.09"]
    assert grid[-2:] == ["50.50 ± 0.71", f"{50.5 - 99.37:+.2f} *"]
    assert mean[found.head.index("NDP-Net")] == f"{(95.41 + 99.37) / 2:.2f}"
    one_seed = table(make_tables(SUITES["mvtec-textures"], near[:1]), "Table II:")
    assert one_seed.rows[0][-1] == "-0.41 ?"


def test_ablations_are_compared_with_the_whole() -> None:
    without = ABLATIONS["without RBAM"]
    rows = [measured("kolektor", 0, 0.9, 0.8, FULL, "even items")]
    rows.append(measured("kolektor", 0, 0.85, 0.81, without, "even items"))
    found = table(make_tables(SUITES["kolektor"], rows), "Table VI, against NDP-Net: even")
    assert found.rows[0][:5] == [FULL.name, "90.00", "", "80.00", ""]
    assert found.rows[1][:5] == ["without RBAM", "85.00", "-5.00", "81.00", "+1.00"]
    assert found.rows[1][-1] == "-1.24 / -0.91"
    # a seed that one of them lacks does not count in the change
    rows.append(measured("kolektor", 1, 0.1, 0.1, without, "even items"))
    assert table(make_tables(SUITES["kolektor"], rows), "Table VI, against NDP-Net: even").rows[1][2] == "-5.00"


def test_the_papers_figures_are_whole() -> None:
    # the paper's own means of its own method, which the rest of a column cannot be checked against
    for name, mean in (("II", 98.81), ("III", 98.54), ("IV", 95.73)):
        methods = paper()["tables"][name]["percent"]
        assert all(set(row) == set(SUITES["mvtec-textures"].categories) for row in methods.values())
        assert statistics.mean(methods["NDP-Net"].values()) == pytest.approx(mean, abs=0.006)
    dagm = paper()["tables"]["V"]["percent"]
    assert all(set(row) == set(SUITES["dagm"].categories) for row in dagm.values())
    # 99.59 in the paper; its rounded classes give 99.585
    assert statistics.mean(dagm["NDP-Net"].values()) == pytest.approx(99.59, abs=0.006)
