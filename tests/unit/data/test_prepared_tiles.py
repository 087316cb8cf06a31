"""prepare in `tile` mode: training tiles of scans, whole scans to calibrate and test on, a region of interest."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import data_config, write_picture
from scans import CATEGORY, SIDE, SIZES, TILE_DATA, TILE_SIDE, write_scans
from skimage.data import brick

from ndpnet.data.images import read_image
from ndpnet.data.prepared import PreparedData
from ndpnet.data.preparing import prepare

SETTINGS = data_config(**TILE_DATA, group_pattern=r"_(p\d+)_", calibration_fraction=0.2, validation_fraction=0.1)


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("scans")
    write_scans(data_dir / CATEGORY, brick())
    return data_dir


@pytest.fixture
def data_dir(source_dir: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(source_dir, tmp_path / "data")


@pytest.fixture
def roi_data_dir(tmp_path: Path) -> Path:
    """Scans of one size with a region of interest."""
    write_scans(tmp_path / "data" / CATEGORY, brick(), sizes=SIZES[:1], roi=True)
    return tmp_path / "data"


def test_tiles_and_scans_are_the_pixels_that_the_manifest_names(source_dir: Path, tmp_path: Path) -> None:
    counts = prepare(source_dir, CATEGORY, tmp_path / "out", SETTINGS)
    data = PreparedData.load(tmp_path / "out")
    assert [counts[f"num_{split}"] for split in ("train", "validation", "calibration", "test")] == [6, 1, 3, 7]
    for split in ("train", "validation"):
        tiles, names = iter(data.images(split)), iter(data.row_names(split))
        for record in data.records(split):
            scan = read_image(source_dir / CATEGORY / record.path)
            assert scan.shape == (record.height, record.width, 3)
            for left, top in record.tiles:
                np.testing.assert_array_equal(next(tiles), scan[top : top + SIDE, left : left + SIDE])
                assert next(names) == f"{record.path} ({left}, {top})"
        assert next(tiles, None) is None
        assert counts[f"num_{split}_tiles"] == len(data.images(split)) > 0
    for split in ("calibration", "test"):
        for record, name, scan in zip(data.records(split), data.row_names(split), data.images(split), strict=True):
            assert record.tiles == ()
            assert name == record.path
            np.testing.assert_array_equal(scan, read_image(source_dir / CATEGORY / record.path))
    assert len({scan.shape for scan in data.images("test")}) == len(SIZES)
    for record, mask in zip(data.records("test"), data.masks(), strict=True):
        if record.mask_path is None:
            assert not mask.any()
        else:
            drawn = read_image(source_dir / CATEGORY / record.mask_path)[..., 0] > 0
            np.testing.assert_array_equal(mask, drawn.astype(np.uint8))
    assert data.tiling.side == TILE_SIDE
    assert data.input_size == (SIDE, SIDE)


def test_scans_are_scaled_before_anything_else(source_dir: Path, tmp_path: Path) -> None:
    prepare(source_dir, CATEGORY, tmp_path / "out", SETTINGS.model_copy(update={"scale": 0.99}))
    data = PreparedData.load(tmp_path / "out")
    for record, scan, mask in zip(data.records("test"), data.images("test"), data.masks(), strict=True):
        picture = Image.open(source_dir / CATEGORY / record.path).convert("RGB")
        size = (round(0.99 * picture.width), round(0.99 * picture.height))
        np.testing.assert_array_equal(scan, np.asarray(picture.resize(size, Image.Resampling.BILINEAR)))
        assert mask.shape == scan.shape[:2]
        assert (record.width, record.height) == picture.size
        assert mask.any() == (record.mask_path is not None)


def test_background_is_rejected(data_dir: Path, tmp_path: Path) -> None:
    scan = np.full((128, 300), 30, dtype=np.uint8)
    scan[:, 172:] = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    write_picture(data_dir / CATEGORY / "train/good/slab_p00_5.png", scan)
    prepare(data_dir, CATEGORY, tmp_path / "out", SETTINGS.model_copy(update={"tile_min_contrast": 5.0}))
    data = PreparedData.load(tmp_path / "out")
    record = next(each for each in data.records("train") if each.path.endswith("p00_5.png"))
    assert record.tiles == ((64, 0), (128, 0), (172, 0))
    with pytest.raises(ValueError, match=r"^no training tile is left: all were rejected as background or ignored"):
        prepare(data_dir, CATEGORY, tmp_path / "out", SETTINGS.model_copy(update={"tile_min_contrast": 120.0}))


def test_scans_to_test_on_may_be_smaller_than_a_tile_but_not_those_to_train_on(data_dir: Path, tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (70, 90), dtype=np.uint8)
    write_picture(data_dir / CATEGORY / "test/good/slab_p95_0.png", small)
    prepare(data_dir, CATEGORY, tmp_path / "out", SETTINGS)
    assert (70, 90, 3) in [scan.shape for scan in PreparedData.load(tmp_path / "out").images("test")]
    write_picture(data_dir / CATEGORY / "train/good/slab_p00_7.png", small[::-1])
    with pytest.raises(
        ValueError, match=r"slab_p00_7\.png has 90x70 pixels at scale 1, a training tile .* takes 128 \("
    ):
        prepare(data_dir, CATEGORY, tmp_path / "out", SETTINGS)


def test_the_settings_tell_mode_pin_and_region(roi_data_dir: Path, tmp_path: Path) -> None:
    prepare(roi_data_dir, CATEGORY, tmp_path / "out", SETTINGS, is_pinned=True)
    settings = json.loads((tmp_path / "out/prepared.json").read_text())
    assert SETTINGS.model_dump().items() <= settings.items()
    assert settings["is_pinned"] is True
    assert len(settings["roi_sha256"]) == 64
    data = PreparedData.load(tmp_path / "out")
    assert data.is_pinned
    expected = np.zeros(SIZES[0], dtype=bool)
    expected[:, SIZES[0][1] // 4 :] = True
    np.testing.assert_array_equal(data.roi(), expected)
    prepare(roi_data_dir, CATEGORY, tmp_path / "other", SETTINGS)
    assert not PreparedData.load(tmp_path / "other").is_pinned


def test_tiles_outside_the_region_are_not_trained_on(roi_data_dir: Path, tmp_path: Path) -> None:
    inspected = np.zeros(SIZES[0], dtype=bool)
    inspected[:, 200:] = True
    write_picture(roi_data_dir / CATEGORY / "roi.png", inspected)
    prepare(roi_data_dir, CATEGORY, tmp_path / "out", SETTINGS)
    data = PreparedData.load(tmp_path / "out")
    assert {left for record in data.records("train") for left, _ in record.tiles} == {128, 172}


@pytest.mark.parametrize("mode", ["tile", "resize"])
def test_a_region_that_does_not_fit_names_the_picture(roi_data_dir: Path, tmp_path: Path, mode: str) -> None:
    write_picture(roi_data_dir / CATEGORY / "roi.png", np.ones((100, 100), dtype=bool))
    with pytest.raises(ValueError, match=r"slab_p\d+_0\.png has 300x180 pixels, the region of interest 100x100"):
        prepare(roi_data_dir, CATEGORY, tmp_path / "out", SETTINGS.model_copy(update={"mode": mode}))
    (roi_data_dir / CATEGORY / "roi.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*roi\.png: not a picture"):
        prepare(roi_data_dir, CATEGORY, tmp_path / "out", SETTINGS.model_copy(update={"mode": mode}))
    assert not (tmp_path / "out").exists()
