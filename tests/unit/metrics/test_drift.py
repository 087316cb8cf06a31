"""The drift alarm by simulation: its bound holds while nothing changes, and it rings soon after a change."""

import numpy as np
import pytest

from ndpnet.metrics.drift import NUM_RECENT, Bets, ConformalWatch, LineWatch, payouts_of
from ndpnet.metrics.properties import PROPERTIES, picture_properties

LIMIT = 2000


def watch(rng, *, limit=LIMIT):
    scores = rng.normal(size=100).tolist()
    properties = {name: rng.normal(100, 5, size=100).tolist() for name in PROPERTIES}
    return LineWatch(scores, properties, threshold=3.0, highest_rate=0.05, pictures_per_false_alarm=limit)


def feed(line, rng, num, *, score=0.0, defective=0.0, **shifts):
    """Pictures until it rings. -> how many that took; None: it did not."""
    for number in range(num):
        is_defective = rng.random() < defective
        value = float(rng.normal(score) + 9 * is_defective)
        properties = {name: float(rng.normal(100 + shifts.get(name, 0.0), 5)) for name in PROPERTIES}
        line.add(f"{number} {rng.random()}", value, properties)
        if line.rings:
            return number + 1
    return None


@pytest.mark.parametrize("place", range(1, len(payouts_of(0.5))))
def test_a_bet_pays_1_on_average_while_p_values_are_uniform(place):
    # in steps of a variable whose density is steepest where the powers are infinite
    middles = (np.arange(200_000) + 0.5) / 200_000
    inner = middles**8 / 2
    weights = 8 * middles**7 / 2
    p = np.concatenate([inner, 1 - inner])
    payouts = np.array([payouts_of(value)[place] for value in p[::20]])
    assert np.mean(payouts * np.concatenate([weights, weights])[::20]) * 2 == pytest.approx(1.0, rel=0.02)


def test_p_values_are_uniform_from_the_first_picture_on_whatever_the_size_of_the_calibration():
    rng = np.random.default_rng(1)
    for num_calibration in (0, 5, 50):
        firsts = []
        for _ in range(1000):
            conformal = ConformalWatch(rng.normal(size=num_calibration).tolist())
            firsts.append([conformal.add(value, rng.random()) for value in rng.normal(size=3)])
        for place in range(3):
            counts = np.histogram(np.array(firsts)[:, place], bins=10, range=(0, 1))[0]
            assert np.all(np.abs(counts - 100) < 5 * np.sqrt(100))


def test_equal_numbers_have_uniform_p_values_too():
    rng = np.random.default_rng(2)
    conformal = ConformalWatch([0.5] * 20)
    p_values = [conformal.add(0.5, rng.random()) for _ in range(2000)]
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.03)
    assert conformal.statistic < LIMIT


def test_the_statistic_is_at_most_the_number_of_pictures_on_average():
    rng = np.random.default_rng(3)
    values = []
    for _ in range(200):
        bets = Bets(len(payouts_of(0.5)))
        for p in rng.random(100):
            bets.settle(payouts_of(p))
        values.append(bets.statistic)
    # its tail is heavy: what is above 100 times the bound is cut, which lowers the mean
    assert np.minimum(values, 100 * 100).mean() < 100 * 1.5


def test_false_alarms_stay_within_the_bound_while_nothing_changes():
    rng = np.random.default_rng(4)
    num_lines, num_pictures = 20, 150
    rung = sum(feed(watch(rng, limit=1000), rng, num_pictures, defective=0.03) is not None for _ in range(num_lines))
    # at most n / limit = 15 % of the lines: 3; the chance of more than 8 is below 1 %
    assert rung <= 8


def test_scores_that_tie_with_the_threshold_are_compared_but_for_the_threshold_itself():
    line = LineWatch([0, 1, 2, 2, 2, 3], {}, threshold=2, highest_rate=0.05, pictures_per_false_alarm=1000)
    assert line._calibration == {"score": [0, 1, 2, 2]}


def test_defective_pictures_within_the_stated_rate_are_no_drift():
    rng = np.random.default_rng(5)
    assert feed(watch(rng), rng, 600, defective=0.04) is None


@pytest.mark.parametrize(
    ("change", "name", "most"),
    [
        ({"score": 1.0}, "score", 120),
        ({"brightness": -10.0}, "brightness", 80),
        ({"sharpness": -10.0}, "sharpness", 80),
        ({"blue": 8.0}, "blue", 100),
        ({"defective": 0.5}, "not good", 60),
    ],
)
def test_a_change_rings_soon_and_is_named(change, name, most):
    rng = np.random.default_rng(6)
    delays = []
    for _ in range(5):
        line = watch(rng)
        assert feed(line, rng, 200) is None
        delays.append(feed(line, rng, 1000, **change))
        assert line.changes()[0].name == name
    assert max(delays) <= most


def test_without_calibration_a_change_on_the_line_still_rings():
    rng = np.random.default_rng(8)
    empty = {name: [] for name in PROPERTIES}
    line = LineWatch([], empty, threshold=3.0, highest_rate=0.05, pictures_per_false_alarm=LIMIT)
    assert feed(line, rng, 200) is None
    assert feed(line, rng, 1000, brightness=-15.0) < 150
    for _ in range(NUM_RECENT):
        feed(line, rng, 1, brightness=-15.0)
    change = next(change for change in line.changes() if change.name == "brightness")
    assert change.before == pytest.approx(100, abs=3)
    assert change.now < 95


def test_counting_the_same_pictures_again_gives_the_same_statistic():
    values = np.random.default_rng(9).normal(size=200)
    twice = []
    for _ in range(2):
        line = watch(np.random.default_rng(10))
        for number, value in enumerate(values):
            line.add(number, float(value), dict.fromkeys(PROPERTIES, float(value)))
        twice.append(line.statistic)
    assert twice[0] == twice[1]


def test_a_darker_lamp_changes_brightness_alone_and_blur_sharpness_alone():
    rng = np.random.default_rng(12)
    pixels = rng.integers(60, 200, size=(64, 64, 3)).astype(np.uint8)
    before = picture_properties(pixels)
    darker = picture_properties((pixels * 0.8).astype(np.uint8))
    assert darker["brightness"] == pytest.approx(0.8 * before["brightness"], rel=0.02)
    for name in ("contrast", "sharpness", "red", "blue"):
        assert darker[name] == pytest.approx(before[name], rel=0.03)
    smooth = pixels.astype(float)
    for axis in (0, 1):
        smooth = (smooth + np.roll(smooth, 1, axis) + np.roll(smooth, 2, axis)) / 3
    assert picture_properties(smooth.astype(np.uint8))["sharpness"] < 0.8 * before["sharpness"]
    redder = pixels.copy()
    redder[..., 0] = np.minimum(pixels[..., 0] * 1.2, 255)
    assert picture_properties(redder)["red"] > before["red"]


def test_a_black_picture_and_one_of_a_single_row_have_properties():
    for shape in ((8, 8, 3), (1, 9, 3)):
        assert all(np.isfinite(value) for value in picture_properties(np.zeros(shape, np.uint8)).values())


def test_a_scan_in_several_blocks_has_the_properties_of_the_whole(monkeypatch):
    pixels = np.random.default_rng(13).integers(0, 256, size=(50, 30, 3)).astype(np.uint8)
    whole = picture_properties(pixels)
    monkeypatch.setattr("ndpnet.metrics.properties.BLOCK_PIXELS", 7 * 30)
    assert picture_properties(pixels) == pytest.approx(whole, abs=2e-6)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    steps = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    assert whole["sharpness"] == pytest.approx(steps / grey.std(), rel=1e-4)
    assert whole["contrast"] == pytest.approx(grey.std() / grey.mean(), rel=1e-4)
