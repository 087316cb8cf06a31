"""From a picture of any size and mode to a verdict; the same bits as the evaluation."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import Pipeline

from ndpnet.data.fitting import continue_surface
from ndpnet.data.images import read_image
from ndpnet.data.manifest import Manifest
from ndpnet.inference import Inspector
from ndpnet.inference.folder import inspect_folder
from ndpnet.inference.inspector import Prediction
from ndpnet.inference.package import MANIFEST, write_config
from ndpnet.inference.rules import Rules
from ndpnet.metrics.exact import image_score


@pytest.fixture(scope="module")
def inspector(pipeline: Pipeline) -> Inspector:
    return Inspector.load(pipeline.model_dir)


def with_threshold(inspector: Inspector, threshold: float | None) -> Inspector:
    return Inspector(inspector.engine, input_size=inspector.input_size, threshold=threshold)


def level_between(values: np.ndarray, share: float) -> float:
    """A number that about `share` of the values exceed, and that none equals."""
    ordered = np.unique(values)
    index = round((1 - share) * (len(ordered) - 1))
    return float(ordered[index] + ordered[min(index + 1, len(ordered) - 1)]) / 2


def test_a_raw_file_scores_bit_for_bit_as_in_the_evaluation(
    pipeline: Pipeline, evaluation_dir: Path, inspector: Inspector
) -> None:
    with (evaluation_dir / "predictions.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 12
    for row in rows:
        path = pipeline.data_dir / "wall" / row["path"]
        verdict = inspector.inspect(path)
        assert repr(verdict.score) == row["score"]
        assert repr(verdict.threshold) == row["threshold"]
        assert verdict.is_defective == (row["outcome"] in ("found", "false alarm"))
        assert verdict.word == row["verdict"]
    assert len({row["score"] for row in rows}) == 12


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_never_good(pipeline: Pipeline, value: float) -> None:
    with pytest.raises(ValueError, match=r"the threshold .* is no number to compare with"):
        Inspector.load(pipeline.model_dir, threshold=value)
    whole = Inspector.load(pipeline.model_dir)
    size = whole.input_size
    with pytest.raises(ValueError, match=r"the score is -?(nan|inf): no verdict"):
        whole.judge(Prediction(value, np.full(size, value, np.float32)), size=size)

    class Damaged:
        """An engine whose answer is a number almost everywhere, as a damaged weight may have it."""

        def predict(self, images: np.ndarray) -> np.ndarray:
            maps = whole.engine.predict(images).copy()
            maps[:, 3, 5] = value
            return maps

    damaged = Inspector(Damaged(), input_size=whole.input_size, threshold=0.5)
    with pytest.raises(ValueError, match=r"the model's answer to a picture is not a number everywhere: no verdict"):
        damaged.inspect(pipeline.data_dir / "wall/test/scratch/wall_p81_1.png", name="a picture")


@pytest.mark.parametrize("network_size", [64, 128, 192])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (80, 96), (64, 250), (200, 131)])
def test_defective_means_a_mask_and_regions(inspector: Inspector, network_size: int, height: int, width: int) -> None:
    """Also where the picture is smaller than the network's input, and a pixel of the map has none of its own."""
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    larger = Inspector(inspector.engine, input_size=(network_size, network_size), threshold=None)
    without = larger.inspect(image)
    assert without.is_defective is None
    assert without.threshold is None
    assert not without.mask.any()
    assert without.regions == ()
    just_below = float(np.nextafter(without.score, 0))
    map_values = larger.predict(larger.fit(image)).anomaly_map
    for threshold in (0.0, level_between(map_values, 0.3), level_between(map_values, 0.01), just_below):
        verdict = with_threshold(larger, threshold).inspect(image)
        assert verdict.is_defective
        assert verdict.regions[0].score == verdict.score == without.score
        assert [region.score for region in verdict.regions] == sorted(
            (region.score for region in verdict.regions), reverse=True
        )
        boxes = np.zeros((height, width), dtype=bool)
        for region in verdict.regions:
            assert 0 <= region.left < region.left + region.width <= width
            assert 0 <= region.top < region.top + region.height <= height
            assert region.area >= 1
            box = (slice(region.top, region.top + region.height), slice(region.left, region.left + region.width))
            assert verdict.mask[box].any()
            boxes[box] = True
        assert not (verdict.mask & ~boxes).any()
    for threshold in (without.score, 1.0):  # defective means above, not at
        verdict = with_threshold(larger, threshold).inspect(image)
        assert verdict.is_defective is False
        assert not verdict.mask.any()
        assert verdict.regions == ()


def test_a_single_pixel_makes_no_defect_where_several_are_asked_for(inspector: Inspector) -> None:
    several = Inspector(inspector.engine, input_size=(64, 64), threshold=0.5, score_pixels=4)
    plane = np.zeros((64, 64), np.float32)
    plane[8:10, 8:10] = [[0.9, 0.2], [0.2, 0.2]]
    spot = several.judge(Prediction(image_score(plane, 4), plane), size=(64, 64))
    assert (spot.is_defective, spot.regions, spot.mask.any()) == (False, (), False)
    plane[8:10, 8:10] = 0.6
    mark = several.judge(Prediction(image_score(plane, 4), plane), size=(64, 64))
    assert mark.is_defective
    assert [region.area for region in mark.regions] == [4]


def test_specks_are_shown_in_no_map_whatever_threshold_marks(inspector: Inspector) -> None:
    rules = Rules(width=64, height=64, smallest_defect=4)
    unsure = Inspector(inspector.engine, input_size=(64, 64), threshold=0.6, rules=rules)
    unsure.threshold_record = {"review": {"value": 0.3}}
    plane = np.zeros((64, 64), np.float32)
    plane[8:12, 8:12], plane[30, 30], plane[40:43, 40:43], plane[41, 41] = 0.9, 0.8, 0.4, 0.7
    for level in (0.9, 0.4):  # defective; for review
        verdict = unsure.judge(Prediction(level, plane), size=(64, 64))
        shown_from = 0.6 if verdict.is_defective else 0.3
        np.testing.assert_array_equal(verdict.network_map > shown_from, verdict.network_mask)
        assert len(verdict.regions) == (1 if verdict.is_defective else 2)


def test_what_people_pass_and_get_in_a_program(pipeline: Pipeline, tmp_path: Path) -> None:
    inspector = Inspector.load(str(pipeline.model_dir))
    assert re.fullmatch(r"Inspector\(wall, 64x64 px, torch-fp32, threshold 0\.\d{4} calibrated\)", repr(inspector))
    # given by hand it has no guarantee, even if it is the calibrated number
    assert Inspector.load(pipeline.model_dir, threshold=inspector.threshold).threshold_source == "manual"
    path = pipeline.data_dir / "wall/test/hole/wall_p80_1.png"
    colour = np.asarray(Image.open(path).convert("RGB"))
    grey = np.asarray(Image.open(path).convert("L"))
    same = list(inspector.inspect_many([path, str(path), path.read_bytes(), colour, grey, grey[..., None]]))
    assert len({verdict.score for verdict in same}) == 1
    assert str(same[0]) == f"{same[0].word}: score {same[0].score:.4f}, threshold {inspector.threshold:.4f}"
    same[-1].save(tmp_path / "verdict.png")
    assert Image.open(tmp_path / "verdict.png").width == 96 * 5
    judged = inspector.judge(inspector.predict(inspector.fit(colour)), size=colour.shape[:2])
    with pytest.raises(ValueError, match=r"^this verdict has no picture \(only `Inspector.inspect`"):
        judged.save(tmp_path / "none.png")


def test_what_cannot_be_inspected_is_named_in_one_line(inspector: Inspector, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    Image.fromarray(np.zeros((63, 200), dtype=np.uint8)).save(tmp_path / "small.png")
    refused = {
        r"cannot read .*text\.png: not a picture": tmp_path / "text.png",
        r"cannot read .*none\.png: no such file": tmp_path / "none.png",
        r"small\.png has 200x63 pixels, a side below 64": tmp_path / "small.png",
        r"^the image is int16 \(80, 96\) \(pass uint8 \(H, W, 3\) or \(H, W\), or the file\)$": np.zeros(
            (80, 96), "i2"
        ),
        r"^the image is float64 \(80, 96, 3\)": np.zeros((80, 96, 3)),
        r"^the image is uint8 \(0, 0, 3\)": np.zeros((0, 0, 3), "u1"),
        r"^the image is a Image \(pass an array, or the file\)": Image.fromarray(np.zeros((80, 96), "u1")),
    }
    for message, image in refused.items():
        with pytest.raises(ValueError, match=message) as caught:
            inspector.inspect(image)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^camera 7 has 200x63 pixels"):
        inspector.inspect((tmp_path / "small.png").read_bytes(), name="camera 7")


def test_a_device_that_is_not_there_is_one_line(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match=r"^no device 'gpu' \(use cpu or cuda\)$"):
        Inspector.load(pipeline.model_dir, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"^device cuda was asked for, but no CUDA device is visible"):
            Inspector.load(pipeline.model_dir, device="cuda")


def test_a_picture_of_another_aspect_keeps_its_own(inspector: Inspector) -> None:
    image = np.random.default_rng(3).integers(0, 256, (80, 160, 3), dtype=np.uint8)
    square = with_threshold(inspector, 0.0)
    fitted = square.fit(image)
    filled = continue_surface(fitted, (64, 64))
    verdict = square.inspect(image)
    assert fitted.shape == (*verdict.network_map.shape, 3) == verdict.reconstruction.shape == (32, 64, 3)
    np.testing.assert_array_equal(verdict.network_map, square.predict(filled).anomaly_map[:32])
    np.testing.assert_array_equal(verdict.reconstruction, square.rebuild(filled)[:32])
    assert verdict.score == verdict.network_map.max()
    assert verdict.anomaly_map.shape == verdict.mask.shape == (80, 160)


def test_a_region_of_interest_scales_with_the_picture(inspector: Inspector) -> None:
    """Drawn at one size, obeyed at any; what is left scores as before."""
    roi = np.zeros((40, 60), dtype=bool)
    roi[:, 30:] = True
    image = np.random.default_rng(3).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    sizes = {"input_size": (64, 64), "aspect_ratio": 1.5}
    everywhere = Inspector(inspector.engine, threshold=0.0, **sizes).inspect(image)
    partly = Inspector(inspector.engine, threshold=0.0, roi=roi, **sizes)
    map_inside = partly.predict(np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)))
    assert (map_inside.anomaly_map[:, :32] == 0).all()
    verdict = partly.inspect(image)
    assert verdict.score == map_inside.anomaly_map[:, 32:].max() <= everywhere.score
    expected = np.zeros((80, 120), dtype=bool)
    expected[:, 60:] = True
    np.testing.assert_array_equal(verdict.roi, expected)
    np.testing.assert_array_equal(verdict.mask, expected)
    assert (verdict.anomaly_map[:, :60] == 0).all()
    assert (verdict.anomaly_map[:, 60:] > 0).all()
    assert [(region.left, region.width) for region in verdict.regions] == [(60, 60)]
    larger = partly.inspect(np.asarray(Image.fromarray(image).resize((300, 200))))
    np.testing.assert_array_equal(larger.roi, np.arange(300)[None].repeat(200, axis=0) >= 150)
    assert (larger.anomaly_map[:, :150] == 0).all()
    with pytest.raises(ValueError, match=r"^the image has 80x120 pixels, .*60x40, of another aspect"):
        partly.inspect(image.transpose(1, 0, 2).copy())


def test_12_bits_are_inspected_as_the_set_that_the_package_was_made_of(pipeline: Pipeline, tmp_path: Path) -> None:
    package = shutil.copytree(pipeline.model_dir, tmp_path / "model")
    manifest = Manifest.load(package / MANIFEST)
    files = tuple(replace(record, bit_depth=12) for record in manifest.files)
    Manifest(manifest.category, files).save(package / MANIFEST)
    write_config(package, json.loads((package / "config.json").read_text()))
    source = pipeline.data_dir / "wall/test/hole/wall_p80_1.png"
    pixels = read_image(source)
    levels = ((pixels[:, :, 0].astype(np.uint32) * 4095 + 127) // 255).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "x.png")
    of_12_bits, of_8_bits = Inspector.load(package), Inspector.load(pipeline.model_dir)
    assert (of_12_bits.bit_depth, of_8_bits.bit_depth) == (12, 8)
    assert (pixels == pixels[:, :, :1]).all()
    assert of_12_bits.inspect(tmp_path / "x.png").score == of_8_bits.inspect(source).score
    with pytest.raises(ValueError, match=r"x\.png: levels up to \d+ in a 16-bit file, .* have 8 bits"):
        of_8_bits.inspect(tmp_path / "x.png")
    Image.fromarray(levels * 16).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: levels up to \d+ in a 16-bit file, .* have 12 bits"):
        of_12_bits.inspect(tmp_path / "x.png")
    inspect_folder(of_12_bits, tmp_path / "x.png", tmp_path / "out")
    assert "have 12 bits" in (tmp_path / "out/predictions.csv").read_text()
