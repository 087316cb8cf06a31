"""The model package: read back equal in another process, refused in one line when anything is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import Pipeline

from ndpnet.data.prepared import PreparedData
from ndpnet.data.roi import write_roi
from ndpnet.data.tiling import Tiling
from ndpnet.inference import Inspector
from ndpnet.inference.package import (
    FORMAT_VERSION,
    ModelPackage,
    read_package,
    write_config,
    write_references,
)
from ndpnet.model import NDPNet
from ndpnet.model.weights import read_weights


@pytest.fixture
def copy_dir(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A package to damage."""
    return shutil.copytree(pipeline.model_dir, tmp_path / "model")


def edit_config(folder: Path, change: Callable[[dict], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_what_a_package_tells(pipeline: Pipeline, tmp_path: Path) -> None:
    package = read_package(pipeline.model_dir)
    prepared = PreparedData.load(pipeline.prepared_dir)
    assert package.input_size == (64, 64)
    assert package.threshold["num_images"] == 6
    assert package.threshold["num_units"] == 3
    assert "runtime" not in package.config["params"]
    hashes = {"training_data_hash", "params_hash", "code_hash", "bank_hash", "phase1_hash"}
    assert set(package.config["lineage"]) == hashes | {"versions", "processor", "is_data_pinned"}
    assert package.config["lineage"]["is_data_pinned"] is False
    assert package.tiling is None
    assert package.roi() is None
    (reference,) = package.config["references"]
    row = [record.path for record in prepared.records("train")].index(reference)
    np.testing.assert_array_equal(package.references(), prepared.images("train")[row : row + 1])
    several = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    write_references(several, tmp_path / "reference.png")
    np.testing.assert_array_equal(ModelPackage(tmp_path, {"input_size": [64, 64]}).references(), several)


@pytest.mark.parametrize(("encoder", "has_filters"), [("own", True), ("tf_efficientnet_lite0", False)])
def test_a_package_of_tiles_says_whether_its_map_is_filtered(
    pipeline: Pipeline, encoder: str, has_filters: bool
) -> None:
    params = pipeline.params.model_dump(mode="json")
    params["data"] |= {"mode": "tile", "image_size": 128, "tile_side": 256, "scale": 0.5}
    params["model"]["encoder"] = encoder
    assert ModelPackage(pipeline.model_dir, {"params": params}).tiling == Tiling(256, 0.5, has_filters)


@pytest.mark.parametrize("name", ["weights.safetensors", "reference.png", "manifest.json", "roi.png"])
def test_a_damaged_or_missing_file_is_named(copy_dir: Path, name: str) -> None:
    write_roi(copy_dir / "roi.png", np.eye(20, dtype=bool))
    write_config(copy_dir, json.loads((copy_dir / "config.json").read_text()))
    content = bytearray((copy_dir / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy_dir / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"model/{name} is damaged: not the hash in config\.json \(copy the pack"):
        read_package(copy_dir)
    (copy_dir / name).unlink()
    with pytest.raises(ValueError, match=rf"model/{name} is missing \(copy the package again\)$"):
        read_package(copy_dir)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '"text"', "\x80"])
def test_a_damaged_config_is_one_line(copy_dir: Path, content: str) -> None:
    (copy_dir / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json is damaged: .*\(copy the package again\)$") as caught:
        read_package(copy_dir)
    assert "\n" not in str(caught.value)


def test_another_version_is_told_from_damage(copy_dir: Path) -> None:
    # a later format may well have other entries
    (copy_dir / "config.json").write_text(f'{{"format_version": {FORMAT_VERSION + 1}}}')
    told = f"json has format {FORMAT_VERSION + 1}, this ndpnet reads {FORMAT_VERSION} \\(retrain, or install"
    with pytest.raises(ValueError, match=told):
        read_package(copy_dir)


def test_what_is_no_package_is_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"^no model package in .* \(it has no config\.json; run `ndpnet train-"):
            read_package(folder)


def test_weights_of_phase1_that_cannot_be_read_are_one_line(tmp_path: Path, pipeline: Pipeline) -> None:
    network = NDPNet(base_width=4, ffm_channels=4)
    (tmp_path / "half").write_bytes((pipeline.phase1_dir / "weights.safetensors").read_bytes()[:1000])
    for path in (tmp_path / "half", tmp_path / "none"):
        with pytest.raises(ValueError, match=r"^cannot read weights from .* \(run `ndpnet train-phase1` again\)$"):
            read_weights(path, network)
    before = network.encoder.layers[0][0].weight.clone()
    read_weights(pipeline.phase1_dir / "weights.safetensors", network)
    assert not torch.equal(network.encoder.layers[0][0].weight, before)


def test_a_region_of_interest_is_a_part_of_the_package(copy_dir: Path) -> None:
    roi = np.arange(400).reshape(20, 20) >= 100
    write_roi(copy_dir / "roi.png", roi)
    with pytest.raises(ValueError, match=r"roi\.png is no part of this model \(remove it; `ndpnet calibrate --roi`"):
        read_package(copy_dir)
    write_config(copy_dir, json.loads((copy_dir / "config.json").read_text()))
    np.testing.assert_array_equal(read_package(copy_dir).roi(), roi)
    np.testing.assert_array_equal(Inspector.load(copy_dir).roi, roi)


@pytest.mark.parametrize("change", [{"threshold": 0.9}, {"params": {}}, {"files": {}}, {"references": float("nan")}])
def test_a_config_that_was_changed_by_hand_is_refused(copy_dir: Path, change: dict) -> None:
    edit_config(copy_dir, lambda config: config.update(change))
    message = r"config\.json was changed after it was written \(copy the package again; `ndpnet calibrate` sets a thres"
    with pytest.raises(ValueError, match=message):
        read_package(copy_dir)
