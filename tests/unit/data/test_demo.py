"""The demo surfaces: disjoint areas, the same bytes everywhere, defects only inside their masks."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ndpnet.data.demo import (
    DEMO_CATEGORIES,
    DEMO_GROUP_PATTERN,
    TEST_BLOCKS,
    TRAIN_BLOCKS,
    WINDOW,
    choose_test_windows,
    choose_train_windows,
    encode_png,
    make_demo_data,
)
from ndpnet.data.demo_defects import RENDERERS, Draws, draw_defect
from ndpnet.data.manifest import GOOD
from ndpnet.data.prepared import PreparedData, prepare
from ndpnet.data.split import assign_split
from ndpnet.promotion.gate import MIN_UNITS

FRACTIONS = {"calibration_fraction": 0.2, "validation_fraction": 0.1}
# of all paths and bytes: if it changes, so does the hash that pins the demo data
TREE_SHA256 = "27e63fadf17dadd32ea214a607b74bc3d532fc4ea206314ce2213f3e0fbdccd2"


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("demo") / "data"
    make_demo_data(out_dir)
    return out_dir


def tree_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")):
        digest.update(path.encode() + b"\0" + (folder / path).read_bytes())
    return digest.hexdigest()


def read_grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L")).astype(int)


def test_blocks_are_disjoint() -> None:
    covered = np.zeros((512, 512), dtype=int)
    for top, left, height, width in (*TRAIN_BLOCKS.values(), *TEST_BLOCKS.values()):
        assert top + height <= 512
        assert left + width <= 512
        covered[top : top + height, left : left + width] += 1
    assert covered.max() == 1


def test_windows_stay_in_their_blocks_and_differ() -> None:
    train, test = choose_train_windows(Draws(5)), choose_test_windows(Draws(5), 60)
    for windows, blocks in ((train, TRAIN_BLOCKS), (test, TEST_BLOCKS)):
        assert len(set(windows)) == len(windows)
        assert {block for block, _, _ in windows} == set(blocks)
        for block, y, x in windows:
            top, left, height, width = blocks[block]
            assert top <= y <= top + height - WINDOW
            assert left <= x <= left + width - WINDOW


def test_every_split_has_blocks_of_every_category(demo_dir: Path, tmp_path: Path) -> None:
    splits = {block: assign_split(block, **FRACTIONS) for block in TRAIN_BLOCKS}
    assert sorted(splits.values()) == ["calibration", "train", "train", "train", "train", "validation"]
    for category in DEMO_CATEGORIES:
        out_dir = tmp_path / category
        settings = {"image_size": WINDOW, "group_pattern": DEMO_GROUP_PATTERN, **FRACTIONS}
        counts = prepare(demo_dir, category, out_dir, **settings)
        assert [counts[f"num_{split}"] for split in ("train", "validation", "calibration", "test")] == [64, 16, 16, 72]
        assert (counts["num_test_good"], counts["num_test_defective"], counts["num_defect_types"]) == (24, 48, 6)
        prepared = PreparedData.load(out_dir)
        for split in ("train", "validation", "calibration"):
            groups = {record.group for record in prepared.records(split)}
            assert groups == {block for block in splits if splits[block] == split}
        # enough independent units of either class for a promotion, and none that training knows
        for is_good in (True, False):
            groups = {record.group for record in prepared.records("test") if (record.defect_type == GOOD) == is_good}
            assert groups == set(TEST_BLOCKS)
        assert len(TEST_BLOCKS) >= MIN_UNITS
        assert not set(TEST_BLOCKS) & set(TRAIN_BLOCKS)


def test_bytes_are_the_same_in_two_runs_and_everywhere(demo_dir: Path, tmp_path: Path) -> None:
    make_demo_data(tmp_path / "again")
    assert tree_sha256(demo_dir) == tree_sha256(tmp_path / "again") == TREE_SHA256


def test_written_surface_is_the_photograph(demo_dir: Path) -> None:
    from skimage import data

    for category in DEMO_CATEGORIES:
        windows = choose_train_windows(Draws(DEMO_CATEGORIES.index(category)))
        block, top, left = windows[17]
        surface = getattr(data, category)()[top : top + WINDOW, left : left + WINDOW]
        written = read_grey(demo_dir / category / "train" / "good" / f"{category}_{block}_01.png")
        np.testing.assert_array_equal(written, surface)


def test_every_defect_has_a_mask_of_sensible_area(demo_dir: Path) -> None:
    image_paths = [p for p in demo_dir.glob("*/test/*/*.png") if p.parent.name != "good"]
    assert len(image_paths) == 3 * 6 * 8
    for path in image_paths:
        mask_path = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask = read_grey(mask_path)
        assert mask.shape == (WINDOW, WINDOW)
        assert set(np.unique(mask)) == {0, 255}
        assert 20 <= (mask > 0).sum() < WINDOW * WINDOW / 2


@pytest.mark.parametrize("kind", sorted(RENDERERS))
@pytest.mark.parametrize("hardness", [0.0, 1.0])
def test_a_defect_changes_its_mask_and_nothing_else(demo_dir: Path, kind: str, hardness: float) -> None:
    for category in DEMO_CATEGORIES:
        surface = read_grey(sorted((demo_dir / category / "test" / "good").iterdir())[0]).astype(np.uint8)
        for key in range(3):
            image, mask = draw_defect(surface, kind, hardness=hardness, draws=Draws(key))
            change = np.abs(image.astype(int) - surface)
            assert not change[~mask].any()
            # visible in principle, even where the surface itself is busy and the filling is much like it
            assert (change[mask] > 4).mean() > 0.2
            assert change[mask].max() >= 25


def test_hard_defects_change_less_than_easy_ones(demo_dir: Path) -> None:
    surface = read_grey(sorted((demo_dir / "grass/test/good").iterdir())[0]).astype(np.uint8)
    for kind in RENDERERS:
        change = [0.0, 0.0]
        for hardness in (0, 1):
            for key in range(20):
                image, _ = draw_defect(surface, kind, hardness=hardness, draws=Draws(key))
                change[hardness] += np.abs(image.astype(int) - surface).sum()
        assert change[1] < 0.7 * change[0]


def test_draws_are_the_known_ones() -> None:
    draws = Draws(0)
    words = np.random.Philox(key=0).random_raw(3)
    assert draws.integer(3, 10) == 3 + int(words[0]) % 7
    assert draws.uniform(-1, 1) == (int(words[1]) >> 11) / 2**52 - 1


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (300, 301)])
def test_png_is_read_back_equal(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(grey))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), grey)
    with Image.open(io.BytesIO(encode_png(grey > 99))) as image:
        assert image.mode == "1"
        np.testing.assert_array_equal(np.asarray(image), grey > 99)


def test_the_surfaces_are_those_that_data_dvc_pins(tmp_path: Path) -> None:
    make_demo_data(tmp_path / "data")
    paths = sorted((tmp_path / "data").rglob("*.png"))
    entries = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(tmp_path / "data").as_posix()}
        for path in paths
    ]
    entries.sort(key=lambda entry: entry["relpath"])
    tree_hash = hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()  # as DVC hashes a folder
    pinned = yaml.safe_load((Path(__file__).parents[3] / "data.dvc").read_text())["outs"][0]
    assert (pinned["md5"], pinned["nfiles"]) == (f"{tree_hash}.dir", len(paths))
