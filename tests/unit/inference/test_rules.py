"""Zones with thresholds of their own and a smallest defect: in the score, so before calibration."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import ndimage

from ndpnet.inference.inspector import Inspector, Prediction
from ndpnet.inference.regions import EIGHT_NEIGHBOURS, area_score, without_small
from ndpnet.inference.rules import Rules, Zone, load_rules

WIDTH, HEIGHT = 100, 90


@pytest.mark.parametrize("num_pixels", [1, 2, 7, 30])
def test_a_score_is_above_a_threshold_just_where_a_large_enough_region_is(num_pixels: int) -> None:
    rng = np.random.default_rng(num_pixels)
    for _ in range(20):
        anomaly_map = ndimage.uniform_filter(rng.random((16, 12)).astype(np.float32), 2).round(2)
        score = area_score(anomaly_map, num_pixels)
        for threshold in rng.random(20):
            labels, count = ndimage.label(anomaly_map > threshold, structure=EIGHT_NEIGHBOURS)
            sizes = [int((labels == label).sum()) for label in range(1, count + 1)]
            assert (score > threshold) == any(size >= num_pixels for size in sizes)
            rest = without_small(anomaly_map > threshold, num_pixels)
            assert rest.sum() == sum(size for size in sizes if size >= num_pixels)


def test_a_zone_weighs_by_its_factor_and_the_later_one_holds_where_two_overlap() -> None:
    zones = (
        Zone(name="rim", box=[0, 0, 40, 80], factor=2.0),
        Zone(name="key", polygon=[[0, 0], [20, 0], [20, 20], [0, 20]], factor=0.5),
        Zone(name="label", box=[60, 40, 20, 40], factor=None),
    )
    expected = np.full((40, 40), 0.5, dtype=np.float32)  # of the most sensitive zone's, which has 1
    expected[:, :20] = 0.25
    expected[:10, :10] = 1.0
    expected[20:, 30:] = 0.0
    np.testing.assert_array_equal(Rules(width=80, height=80, zones=zones).weights((40, 40)), expected)
    assert Rules(width=80, height=80).weights((40, 40)) is None


def test_an_area_in_square_millimetres_is_one_in_pixels_of_the_map() -> None:
    assert Rules(width=80, height=80, smallest_defect=40).num_pixels((40, 40)) == 10
    assert Rules(width=80, height=80, smallest_defect=0.1, mm_per_pixel=0.05).num_pixels((40, 40)) == 10
    assert Rules(width=80, height=80).num_pixels((40, 40)) == 1


def test_a_zone_that_only_has_a_factor_is_inspected() -> None:
    rim = Rules(width=80, height=80, zones=(Zone(name="rim", box=[70, 0, 10, 80], factor=2),))
    assert Inspector(None, input_size=(80, 80), rules=rim).inspected is None


def test_a_zone_without_a_factor_is_shown_as_not_inspected_as_what_lies_outside_the_region_is() -> None:
    zones = (Zone(name="rim", box=[0, 0, 80, 10], factor=2), Zone(name="label", box=[0, 10, 40, 70], factor=None))
    roi = np.arange(80)[:, None] * np.ones(80) < 60
    rules = Rules(width=80, height=80, zones=zones)
    inspector = Inspector(None, input_size=(80, 80), threshold=0.5, rules=rules, roi=roi)
    verdict = inspector.judge(Prediction(0.2, np.zeros((80, 80), np.float32)), size=(80, 80))
    expected = roi.copy()
    expected[10:, :40] = False
    np.testing.assert_array_equal(verdict.roi, expected)


@pytest.mark.parametrize(
    ("smallest", "zones", "roi"),
    [
        (6401, (), None),
        (3201, (Zone(name="label", box=[0, 0, 40, 80], factor=None),), None),
        (1601, (Zone(name="label", box=[0, 0, 40, 80], factor=None),), np.arange(80)[:, None] * np.ones(80) < 40),
        (241, (), np.arange(80) * np.ones(80)[:, None] % 6 < 3),  # stripes of 3 x 80
    ],
)
def test_a_smallest_defect_that_no_picture_can_hold_is_refused(
    smallest: int, zones: tuple[Zone, ...], roi: np.ndarray | None
) -> None:
    def opened(area: int) -> Inspector:
        rules = Rules(width=80, height=80, zones=zones, smallest_defect=area)
        return Inspector(None, input_size=(80, 80), threshold=0.5, rules=rules, roi=roi)

    opened(smallest - 1)
    with pytest.raises(ValueError, match=r"^the rules' smallest_defect exceeds any part that is inspected"):
        opened(smallest)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"smallest": 3}, "unknown parameter 'smallest' .did you mean 'smallest_defect'"),
        ({"zones": [{"name": "a", "polygon": [[0, 0], [5, 5]], "factor": 1}]}, "zones.0.polygon"),
        ({"zones": [{"name": "a", "box": [0, 0, 200, 5], "factor": 1}]}, "zone a lies outside pictures of 100x90"),
        (
            {"zones": [{"name": "a", "box": [0, 0, 5], "factor": 1}]},
            r"zone a: a box is \[left, top, width, height\], in pixels",
        ),
        ({"zones": [{"name": "a", "box": 5, "factor": 1}]}, "a box is"),
        ({"smallest_defect": -1}, "smallest_defect"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_thing(tmp_path: Path, values: dict, said: str) -> None:
    with pytest.raises(ValueError, match=r"^no file .*none\.yaml \(check the path of the rules\)$"):
        load_rules(tmp_path / "none.yaml", WIDTH, HEIGHT)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=said) as caught:
        load_rules(tmp_path / "rules.yaml", WIDTH, HEIGHT)
    assert "\n" not in str(caught.value)
