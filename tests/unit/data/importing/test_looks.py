"""How new pictures look beside the old ones: the statistics, and when they are said to differ."""

import numpy as np
import pytest

from ndpnet.data.importing.looks import STATISTICS, Look, compare_looks, measure


def look(brightness: float, **others: float) -> Look:
    return Look(**({"contrast": 20.0, "texture": 5.0, "unevenness": 2.0, "width": 64, "height": 64} | others),
                brightness=brightness)  # fmt: skip


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
        verdict, *lines = compare_looks(old, [look(100 + effect * spread + step) for step in (-2, -1, 0, 1, 2) * 8])
        assert ("look different (brightness)" in verdict) is is_different, effect
        assert (f"{abs(effect):.1f} times the usual spread" in lines[0]) is is_different
        assert sum("as before" in line for line in lines) == 4 - is_different


def test_a_large_effect_that_may_be_chance_is_not() -> None:
    old = [look(brightness) for brightness in (90, 95, 100, 105, 110)]
    scattered = [look(brightness) for brightness in (60, 80, 108, 136, 156)]  # mean 108, 1.0 spreads away
    assert compare_looks(old, scattered)[0] == "The new pictures look like the old ones."


def test_too_few_pictures_say_nothing() -> None:
    assert compare_looks([look(100)] * 9, [look(10)] * 4) == [
        "Too few pictures to say whether they look like the old ones (9 old, 4 new)."
    ]


def test_equal_old_pictures_do_not_divide_by_zero() -> None:
    assert compare_looks([look(100)] * 6, [look(100.1)] * 6)[0] == "The new pictures look like the old ones."
    assert "brightness" in compare_looks([look(100)] * 6, [look(103)] * 6)[0]


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_every_statistic_is_compared_and_worded(name: str) -> None:
    others = {"brightness": 100.0} if name != "brightness" else {}
    old = [look(**(others | {name: 10.0 + step})) for step in (-1, 0, 1, -1, 1)]
    for value, word in ((2.0, STATISTICS[name][1]), (30.0, STATISTICS[name][2])):
        verdict, first, *_ = compare_looks(old, [look(**(others | {name: value + step / 10})) for step in range(6)])
        assert f"look different ({STATISTICS[name][0].lower()})" in verdict
        assert f"the new pictures are {word} (mean {value + 0.25:.1f} against 10.0," in first


def test_sizes_that_are_new_are_said() -> None:
    lines = compare_looks([look(100)] * 6, [*[look(100)] * 5, look(100, width=640, height=480)])
    assert lines[1] == "  Sizes not seen before: 640x480 pixels."
