"""prepare: from files to arrays, on real small pictures."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from data_sets import mask, picture
from PIL import Image
from repositories import contents
from samples import data_config, write_picture

from ndpnet.data.prepared import FORMAT_VERSION, PreparedData
from ndpnet.data.preparing import prepare
from ndpnet.data.split import assign_splits

FRACTIONS = {"calibration_fraction": 0.2, "validation_fraction": 0.1}
SETTINGS = data_config(image_size=64, group_pattern=r"^(p\d+)_", **FRACTIONS)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """20 groups of two training pictures, one good and two defective test pictures."""
    category_dir = tmp_path / "data" / "tile"
    for part in range(20):
        for shot in range(2):
            write_picture(category_dir / f"train/good/p{part}_{shot}.png", picture(10 * part + shot))
    write_picture(category_dir / "test/good/p90_0.png", picture(900))
    for number in range(2):
        write_picture(category_dir / f"test/cut/p9{number}_1.png", picture(910 + number))
        write_picture(category_dir / f"ground_truth/cut/p9{number}_1_mask.png", mask())
    return tmp_path / "data"


def test_rows_records_and_counts_agree(data_dir: Path, tmp_path: Path) -> None:
    counts = prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    data = PreparedData.load(tmp_path / "out")
    splits = assign_splits([f"p{part}" for part in range(20)], **FRACTIONS)
    for split in ("train", "validation", "calibration"):
        assert len(data.records(split)) == counts[f"num_{split}"] == 2 * [*splits.values()].count(split)
        for row, record in enumerate(data.records(split)):
            assert record.split == splits[record.group]
            part, shot = record.path.removeprefix("train/good/p").removesuffix(".png").split("_")
            grey = picture(10 * int(part) + int(shot))
            np.testing.assert_array_equal(data.images(split)[row], np.stack([grey] * 3, axis=2))
    assert isinstance(data.images("train"), np.memmap)
    assert (data.input_size, data.manifest.bit_depth) == ((64, 64), 8)
    assert counts["num_calibration_groups"] == [*splits.values()].count("calibration")
    assert (counts["num_test"], counts["num_test_good"], counts["num_test_defective"]) == (3, 1, 2)
    assert counts["data_hash"] == data.manifest.data_hash


@pytest.mark.parametrize(("size", "is_squeezed"), [((64, 384), True), ((384, 64), True), ((64, 288), False)])
def test_webs_that_the_input_squeezes_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: tuple[int, int], is_squeezed: bool
) -> None:
    for number in range(3):
        write_picture(tmp_path / f"data/web/train/good/p{number}_0.png", picture(number, size))
    prepare(tmp_path / "data", "web", tmp_path / "out", SETTINGS)
    messages = [record.getMessage() for record in caplog.records]
    sides = "x".join(str(256 if side > 64 else 64) for side in size[::-1])
    expected = f"most pictures are 6 times as long as wide, the network's input of {sides} is 4 times: they"
    assert [message.startswith(expected) for message in messages] == [True] * is_squeezed


@pytest.mark.parametrize(("imported", "is_said"), [(r"^(p)", True), (SETTINGS.group_pattern, False), (None, False)])
def test_groups_that_are_not_those_of_the_import_are_said(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, imported: str | None, is_said: bool
) -> None:
    (data_dir / "tile/import.json").write_text(json.dumps({"group_pattern": imported}))
    prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    expected = rf"the import's groups were '^(p)', here they are '{SETTINGS.group_pattern}'"
    assert [record.getMessage().startswith(expected) for record in caplog.records] == [True] * is_said
    (data_dir / "tile/import.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"tile/import\.json is damaged \(import again, or `dvc checkout`\)$"):
        prepare(data_dir, "tile", tmp_path / "other", SETTINGS)


def test_other_sizes_are_fitted_and_recorded(data_dir: Path, tmp_path: Path) -> None:
    write_picture(data_dir / "tile/train/good/p0_9.png", picture(1, (96, 128)))
    prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    data = PreparedData.load(tmp_path / "out")
    record = next(record for record in data.manifest.files if record.path.endswith("p0_9.png"))
    assert (record.width, record.height) == (128, 96)
    assert record.split == "calibration"
    records, images = data.records("calibration"), data.images("calibration")
    shapes = {each.path: image.shape for each, image in zip(records, images, strict=True)}
    assert shapes.pop(record.path) == (48, 64, 3)  # what it covers: a set of square ones has a square input
    assert set(shapes.values()) == {(64, 64, 3)}


def test_training_only_has_empty_test_arrays(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / f"data/tile/train/good/p{number}_0.png", picture(number))
    none_held_out = {"calibration_fraction": 0, "validation_fraction": 0}
    counts = prepare(tmp_path / "data", "tile", tmp_path / "out", SETTINGS.model_copy(update=none_held_out))
    data = PreparedData.load(tmp_path / "out")
    assert (counts["num_train"], data.masks()) == (3, None)
    assert len(data.images("test")) == len(data.images("calibration")) == 0
    assert not (tmp_path / "out/masks.npy").exists()


def test_duplicates_and_shared_groups_are_warned_of_once(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (data_dir / "tile/train/good/p3_1.png").read_bytes()
    for number in (7, 8):
        (data_dir / f"tile/train/good/p3_{number}.png").write_bytes(content)
    write_picture(data_dir / "tile/test/good/p5_9.png", picture(77))
    with caplog.at_level(logging.WARNING):
        prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    assert [record.getMessage() for record in caplog.records] == [
        "2 pictures are copies, first train/good/p3_7.png = train/good/p3_1.png: each counts once",
        "1 groups are in train and in test, first p5: test depends on train (import again with --group-pattern)",
    ]


def test_masks_of_another_size_or_without_defect_are_refused(data_dir: Path, tmp_path: Path) -> None:
    mask_path = data_dir / "tile/ground_truth/cut/p91_1_mask.png"
    write_picture(mask_path, mask((32, 32)))
    with pytest.raises(ValueError, match=r"p91_1_mask\.png has 32x32 pixels, its picture 64x64"):
        prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    write_picture(mask_path, mask(is_empty=True))
    with pytest.raises(ValueError, match=r"p91_1_mask\.png is empty"):
        prepare(data_dir, "tile", tmp_path / "out", SETTINGS)


def test_nothing_left_to_train_on_is_refused(data_dir: Path, tmp_path: Path) -> None:
    for path in (data_dir / "tile/train/good").iterdir():
        path.rename(path.with_name("x" + path.name))
    one_group = {"group_pattern": "^x", "calibration_fraction": 0.9, "validation_fraction": 0.05}
    for path in (data_dir / "tile/test").rglob("*.png"):
        path.unlink()
    for path in (data_dir / "tile/ground_truth").rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="no image is left to train on: calibration takes 40 of train/good"):
        prepare(data_dir, "tile", tmp_path / "out", SETTINGS.model_copy(update=one_group))


def test_load_refuses_what_prepare_did_not_write(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no prepared data in .*nowhere \(run `ndpnet prepare`\)"):
        PreparedData.load(tmp_path / "nowhere")
    out_dir = tmp_path / "out"
    prepare(data_dir, "tile", out_dir, SETTINGS)
    (out_dir / "test.npy").write_bytes((out_dir / "train.npy").read_bytes())
    with pytest.raises(ValueError, match=r"test\.npy holds uint8 \(\d+, 64, 64, 3\), not \(\d+,\) \("):
        PreparedData.load(out_dir).images("test")
    (out_dir / "prepared.json").write_text(json.dumps({"format_version": 0}))
    with pytest.raises(ValueError, match=rf"has format 0, this ndpnet reads {FORMAT_VERSION} \(run `ndpnet"):
        PreparedData.load(out_dir)


@pytest.mark.parametrize(("factor", "offset", "depth"), [(4, 3, 10), (16, 15, 12), (64, 63, 14), (257, 0, 16)])
def test_the_bits_of_a_set_are_found_and_kept(
    data_dir: Path, tmp_path: Path, factor: int, offset: int, depth: int
) -> None:
    for index, path in enumerate(sorted((data_dir / "tile").rglob("*.png"))):
        if "ground_truth" not in path.parts:
            levels = np.random.default_rng(index).integers(0, 256, (64, 64)).astype(np.uint16)
            Image.fromarray(levels * factor + offset).save(path)
    prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    data = PreparedData.load(tmp_path / "out")
    assert data.manifest.bit_depth == depth
    assert {record.bit_depth for record in data.manifest.files} == {depth}
    image = np.asarray(data.images("test"))
    assert np.unique(image).size >= 250  # no grey level is lost
    assert image.min() <= 2
    assert image.max() == 255


def test_copies_count_once_whatever_their_file(data_dir: Path, tmp_path: Path) -> None:
    """Copies under other names would fall into other splits: one is trained on, the next one calibrates."""
    prepare(data_dir, "tile", tmp_path / "without", SETTINGS)
    with Image.open(data_dir / "tile/train/good/p3_1.png") as image:
        for number in range(40, 80):
            image.save(data_dir / f"tile/train/good/p{number}_0.bmp")
    prepare(data_dir, "tile", tmp_path / "with", SETTINGS)
    assert contents(tmp_path / "with") == contents(tmp_path / "without")


@pytest.mark.parametrize(
    ("shown", "copy", "message"),
    [
        ("test/cut/p90_1.png", "p9_again.bmp", r"^1 pictures are said to be good and defective, first .*again\.bmp"),
        (
            "train/good/p3_1.png",
            "p99_0.bmp",
            r"first train/good/p3_1\.png = test/good/p99_0\.bmp",
        ),
    ],
)
def test_a_test_picture_is_not_trained_on_nor_good_and_defective_whatever_its_file(
    data_dir: Path, tmp_path: Path, shown: str, copy: str, message: str
) -> None:
    with Image.open(data_dir / "tile" / shown) as image:
        image.save(data_dir / "tile/test/good" / copy)
    with pytest.raises(ValueError, match=message):
        prepare(data_dir, "tile", tmp_path / "out", SETTINGS)


def test_what_a_person_should_look_at_is_said(data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.repeat(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8), 8, axis=0).repeat(8, axis=1)
    for name, change in (("p50_0.png", 0), ("p51_0.png", 1)):
        changed = pixels.copy()
        changed[:5, :5] ^= change
        Image.fromarray(changed).save(data_dir / "tile/train/good" / name)
    large = np.pad(np.ones((60, 60), dtype=bool), (0, 4))
    write_picture(data_dir / "tile/ground_truth/cut/p90_1_mask.png", large)
    write_picture(data_dir / "tile/masks/p90_1.png", large)
    prepare(data_dir, "tile", tmp_path / "out", SETTINGS)
    unknown, alike, mask = [record.getMessage() for record in caplog.records]
    assert unknown.endswith("/tile: masks/ (known are train, test and ground_truth)")
    assert alike.startswith(
        "1 pictures look nearly as another one, first train/good/p50_0.png and train/good/p51_0.png"
    )
    assert mask.startswith("1 masks need a look, first ground_truth/cut/p90_1_mask.png marks 88% of the picture")
