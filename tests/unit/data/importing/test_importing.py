"""Importing: what lands where, and what is listed."""

import os
import shutil
from pathlib import Path

import data_sets
import numpy as np
import pytest
from data_sets import import_report, names_in, picture, run_import
from PIL import Image
from repositories import contents
from samples import data_config, write_picture

from ndpnet.data.importing.importer import groups_to_test, import_source
from ndpnet.data.importing.placing import draw_ellipses
from ndpnet.data.importing.report import report_lines
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.masks import open_mask
from ndpnet.data.preparing import prepare
from ndpnet.data.split import assign_splits
from ndpnet.folders import LIST

PREPARE = data_config(image_size=64, group_pattern="", calibration_fraction=0.2, validation_fraction=0.0)


def test_mvtec_comes_unchanged_from_a_folder_a_tar_and_a_zip_with_the_hash_that_prepare_finds(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "carpet")
    data_sets.pack_tar(tmp_path / "carpet.tar.xz", source)
    data_sets.pack_zip(tmp_path / "carpet.zip", source, prefix="mvtec_anomaly_detection/carpet/")
    expected = contents(source)
    del expected["license.txt"]
    reports = []
    for number, name in enumerate(("carpet", "carpet.tar.xz", "carpet.zip")):
        reports.append(run_import("mvtec", tmp_path / name, tmp_path / f"data/{number}"))
        imported = contents(tmp_path / f"data/{number}")
        assert imported.pop("import.json")
        assert imported.pop(LIST)
        assert imported == expected
    assert names_in(tmp_path / "data") == ["0", "1", "2"]
    assert reports[0]["counts"] == {"train": {"good": 6}, "test": {"good": 3, "cut": 3, "hole": 3}}
    assert "not for commercial use" in reports[0]["licence"]
    counts = prepare(tmp_path / "data", "0", tmp_path / "prepared", PREPARE)
    for number, report in enumerate(reports):
        assert {**report, "source": ""} == {**reports[0], "source": ""}
        assert str(tmp_path) not in (tmp_path / f"data/{number}/import.json").read_text()
        assert report["data_hash"] == counts["data_hash"]


def test_a_folders_pictures_are_copied_and_what_was_unpacked_takes_the_disk_once(tmp_path: Path, monkeypatch) -> None:
    source, linked, link = data_sets.mvtec(tmp_path / "wall"), list[Path](), os.link
    monkeypatch.setattr("os.link", lambda path, target: (linked.append(target), link(path, target)))
    import_source("mvtec", data_sets.pack_tar(tmp_path / "wall.tar", source), tmp_path / "data/wall")
    here = contents(tmp_path / "data/wall")
    assert {path.name for path in linked} == {name.rpartition("/")[2] for name in here if name.endswith(".png")}
    linked.clear()
    import_source("mvtec", source, tmp_path / "copied/wall")
    assert not linked  # the data do not change with their source
    names = [name for name in here if name.endswith(".png")]
    assert [contents(tmp_path / "copied/wall")[name] for name in names] == [here[name] for name in names]


def test_several_categories_get_a_folder_each_and_one_can_be_chosen(tmp_path: Path) -> None:
    for number, name in enumerate(("tile", "wood")):
        data_sets.mvtec(tmp_path / "all" / name, first=100_000 * number)
    archive = data_sets.pack_tar(tmp_path / "all.tar.gz", tmp_path / "all")
    assert [report["category"] for report in import_source("mvtec", archive, tmp_path / "data")] == ["tile", "wood"]
    assert names_in(tmp_path / "data") == ["tile", "wood"]
    run_import("mvtec", archive, tmp_path / "mine", categories=["wood"])
    assert contents(tmp_path / "mine") == contents(tmp_path / "data/wood")
    with pytest.raises(ValueError, match=r"no category 'grid' in .*all.tar.gz \(there are: tile, wood\)"):
        import_source("mvtec", archive, tmp_path / "no", categories=["grid"])
    assert not (tmp_path / "no").exists()


def test_dagm_puts_every_defect_into_test_and_limits_train(tmp_path: Path) -> None:
    data_sets.dagm_halves(tmp_path / "dagm/Class1")
    report = run_import("dagm", tmp_path / "dagm", tmp_path / "Class1", train_limit=3)
    assert report["counts"] == {"train": {"good": 3}, "test": {"good": 5, "defect": 4}}
    assert report["num_left_out"] == 2
    train = names_in(tmp_path / "Class1/train/good")
    assert train == ["train_0001.PNG", "train_0002.PNG", "train_0003.PNG"]
    masks = [image.mask_path for image in scan_mvtec(tmp_path / "Class1") if image.mask_path]
    assert masks == [f"ground_truth/defect/{half}_000{n}_mask.PNG" for half in ("test", "train") for n in (6, 7)]


def test_dagm_pair_draws_the_masks(tmp_path: Path) -> None:
    data_sets.dagm_pair(tmp_path / "x")
    report = run_import("dagm", tmp_path / "x", tmp_path / "Class1")
    assert report["counts"]["test"]["defect"] == 3
    assert report["counts"]["train"]["good"] + report["counts"]["test"]["good"] == 20
    drawn = open_mask(tmp_path / "Class1/ground_truth/defect/1_mask.png").marked
    assert (drawn == draw_ellipses(((20, 5, np.pi / 4, 32, 30),), 64, 64)).mean() > 0.999


def test_an_ellipse_turns_counter_clockwise() -> None:
    drawn = draw_ellipses(((20, 4, np.pi / 4, 32, 30),), 64, 64)
    assert drawn.sum() == pytest.approx(np.pi * 20 * 4, rel=0.03)
    assert drawn[30 - 12, 32 + 12]  # up and to the right
    assert not drawn[30 + 12, 32 + 12]
    flat = draw_ellipses(((20, 4, 0.0, 32, 30),), 64, 64)
    assert flat[30, 13:51].all()
    assert not flat[:25].any()


def test_kolektor_is_judged_by_its_labels_and_split_by_item(tmp_path: Path) -> None:
    data_sets.kolektor(tmp_path / "KolektorSDD", num_items=20)
    report = run_import("kolektor", tmp_path / "KolektorSDD", tmp_path / "data/kos", test_good_share=0.3)
    assert report["counts"]["test"]["defect"] == 20
    assert report["group_pattern"] == r"^(kos\d+)"
    items = {
        split: {path.name[:5] for path in (tmp_path / f"data/kos/{split}/good").iterdir()}
        for split in ("train", "test")
    }
    assert items["test"] == groups_to_test((f"kos{n:02d}" for n in range(1, 21)), 0.3)
    assert len(items["test"]) >= 3
    assert not items["train"] & items["test"]
    pattern = PREPARE.model_copy(update={"group_pattern": r"^(kos\d+)"})
    counts = prepare(tmp_path / "data", "kos", tmp_path / "prepared", pattern)
    assert counts["num_test_defective"] == 20


def test_what_is_tested_on_is_not_what_would_calibrate() -> None:
    groups = [str(number) for number in range(2000)]
    tested = groups_to_test(groups, 0.2)
    kept = [group for group in groups if group not in tested]
    assert len(kept) == pytest.approx(1600, rel=0.05)
    splits = assign_splits(kept, calibration_fraction=0.2, validation_fraction=0)
    assert [*splits.values()].count("calibration") / len(kept) == pytest.approx(0.2, rel=0.1)


def test_a_copy_among_pictures_without_a_split_is_a_duplicate_wherever_it_would_go(tmp_path: Path) -> None:
    for number in range(30):
        write_picture(tmp_path / f"a/good/{number}.png", picture(number))
        write_picture(tmp_path / f"a/good/copy {number}.png", picture(number))
    report = run_import("folder", tmp_path / "a", tmp_path / "out")
    assert len(report["duplicates"]) == 30
    assert report["counts"]["train"]["good"] + report["counts"]["test"]["good"] == 30
    assert report["counts"]["test"]["good"] == len(groups_to_test([f"{number}.png" for number in range(30)], 0.2))
    write_picture(tmp_path / "a/defective/x.png", picture(0))
    with pytest.raises(ValueError, match="are said to be good and defective"):
        import_source("folder", tmp_path / "a", tmp_path / "out")
    assert import_report(tmp_path / "out") == report  # the earlier import is still there


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_few_pictures_leave_one_to_test_on_after_copies_and_damaged_ones_are_gone(tmp_path: Path, count: int) -> None:
    """Their names would take those that are left out for the test."""
    for number in range(count):
        for name in (f"{number}.bmp", f"{number}.png"):
            write_picture(tmp_path / "a/good" / name, picture(number))
    for number in range(20):
        data_sets.touch(tmp_path / "a/good", f"damaged {number}.png")
    report = run_import("folder", tmp_path / "a", tmp_path / "data/a", test_good_share=0.01)
    assert report["counts"] == {"train": {"good": count - (count > 2)}, "test": {"good": 1} if count > 2 else {}}
    assert any("nothing to test on" in line for line in report_lines(report)) == (count < 3)
    assert len(scan_mvtec(tmp_path / "data/a")) == count
    assert (tmp_path / "data/a/test").exists() == (count > 2)


def test_errors_name_the_archive_and_not_where_it_is_unpacked(tmp_path: Path) -> None:
    for name in ("good/1.png", "defective/7.png", "masks/8.png"):
        write_picture(tmp_path / "a" / name, data_sets.mask())
    archive = data_sets.pack_zip(tmp_path / "a.zip", tmp_path / "a")
    with pytest.raises(ValueError, match=rf"^mask {archive}/masks/8\.png has no picture"):
        import_source("folder", archive, tmp_path / "data/a")


def test_folders_of_defective_pictures_and_masks_have_the_names_that_people_use(tmp_path: Path) -> None:
    names = ("Gut/1", "Gut/2", "n.i.O./cut/1", "GT/cut/1")
    for number, name in enumerate(names):
        write_picture(tmp_path / f"a/{name}.png", picture(number) if "GT" not in name else data_sets.mask())
    report = run_import("folder", tmp_path / "a", tmp_path / "out", test_good_share=0)
    assert (report["counts"]["test"], report["ignored"]) == ({"cut": 1}, [])
    assert names_in(tmp_path / "out/ground_truth/cut") == ["1_mask.png"]


def test_a_copy_among_defective_pictures_is_left_out_with_its_mask(tmp_path: Path) -> None:
    for number, name in enumerate(("good/1", "good/2", "defective/hole/0", "defective/cut/1")):
        write_picture(tmp_path / f"a/{name}.png", picture(number))
    shutil.copy(tmp_path / "a/defective/hole/0.png", tmp_path / "a/defective/hole/copy.png")
    for name in ("hole/0", "hole/copy", "cut/1"):
        write_picture(tmp_path / f"a/masks/{name}.png", data_sets.mask())
    report = run_import("folder", tmp_path / "a", tmp_path / "out", test_good_share=0)
    assert report["duplicates"] == [{"file": "defective/hole/copy.png", "same_as": "defective/hole/0.png"}]
    assert report["counts"]["test"] == {"cut": 1, "hole": 1}
    assert len(scan_mvtec(tmp_path / "out")) == 4  # no mask without its picture


def test_the_same_test_picture_twice_is_listed_and_stays(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    shutil.copy(source / "test/cut/000.png", source / "test/hole/000.png")
    report = run_import("mvtec", source, tmp_path / "out")
    assert report["test_duplicates"] == [{"file": "test/hole/000.png", "same_as": "test/cut/000.png"}]
    assert report["counts"]["test"] == {"good": 3, "cut": 3, "hole": 3}


def test_the_bits_of_16_bit_pictures_are_reported(tmp_path: Path) -> None:
    for number in range(6):
        write_picture(tmp_path / f"x/good/{number}.png", picture(number).astype(np.uint16) * 16)
    (report,) = import_source("folder", tmp_path / "x", tmp_path / "data/x")
    assert report["bit_depth"] == 12
    assert "  levels of 12 bits: 4095 is white" in report_lines(report)
    assert report["near_empty"] == []
    write_picture(tmp_path / "x/good/odd.png", data_sets.picture(1))
    with pytest.raises(ValueError, match=r"good/odd\.png has levels of 8 bits, .* of 12: a set has one depth"):
        import_source("folder", tmp_path / "x", tmp_path / "data/y")


def test_masks_that_need_a_look_are_listed(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "x")
    path = min((source / "ground_truth").rglob("*.png"))
    with Image.open(path) as mask:
        Image.fromarray(255 - np.asarray(mask.convert("L"))).save(path)
    (entry,) = run_import("mvtec", source, tmp_path / "data/x")["mask_notes"]
    assert entry["file"] == path.relative_to(source).as_posix()
    assert "of the picture (white on black? else invert it)" in entry["note"]


def test_a_region_of_interest_comes_along_or_its_name_is_refused(tmp_path: Path) -> None:
    for number in range(6):
        write_picture(tmp_path / f"x/good/{number}.png", picture(number))
    region = write_picture(tmp_path / "x/roi.png", np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8))
    run_import("folder", tmp_path / "x", tmp_path / "data/x")
    assert (tmp_path / "data/x/roi.png").read_bytes() == region.read_bytes()
    region.rename(tmp_path / "x/ROI.PNG")
    with pytest.raises(ValueError, match=r"x/ROI\.PNG is not named roi\.png"):
        import_source("folder", tmp_path / "x", tmp_path / "data/y")


def test_folders_and_pictures_beside_those_of_the_layout_are_listed(tmp_path: Path) -> None:
    for number, name in enumerate(("good/1.png", "good/2.png", "defectiv/7.png", "loose.png", ".thumbs/1.png")):
        write_picture(tmp_path / "all/tile" / name, picture(number))
    (tmp_path / "all/tile/readme.txt").write_text("hello")
    report = run_import("folder", tmp_path / "all", tmp_path / "data/x", test_good_share=0)
    assert report["ignored"] == ["tile/defectiv/", "tile/loose.png"]
