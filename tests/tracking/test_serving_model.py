"""The MLflow model in this process: what it takes, what it answers, and that its scores are the Inspector's."""

import base64
import json
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from pictures import as_base64, decoded, encoded
from PIL import Image
from registered import with_threshold
from samples import CATEGORY, SIZE, Pipeline

from ndpnet.data.images import read_image
from ndpnet.data.roi import ROI, write_roi
from ndpnet.inference import Inspector
from ndpnet.inference.identity import package_files, package_hash
from ndpnet.inference.package import read_package, write_config
from ndpnet.serving_model import MAP_LEVELS, MAX_PICTURES
from ndpnet.tracking.flavor import input_example, write_mlflow_model


def write_model(package_dir: Path, folder: Path) -> mlflow.pyfunc.PyFuncModel:
    """Write a package as an MLflow model and load it."""
    package = read_package(package_dir)
    digest = package_hash(package_dir)
    write_mlflow_model(folder, package, package_hash=digest, model=Model(), card="", evaluation_dir=folder)
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def paths(pipeline: Pipeline) -> list[Path]:
    """Pictures of two sizes."""
    found = sorted((pipeline.data_dir / CATEGORY / "test").rglob("*.png"))
    return found[:2] + found[-2:]


@pytest.fixture(scope="module")
def package_dir(pipeline: Pipeline, paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with a threshold that half of the pictures exceed: its own may lie anywhere."""
    scores = [Inspector.load(pipeline.model_dir).inspect(path).score for path in paths]
    return with_threshold(pipeline.model_dir, tmp_path_factory.mktemp("package") / "model", float(np.median(scores)))


@pytest.fixture(scope="module")
def model(package_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> mlflow.pyfunc.PyFuncModel:
    """The small model as MLflow loads it."""
    return write_model(package_dir, tmp_path_factory.mktemp("mlflow") / "model")


@pytest.fixture(scope="module")
def inspector(package_dir: Path) -> Inspector:
    """The same model as ndpnet loads it."""
    return Inspector.load(package_dir)


def test_scores_are_those_of_the_inspector_bit_for_bit(
    model: mlflow.pyfunc.PyFuncModel, inspector: Inspector, paths: list[Path]
) -> None:
    expected = [inspector.inspect(path) for path in paths]
    assert len({verdict.anomaly_map.shape for verdict in expected}) == 2
    assert len({verdict.is_defective for verdict in expected}) == 2, "the pictures do not tell good from defective"
    pixels = [read_image(path) for path in paths]
    for cells in (
        [path.read_bytes() for path in paths],
        [as_base64(path) for path in paths],
        [base64.encodebytes(path.read_bytes()).decode() for path in paths],  # with line breaks
        pixels,
        [image[:, :, 0] for image in pixels],  # they are grey
        [image[:, :, :1] for image in pixels],
        [image.tolist() for image in pixels],
    ):
        for batch in (pd.DataFrame({"image": cells}), {"image": cells}):
            rows = model.predict(batch)
            assert [row["score"] for row in rows] == [verdict.score for verdict in expected]
            assert [row["verdict"] for row in rows] == [("good", "defective")[v.is_defective] for v in expected]
            assert [(row["height"], row["width"]) for row in rows] == [v.anomaly_map.shape for v in expected]
            assert [row["regions"] for row in rows] == [[vars(region) for region in v.regions] for v in expected]
            assert {row["threshold"] for row in rows} == {inspector.threshold}
            assert {row["map"] for row in rows} == {row["error"] for row in rows} == {None}
            assert {row["package_hash"] for row in rows} == {package_hash(inspector.package.folder)}


def test_pictures_in_colour_stay_in_colour(model: mlflow.pyfunc.PyFuncModel, inspector: Inspector) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    rows = model.predict(pd.DataFrame({"image": [image, encoded(Image.fromarray(image)), image.tolist()]}))
    assert {row["score"] for row in rows} == {inspector.inspect(image).score}
    assert rows[0]["score"] != model.predict(pd.DataFrame({"image": [image[:, :, 0]]}))[0]["score"]


def test_the_map_on_request(model: mlflow.pyfunc.PyFuncModel, inspector: Inspector, paths: list[Path]) -> None:
    rows = model.predict({"image": [as_base64(path) for path in paths]}, params={"with_map": True})
    for path, row in zip(paths, rows, strict=True):
        levels = decoded(base64.b64decode(row["map"]))
        assert levels.dtype == np.uint16
        expected = inspector.inspect(path).anomaly_map
        assert levels.shape == expected.shape
        assert np.abs(levels / MAP_LEVELS - expected).max() <= 0.5 / MAP_LEVELS + 1e-7


def test_one_request_cannot_take_the_machine(model: mlflow.pyfunc.PyFuncModel, paths: list[Path]) -> None:
    small = encoded(Image.new("L", (64, 64)))
    head = small[:12] + b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    claims_much = head + struct.pack(">I", zlib.crc32(head[12:])) + small[33:]
    rows = model.predict(pd.DataFrame({"image": [claims_much, paths[0].read_bytes()]}))
    assert "image 0 is beyond the 256 pictures and 100 megapixels of one request" in rows[0]["error"]
    assert rows[1]["error"] is None
    large = np.zeros((40, 2_000_000), dtype=np.uint8)  # refused for its side: what is not inspected counts, too
    rows = model.predict(pd.DataFrame({"image": [large, large, paths[0].read_bytes()]}))
    assert ["a side below 64" in rows[0]["error"], "megapixels of one" in rows[1]["error"]] == [True, True]
    assert rows[2]["error"] is None
    many = [np.zeros((1, 1), dtype=np.uint8)] * MAX_PICTURES
    rows = model.predict(pd.DataFrame({"image": [*many, paths[0].read_bytes()]}))
    assert ["pictures and" in row["error"] for row in rows[-2:]] == [False, True]


def test_what_cannot_be_read_has_its_error_and_the_others_their_verdict(
    model: mlflow.pyfunc.PyFuncModel, inspector: Inspector, paths: list[Path]
) -> None:
    grey = np.full((80, 80), 90, dtype=np.uint8)
    wrong: list[tuple[Any, str]] = [
        ("not base64!", "image 1: not valid base64"),
        (as_base64(b"no picture"), "cannot read image 2: not a picture"),
        (paths[0].read_bytes()[:200], "cannot read image 3"),
        ("", "cannot read image 4"),
        (None, "image 5 is a NoneType"),
        ({"a": 1}, "image 6 is a dict"),
        (grey.astype(np.float32), "image 7 is no picture but float32 (80, 80)"),
        (np.zeros((80, 80, 4), dtype=np.uint8), "image 8 is no picture but uint8 (80, 80, 4)"),
        (grey[:40], "image 9 has 80x40 pixels, a side below 64"),
        ((grey.astype(int) + 200).tolist(), "image 10 is no picture but int64 (80, 80) (pass whole numbers"),
        ((grey.astype(int) - 100).tolist(), "image 11 is no picture but int64 (80, 80)"),
        ((grey / 255).tolist(), "image 12 is no picture but float64 (80, 80)"),
        ([[1, 2], [3]], "image 13 has rows of unequal length"),
        ("data:image/png;base64," + as_base64(paths[0]), "image 14: not valid base64"),
        ("aéà=", "image 15: not valid base64"),
        ([], "image 16 is no picture but float64 (0,)"),
    ]
    rows = model.predict(pd.DataFrame({"image": [paths[0].read_bytes(), *(cell for cell, _ in wrong), grey]}))
    assert len(rows) == len(wrong) + 2
    assert rows[0]["score"] == inspector.inspect(paths[0]).score
    assert rows[-1]["error"] is None
    for row, (_, message) in zip(rows[1:-1], wrong, strict=True):
        assert message in row["error"]
        assert "\n" not in row["error"]
        assert (row["verdict"], row["score"], row["regions"], row["map"]) == ("error", None, [], None)


def test_a_model_without_a_threshold_gives_scores(pipeline: Pipeline, paths: list[Path], tmp_path: Path) -> None:
    package_dir = with_threshold(pipeline.model_dir, tmp_path / "package", None)
    row = write_model(package_dir, tmp_path / "model").predict({"image": [paths[0].read_bytes()]})[0]
    assert (row["verdict"], row["threshold"], row["regions"]) == ("unknown", None, [])
    assert row["score"] == Inspector.load(package_dir).inspect(paths[0]).score


def test_requests_at_once_get_their_own_answers(
    model: mlflow.pyfunc.PyFuncModel, inspector: Inspector, paths: list[Path]
) -> None:
    with ThreadPoolExecutor(len(paths)) as threads:
        answers = list(threads.map(lambda path: model.predict({"image": [path.read_bytes()]})[0]["score"], 3 * paths))
    assert answers == 3 * [inspector.inspect(path).score for path in paths]


def test_the_input_example_is_small_and_fits(model: mlflow.pyfunc.PyFuncModel, pipeline: Pipeline) -> None:
    frame, params = input_example(read_package(pipeline.model_dir))
    assert len(frame["image"][0]) < 500
    for row in (model.predict(model.input_example)[0], model.predict(frame, params=params)[0]):
        assert (row["error"], row["width"], row["height"]) == (None, SIZE, SIZE)


def test_a_region_of_interest_travels_with_the_model(pipeline: Pipeline, paths: list[Path], tmp_path: Path) -> None:
    package_dir = shutil.copytree(pipeline.model_dir, tmp_path / "package")
    height, width = read_image(paths[0]).shape[:2]
    roi = np.zeros((height, width), dtype=bool)
    roi[:, : width // 2] = True
    write_roi(package_dir / ROI, roi)
    write_config(package_dir, json.loads((package_dir / "config.json").read_text()))
    model = write_model(package_dir, tmp_path / "model")
    row = model.predict({"image": [paths[0].read_bytes()]}, params={"with_map": True})[0]
    verdict = Inspector.load(package_dir).inspect(paths[0])
    assert (row["score"], row["regions"]) == (verdict.score, [vars(region) for region in verdict.regions])
    assert row["score"] != Inspector.load(pipeline.model_dir).inspect(paths[0]).score
    assert not decoded(base64.b64decode(row["map"]))[:, -width // 4 :].any()
    assert model.predict(model.input_example)[0]["width"] == width


def test_the_hash_of_a_package_is_of_everything_in_it(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline.model_dir, tmp_path / "package")
    original = package_hash(folder)
    (folder / ".hidden").write_text("x")
    assert package_hash(folder) == original
    assert package_files(folder) == (
        "config.json", "history_phase1.jsonl", "history_phase2.jsonl", "manifest.json", "reference.png",
        "weights.safetensors",
    )  # fmt: skip
    (folder / "more.txt").write_text("x")
    assert package_hash(folder) != original
    (folder / "more.txt").rename(folder / "other.txt")
    renamed = package_hash(folder)
    (folder / "other.txt").write_text("y")
    assert len({original, renamed, package_hash(folder)}) == 3
    (folder / "link").symlink_to(folder / "config.json")
    with pytest.raises(ValueError, match="link is no plain file"):
        package_hash(folder)
    (folder / "link").unlink()
    (folder / "sub").mkdir()
    with pytest.raises(ValueError, match="sub is no plain file"):
        package_hash(folder)
