"""Zones with thresholds of their own and a smallest defect: in the score, so before calibration."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from samples import Pipeline
from scipy import ndimage

from ndpnet.inference.calibration import calibrate
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import read_package
from ndpnet.inference.regions import EIGHT_NEIGHBOURS, area_score, without_small
from ndpnet.inference.rules import Rules, Zone, load_rules

WIDTH, HEIGHT = 100, 90
LEFT = {"name": "label", "box": [0, 0, 50, 90], "factor": None}


@pytest.fixture(scope="module")
def good_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage.data import brick

    folder, rng = tmp_path_factory.mktemp("good"), np.random.default_rng(7)
    for number in range(12):
        top, left = rng.integers(0, 400, 2)
        Image.fromarray(brick()[top : top + HEIGHT, left : left + WIDTH]).save(folder / f"wall_p{number}_0.png")
    return folder


def rules_file(folder: Path, **values: object) -> Path:
    (folder / "rules.yaml").write_text(yaml.safe_dump(values))
    return folder / "rules.yaml"


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


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"smallest": 3}, "smallest: Extra inputs"),
        ({"zones": [{"name": "a", "polygon": [[0, 0], [5, 5]], "factor": 1}]}, "zones.0.polygon"),
        ({"zones": [{"name": "a", "box": [0, 0, 200, 5], "factor": 1}]}, "zone a lies outside pictures of 100x90"),
        ({"zones": [{"name": "a", "box": [0, 0, 5], "factor": 1}]}, "zones.0: Value error"),
        ({"smallest_defect": -1}, "smallest_defect"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_thing(tmp_path: Path, values: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load_rules(rules_file(tmp_path, **values), WIDTH, HEIGHT)
    assert "\n" not in str(caught.value)


def test_rules_hold_before_the_threshold_is_fitted_and_stay_in_the_package(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path
) -> None:
    path = rules_file(tmp_path, zones=[LEFT], smallest_defect=60)
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "new", rules_path=path, target_rate=0.25)
    inspector = Inspector.load(tmp_path / "new")
    verdicts = [inspector.inspect(picture) for picture in sorted(good_dir.iterdir())]
    # 12 pictures, a rate of 1/4: 2 may be above, the promise is that of the new scores
    assert sum(verdict.is_defective for verdict in verdicts) == 2
    assert sorted(record["calibration"]["scores"]) == sorted(verdict.score for verdict in verdicts)
    assert all((verdict.anomaly_map[:, :49] == 0).all() for verdict in verdicts)
    assert all(region.area >= 60 for verdict in verdicts for region in verdict.regions)
    assert not any((verdict.anomaly_map > verdict.threshold).any() for verdict in verdicts if not verdict.is_defective)
    low = Inspector.load(tmp_path / "new", threshold=float(np.median(verdicts[0].anomaly_map[:, 50:])))
    found = low.inspect(sorted(good_dir.iterdir())[0])
    assert found.regions
    assert all(region.area >= 60 and region.left >= 49 for region in found.regions)
    again = calibrate(tmp_path / "new", good_dir, tmp_path / "again", target_rate=0.25)
    assert again == record
    assert read_package(tmp_path / "again").rules() == read_package(tmp_path / "new").rules()
    with pytest.raises(ValueError, match="has 90x100 pixels, the model's rules are for 100x90"):
        inspector.inspect(np.zeros((WIDTH, HEIGHT), dtype=np.uint8))


def test_rules_that_were_put_beside_a_model_are_refused(pipeline: Pipeline, good_dir: Path, tmp_path: Path) -> None:
    calibrate(pipeline.model_dir, good_dir, tmp_path / "plain")
    (tmp_path / "plain/rules.json").write_text("{}")
    with pytest.raises(ValueError, match="is no part of this model"):
        read_package(tmp_path / "plain")
