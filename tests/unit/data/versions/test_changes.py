"""How new pictures look beside the old ones: the statistics, and when they are said to differ."""

from pathlib import Path

import numpy as np
import pytest
from samples import write_picture

from ndpnet.data.versions.changes import STATISTICS, Changes, Look, histogram, measure, write_changes


def look(brightness: float, **others: float) -> Look:
    return Look(**({"contrast": 20.0, "texture": 5.0, "unevenness": 2.0, "width": 64, "height": 64} | others),
                brightness=brightness)  # fmt: skip


def changes_of(old: list[Look], new: list[Look], place: str = "train/good") -> Changes:
    looks = {f"{name}{number}": each for name, group in (("o", old), ("n", new)) for number, each in enumerate(group)}
    before = {f"wall/{place}/{md5}.png": md5 for md5 in looks if md5.startswith("o")}
    after = before | {f"wall/{place}/{md5}.png": md5 for md5 in looks if md5.startswith("n")}
    return Changes.between(Path("/nowhere"), before, after, "wall", place, looks)


def test_measures_of_known_pictures() -> None:
    flat = measure(np.full((64, 96, 3), 50, dtype=np.uint8))
    assert flat == Look(brightness=50.0, contrast=0.0, texture=0.0, unevenness=0.0, width=96, height=64)
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 100
    checkered = measure(np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8))
    assert (checkered.brightness, checkered.contrast, checkered.texture) == (50.0, 50.0, 100.0)
    assert checkered.unevenness == 0.0  # every block has the same mean
    halves = np.zeros((64, 64, 3), dtype=np.uint8)
    halves[:, 32:] = 100
    half_lit = measure(halves)
    assert (half_lit.contrast, half_lit.unevenness) == (50.0, 50.0)
    assert half_lit.texture == pytest.approx(100 / 63 / 2)


def test_a_shift_is_called_different_by_the_stated_rule() -> None:
    values = [90, 95, 100, 105, 110] * 8
    old, spread = [look(value) for value in values], np.std(values, ddof=1)
    for effect, is_different in ((0, False), (0.77, False), (0.83, True), (-0.77, False), (-0.83, True), (5, True)):
        new = [look(100 + effect * spread + step) for step in (-2, -1, 0, 1, 2) * 8]
        (brightness, *others) = changes_of(old, new).comparisons
        assert brightness.is_different is is_different, effect
        assert brightness.effect == pytest.approx(effect)
        assert not any(other.is_different for other in others)


def test_a_large_effect_that_may_be_chance_is_not() -> None:
    old = [look(brightness) for brightness in (90, 95, 100, 105, 110)]
    scattered = [look(brightness) for brightness in (60, 80, 108, 136, 156)]  # mean 108, 1.0 spreads away
    (brightness, *_) = changes_of(old, scattered).comparisons
    assert brightness.effect == pytest.approx(1.01, abs=0.01)
    assert not brightness.is_different


def test_too_few_pictures_say_nothing() -> None:
    changes = changes_of([look(100)] * 9, [look(10)] * 4)
    assert changes.verdict.startswith("Too few pictures")
    assert changes.sentences[0] == "Brightness: too few pictures to compare (9 old, 4 new)."
    assert not any(comparison.is_different for comparison in changes.comparisons)


def test_equal_old_pictures_do_not_divide_by_zero() -> None:
    assert changes_of([look(100)] * 6, [look(100.1)] * 6).verdict == "The new pictures look like the old ones."
    assert "brightness" in changes_of([look(100)] * 6, [look(103)] * 6).verdict


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_every_statistic_is_compared_and_worded(name: str) -> None:
    others = {"brightness": 100.0} if name != "brightness" else {}
    old = [look(**(others | {name: 10.0 + step})) for step in (-1, 0, 1, -1, 1)]
    for value, word in ((2.0, STATISTICS[name][2]), (30.0, STATISTICS[name][3])):
        changes = changes_of(old, [look(**(others | {name: value + step / 10})) for step in range(6)])
        assert [comparison.name for comparison in changes.comparisons if comparison.is_different] == [name]
        assert f"the new pictures are {word} (mean {value + 0.25:.1f} against 10.0," in changes.sentences[0]


def test_sizes_that_are_new_are_said() -> None:
    changes = changes_of([look(100)] * 6, [*[look(100)] * 5, look(100, width=640, height=480)])
    assert changes.sentences[0] == "Sizes not seen before: 640x480 pixels."


def test_a_new_type_of_defect_is_compared_with_good_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        write_picture(tmp_path / f"wall/train/good/{number}.png", rng.integers(0, 255, (64, 64), dtype=np.uint8))
    before = {f"wall/train/good/{number}.png": f"o{number}" for number in range(6)}
    after = before | {f"wall/test/crack/{number}.png": f"n{number}" for number in range(5)}
    looks = {f"n{number}": look(20.0) for number in range(5)}
    changes = Changes.between(tmp_path, before, after, "wall", "test/crack", looks)
    assert (changes.compared_with, changes.num_old, changes.num_new) == ("train/good", 6, 5)
    assert changes.counts == (("test/crack", 0, 5), ("train/good", 6, 6))
    assert "darker" in changes.sentences[0]


def test_histogram_bars_are_shares_over_a_common_range() -> None:
    bars = histogram([0.0, 0.0, 24.0, 24.0], [12.0])
    assert (bars["low"], bars["high"]) == (0.0, 24.0)
    assert bars["new"][12] == 1.0
    assert (bars["old"][0], bars["old"][-1]) == (0.5, 0.5)
    assert sum(bars["old"]) == 1.0
    assert histogram([5.0] * 3, [])["new"] == [0.0] * 24


def test_the_report_escapes_names_and_depends_on_the_data_alone(tmp_path: Path) -> None:
    changes = changes_of([look(100)] * 6, [look(40)] * 6, place="test/<b>&")
    for name in ("a.html", "b.html"):
        write_changes(tmp_path / name, changes)
    html = (tmp_path / "a.html").read_text()
    assert "test/&lt;b&gt;&amp;" in html
    assert "<b>" not in html
    assert (tmp_path / "b.html").read_text() == html
