"""A threshold from good pictures: which are refused, what changes in the package, what it promises."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from repositories import Repository
from samples import Pipeline

from ndpnet.cli import main
from ndpnet.data.prepared import PreparedData
from ndpnet.files import hash_of, sha256_of
from ndpnet.inference import Inspector
from ndpnet.inference.calibration import calibrate
from ndpnet.inference.package import read_package, write_config


@pytest.fixture
def good_dir(tmp_path: Path) -> Path:
    """Twelve good pictures of four parts that no model has seen, of another size."""
    from skimage.data import brick

    good_dir = tmp_path / "good"
    good_dir.mkdir()
    for number in range(12):
        crop = brick()[number * 30 : number * 30 + 90, 200:300]
        Image.fromarray(crop).save(good_dir / f"wall_p{number // 3}_{number}.png")
    return good_dir


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_training_fits_the_threshold_on_the_calibration_images(pipeline: Pipeline) -> None:
    prepared = PreparedData.load(pipeline.prepared_dir)
    inspector = Inspector.load(pipeline.model_dir)
    scores = [inspector.predict(image).score for image in prepared.images("calibration")]
    record = config_of(pipeline.model_dir)["threshold"]
    assert record["value"] == max(scores)  # 3 units are far from the 99 that 1 % needs
    assert (record["num_images"], record["num_units"], record["units_needed"]) == (6, 3, 99)
    assert record["guaranteed_rate"] == 0.25
    assert record["statement"] == (
        "On average at most 25.0 % false alarms on new good images, not the 1.0 % asked for: 3 independent calibration "
        "units; 99 would do."
    )
    assert record["data_hash"] == hash_of(sorted(each.sha256 for each in prepared.records("calibration")))


def test_a_new_package_differs_in_what_its_calibration_pictures_say_alone(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path
) -> None:
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "new")
    before, after = config_of(pipeline.model_dir), config_of(tmp_path / "new")
    assert after.pop("threshold") == record
    assert (record["num_units"], record["num_images"], record["guaranteed_rate"]) == (4, 12, 0.2)  # by its own pattern
    assert before.pop("threshold") != record
    assert after.pop("surface") != before.pop("surface")
    assert after["files"].pop("manifest.json") != before["files"].pop("manifest.json")
    assert after.pop("lineage") == before.pop("lineage") | {"is_data_pinned": False}
    assert after.pop("record_hash") != before.pop("record_hash")
    assert after == before
    names = sorted(path.name for path in pipeline.model_dir.iterdir())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    for name in set(names) - {"config.json", "manifest.json", ".ndpnet.json"}:
        assert (tmp_path / "new" / name).read_bytes() == (pipeline.model_dir / name).read_bytes()
    inspector = Inspector.load(tmp_path / "new")
    scores = [inspector.inspect(path).score for path in sorted(good_dir.iterdir())]
    assert inspector.threshold == record["value"] == max(scores)
    hashes = sorted(sha256_of(path) for path in good_dir.iterdir())
    assert record["data_hash"] == hash_of(hashes)
    old, new = (read_package(folder).manifest() for folder in (pipeline.model_dir, tmp_path / "new"))
    assert sorted(each.sha256 for each in new.records("calibration")) == hashes  # so that they are no test images
    assert [read_package(folder).is_recalibrated for folder in (pipeline.model_dir, tmp_path / "new")] == [False, True]
    for split in ("train", "validation", "test"):
        assert new.records(split) == old.records(split)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "new"]


def test_a_package_of_pinned_data_stays_so_if_its_new_calibration_pictures_are_pinned(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path, repository: Repository
) -> None:
    trained = shutil.copytree(pipeline.model_dir, tmp_path / "trained")
    lineage = config_of(trained)["lineage"] | {"is_data_pinned": True}
    write_config(trained, config_of(trained) | {"lineage": lineage})
    pinned_dir = shutil.copytree(good_dir, repository.data_dir / "line/good")

    def is_pinned(model: Path, pictures: Path, name: str) -> bool:
        told = CliRunner().invoke(main, ["calibrate", str(model), str(pictures), "--out", str(tmp_path / name)])
        assert told.exit_code == 0, told.output
        assert told.output.endswith(f"Written to {tmp_path / name}\n")
        return config_of(tmp_path / name)["lineage"]["is_data_pinned"]

    assert not is_pinned(trained, pinned_dir, "before")
    repository.pin()
    assert is_pinned(trained, pinned_dir, "pinned")
    assert not is_pinned(trained, good_dir, "elsewhere")
    assert not is_pinned(pipeline.model_dir, pinned_dir, "of unpinned training")
    next(pinned_dir.iterdir()).unlink()
    assert not is_pinned(trained, pinned_dir, "without one")


def test_calibrating_in_place_and_again_gives_the_same_bytes(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path
) -> None:
    model_dir = shutil.copytree(pipeline.model_dir, tmp_path / "model")
    calibrate(model_dir, good_dir, model_dir)
    first = (model_dir / "config.json").read_bytes()
    assert first != (pipeline.model_dir / "config.json").read_bytes()
    calibrate(model_dir, good_dir, model_dir)
    assert (model_dir / "config.json").read_bytes() == first


@pytest.mark.parametrize("name", ["harmless.png", "harmless.bmp"])
def test_training_images_are_refused_whatever_their_name_and_format(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path, name: str
) -> None:
    with Image.open(pipeline.data_dir / "wall/train/good/wall_p00_0.png") as image:
        image.save(good_dir / name)
    message = rf"good/{name} is one of the model's training images \(calibrate on pictures it has never seen\)$"
    with pytest.raises(ValueError, match=message):
        calibrate(pipeline.model_dir, good_dir, tmp_path / "new", group_pattern="")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good"]


def test_defective_pictures_and_masks_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    for below in ("test", "test/hole", "ground_truth", "."):
        with pytest.raises(ValueError, match=r"holds no good pictures, by its name or by the folders beside it"):
            calibrate(pipeline.model_dir, pipeline.data_dir / "wall" / below, tmp_path / "new")
    assert calibrate(pipeline.model_dir, pipeline.data_dir / "wall/test/good", tmp_path / "new")["num_images"] == 6


def test_folders_are_part_of_the_names_that_tell_groups(pipeline: Pipeline, good_dir: Path, tmp_path: Path) -> None:
    for path in sorted(good_dir.iterdir()):
        part, number = path.stem.rsplit("_", 1)
        (good_dir / part).mkdir(exist_ok=True)
        path.rename(good_dir / part / f"{number}.png")
    assert calibrate(pipeline.model_dir, good_dir, tmp_path / "new")["num_units"] == 4


def test_copies_count_once(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = calibrate(pipeline.model_dir, good_dir, tmp_path / "alone", group_pattern="")
    with Image.open(good_dir / "wall_p0_0.png") as image:
        for number in range(87):
            image.save(good_dir / f"x{number:02}.{'bmp' if number % 2 else 'png'}")
        image.save(good_dir / "y.jpg", quality=95)
    caplog.clear()
    (good_dir / "z.png").write_bytes((good_dir / "wall_p0_1.png").read_bytes())
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "copied", group_pattern="")
    assert (alone["num_units"], record["num_units"], record["num_images"]) == (12, 13, 13)
    copies, alike = [each.getMessage() for each in caplog.records]
    assert copies == "88 images are copies, first x00.png = wall_p0_0.png: each counts once"
    assert alike.startswith("1 pictures look nearly as another one, first wall_p0_0.png and y.jpg")


def test_images_the_model_was_only_calibrated_on_are_welcome(pipeline: Pipeline, tmp_path: Path) -> None:
    good_dir = tmp_path / "good"
    good_dir.mkdir()
    for shot in range(2):
        for group in ("p08", "p11", "p17"):
            shutil.copy(pipeline.data_dir / f"wall/train/good/wall_{group}_{shot}.png", good_dir)
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "new", group_pattern=r"_(p\d+)_")
    for each in record["highest"]:
        each["path"] = f"train/good/{each['path']}"  # as they are called in the folder of the category
    assert record == config_of(pipeline.model_dir)["threshold"]
    old, new = (read_package(folder).manifest() for folder in (pipeline.model_dir, tmp_path / "new"))
    assert sorted(each.sha256 for each in new.files) == sorted(each.sha256 for each in old.files)


def test_bad_folders_are_one_line_and_leave_nothing(pipeline: Pipeline, good_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file or folder .*none"):
        calibrate(pipeline.model_dir, tmp_path / "none", tmp_path / "new")
    with pytest.raises(ValueError, match="will not replace folder"):
        calibrate(pipeline.model_dir, good_dir, good_dir)
    for options, message in (({"group_pattern": "(lamp)"}, "finds no group in"), ({"target_rate": 0.0}, "target_rate")):
        with pytest.raises(ValueError, match=message):
            calibrate(pipeline.model_dir, good_dir, tmp_path / "new", **options)
    assert len(list(good_dir.iterdir())) == 12
    (good_dir / "x_p0_.png").write_bytes((good_dir / "wall_p0_0.png").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cannot read .*good/x_p0_\.png"):
        calibrate(pipeline.model_dir, good_dir, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good"]


def test_a_new_region_of_interest_goes_into_the_new_package_alone(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path
) -> None:
    drawn = np.zeros((45, 50), dtype=np.uint8)
    drawn[:, 25:] = 255
    Image.fromarray(drawn).save(tmp_path / "camera 2.bmp")
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "new", roi_path=tmp_path / "camera 2.bmp")
    inspector = Inspector.load(tmp_path / "new")
    np.testing.assert_array_equal(inspector.roi, drawn > 0)
    verdicts = [inspector.inspect(path) for path in sorted(good_dir.iterdir())]
    assert record["value"] == max(verdict.score for verdict in verdicts)
    assert all((verdict.anomaly_map[:, :49] == 0).all() for verdict in verdicts)
    assert Inspector.load(pipeline.model_dir).roi is None
    everywhere = calibrate(pipeline.model_dir, good_dir, tmp_path / "everywhere")
    assert everywhere["value"] >= record["value"]
    # it stays when the threshold is fitted again, and can be replaced
    again = calibrate(tmp_path / "new", good_dir, tmp_path / "again")
    assert again == record
    np.testing.assert_array_equal(Inspector.load(tmp_path / "again").roi, drawn > 0)
    Image.fromarray(255 - drawn).save(tmp_path / "other.png")
    calibrate(tmp_path / "new", good_dir, tmp_path / "other", roi_path=tmp_path / "other.png")
    np.testing.assert_array_equal(Inspector.load(tmp_path / "other").roi, drawn == 0)


def test_with_a_review_rate_there_are_three_verdicts_and_the_record_says_what_they_promise(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path
) -> None:
    rates = {"target_rate": 0.1, "review_rate": 0.2}
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "new", group_pattern="", **rates)
    review = record["review"]
    assert (review["review_rate"], review["guaranteed_rate"]) == (0.2, pytest.approx(0.3))
    assert review["statement"] == "At most 30.0 % of new good images are sent to review or called defective."
    inspector = Inspector.load(tmp_path / "new")
    assert inspector.review_threshold == review["value"] < inspector.threshold
    verdicts = [inspector.inspect(path) for path in sorted(good_dir.iterdir())]
    words = [
        "defective" if each.score > record["value"] else "review" if each.score > review["value"] else "good"
        for each in verdicts
    ]
    assert [each.word for each in verdicts] == words
    assert {"good", "review"} <= set(words)
    assert [bool(each.regions) for each in verdicts] == [word != "good" for word in words]
    bounds = f"review from {review['value']:.4f}, threshold {record['value']:.4f}"
    assert str(verdicts[0]) == f"{words[0]}: score {verdicts[0].score:.4f}, {bounds}"
    command = ["inspect", str(good_dir), "--model", str(tmp_path / "new"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(main, [*command, "--no-overlays"])
    assert told.exit_code == 4
    assert f"0 defective, {words.count('review')} for review, 0 not judged" in told.output
    table = (tmp_path / "out" / "predictions.csv").read_text()
    assert table.count(",review,") == words.count("review")
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"0 defective, {words.count('review')} for review, {words.count('good')} good, " in page
    assert "<option>review</option>" in page
    assert f'"review": {review["value"]}' in page
    # the rates stay when the threshold is fitted again
    assert calibrate(tmp_path / "new", good_dir, tmp_path / "again", group_pattern="") == record
    # a threshold by hand promises nothing: two verdicts
    assert Inspector.load(tmp_path / "new", threshold=0.0).review_threshold is None
    assert Inspector.load(pipeline.model_dir).review_threshold is None


def test_rules_hold_before_the_threshold_is_fitted_and_stay_in_the_package(
    pipeline: Pipeline, good_dir: Path, tmp_path: Path
) -> None:
    left = {"name": "label", "box": [0, 0, 50, 90], "factor": None}
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"zones": [left], "smallest_defect": 60}))
    options = {"group_pattern": "", "target_rate": 0.25}
    record = calibrate(pipeline.model_dir, good_dir, tmp_path / "new", rules_path=path, **options)
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
    again = calibrate(tmp_path / "new", good_dir, tmp_path / "again", **options)
    assert again == record
    assert read_package(tmp_path / "again").rules() == read_package(tmp_path / "new").rules()
    with pytest.raises(ValueError, match="has 90x100 pixels, the model's rules are for 100x90"):
        inspector.inspect(np.zeros((100, 90), dtype=np.uint8))
