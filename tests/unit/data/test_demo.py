"""The demo surfaces: disjoint areas, the same bytes everywhere, defects only inside their masks."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from documents import ROOT
from PIL import Image

from ndpnet.config import load_params
from ndpnet.data.demo import DEMO_CATEGORIES, DEMO_GROUP_PATTERN, TEST_CELLS, TRAIN_CELLS, WINDOW, make_demo_data
from ndpnet.data.demo_defects import RENDERERS, Draws, draw_defect
from ndpnet.data.manifest import GOOD
from ndpnet.data.prepared import PreparedData
from ndpnet.data.preparing import prepare
from ndpnet.data.split import assign_splits
from ndpnet.metrics.summary import MIN_UNITS


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("demo") / "data"
    make_demo_data(out_dir)
    return out_dir


def test_every_split_has_its_cells(demo_dir: Path, tmp_path: Path) -> None:
    params = load_params()
    fractions = {
        name: getattr(params.data, name) for name in ("calibration_fraction", "validation_fraction", "group_pattern")
    }
    assert fractions.pop("group_pattern") == DEMO_GROUP_PATTERN
    splits = assign_splits(TRAIN_CELLS, **fractions)
    assert Counter(splits.values()) == {"train": 15, "calibration": 10, "validation": 3}
    # the profile asks for no lower a rate than ten units can guarantee
    assert params.evaluation.target_false_alarm_rate >= 1 / 11
    counts = prepare(demo_dir, "brick", tmp_path / "out", params.data.model_copy(update={"image_size": WINDOW}))
    assert [counts[f"num_{split}"] for split in ("train", "validation", "calibration", "test")] == [60, 12, 40, 72]
    assert (counts["num_test_good"], counts["num_test_defective"]) == (24, 48)
    prepared = PreparedData.load(tmp_path / "out")
    for split in ("train", "validation", "calibration"):
        assert {record.group for record in prepared.records(split)} == {
            cell for cell in splits if splits[cell] == split
        }
    # enough independent units of either class for a promotion, and none that training knows
    for is_good in (True, False):
        groups = {record.group for record in prepared.records("test") if (record.defect_type == GOOD) == is_good}
        assert groups == set(TEST_CELLS)
    assert len(TEST_CELLS) >= MIN_UNITS


@pytest.mark.parametrize("kind", sorted(RENDERERS))
@pytest.mark.parametrize("hardness", [0.0, 1.0])
def test_a_defect_changes_its_mask_and_nothing_else(demo_dir: Path, kind: str, hardness: float) -> None:
    for category in DEMO_CATEGORIES:
        surface = np.asarray(Image.open(min((demo_dir / category / "test/good").iterdir())).convert("L"))
        for key in range(3):
            image, mask = draw_defect(surface, kind, hardness=hardness, draws=Draws(key))
            change = np.abs(image.astype(int) - surface)
            assert not change[~mask].any()
            # to be seen, even where the surface is flat or so busy that the filling is much like it
            assert (change[mask] > 8).sum() >= 60


def test_the_surfaces_are_those_that_data_dvc_pins(demo_dir: Path) -> None:
    paths = sorted(path for path in demo_dir.rglob("*") if path.is_file())
    entries = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(demo_dir).as_posix()}
        for path in paths
    ]
    entries.sort(key=lambda entry: entry["relpath"])
    tree_hash = hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()  # as DVC hashes a folder
    pinned = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]
    assert (pinned["md5"], pinned["nfiles"]) == (f"{tree_hash}.dir", len(paths))
