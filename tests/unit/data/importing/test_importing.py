"""Importing: what lands where, what is listed, what is refused, and that nothing half done stays."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import data_sets
import numpy as np
import pytest
from data_sets import mask, names_in, picture, save
from PIL import Image

from ndpnet.data import images as reading
from ndpnet.data.importing.importer import import_source, is_test_group
from ndpnet.data.importing.placing import draw_ellipses
from ndpnet.data.importing.staging import opened_source
from ndpnet.data.layouts import scan_mvtec
from ndpnet.data.masks import read_mask
from ndpnet.data.prepared import prepare
from ndpnet.data.split import assign_split
from ndpnet.files import LIST

PREPARE = {"image_size": 64, "group_pattern": "", "calibration_fraction": 0.2, "validation_fraction": 0.0}


def below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report_of(folder: Path) -> dict:
    return json.loads((folder / "import.json").read_text())


def run(layout: str, source: Path | str, out: Path, **options: object) -> dict:
    import_source(layout, source, out, **options)
    return report_of(out)


def test_mvtec_comes_unchanged_from_a_folder_a_tar_and_a_zip(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "carpet")
    data_sets.pack_tar(tmp_path / "carpet.tar.xz", source)
    data_sets.pack_zip(tmp_path / "carpet.zip", source, prefix="mvtec_anomaly_detection/carpet/")
    expected = below(source)
    del expected["license.txt"]
    reports = []
    for number, name in enumerate(("carpet", "carpet.tar.xz", "carpet.zip")):
        reports.append(run("mvtec", tmp_path / name, tmp_path / f"data/{number}"))
        imported = below(tmp_path / f"data/{number}")
        assert imported.pop("import.json")
        assert imported.pop(LIST)
        assert imported == expected
    assert names_in(tmp_path / "data") == ["0", "1", "2"]
    assert reports[0]["counts"] == {"train": {"good": 6}, "test": {"good": 3, "cut": 3, "hole": 3}}
    assert reports[0]["licence"] == "CC BY-NC-SA 4.0: not for commercial use"
    assert reports[0]["published"]["differences"][0] == "train good: 6 here, 280 published"
    for report in reports:
        assert {**report, "source": ""} | {"found": ""} == {**reports[0], "source": ""} | {"found": ""}


def test_the_report_has_the_same_bytes_and_the_hash_that_prepare_finds(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "a/wall")
    shutil.copytree(source, tmp_path / "b/wall")
    import_source("mvtec", tmp_path / "a/wall", tmp_path / "data/wall")
    import_source("mvtec", tmp_path / "b/wall", tmp_path / "other/wall")
    content = (tmp_path / "data/wall/import.json").read_bytes()
    assert content == (tmp_path / "other/wall/import.json").read_bytes()
    assert str(tmp_path) not in content.decode()
    counts = prepare(tmp_path / "data", "wall", tmp_path / "prepared", **PREPARE)
    assert json.loads(content)["data_hash"] == counts["data_hash"]


def test_the_data_do_not_change_with_their_source(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    import_source("mvtec", source, tmp_path / "data/wall")
    before = below(tmp_path / "data/wall")
    for path in source.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert below(tmp_path / "data/wall") == before


def test_several_categories_get_a_folder_each_and_one_can_be_chosen(tmp_path: Path) -> None:
    for number, name in enumerate(("tile", "wood")):
        data_sets.mvtec(tmp_path / "all" / name, first=100_000 * number)
    archive = data_sets.pack_tar(tmp_path / "all.tar.gz", tmp_path / "all")
    assert [report.category for report in import_source("mvtec", archive, tmp_path / "data")] == ["tile", "wood"]
    assert names_in(tmp_path / "data") == ["tile", "wood"]
    run("mvtec", archive, tmp_path / "mine", categories=["wood"])
    assert below(tmp_path / "mine") == below(tmp_path / "data/wood")
    with pytest.raises(ValueError, match=r"no category 'grid' in .*all.tar.gz \(there are: tile, wood\)"):
        import_source("mvtec", archive, tmp_path / "no", categories=["grid"])
    assert not (tmp_path / "no").exists()


def test_dagm_puts_every_defect_into_test_and_limits_train(tmp_path: Path) -> None:
    data_sets.dagm_halves(tmp_path / "dagm/Class1")
    report = run("dagm", tmp_path / "dagm", tmp_path / "Class1", train_limit=3)
    assert report["counts"] == {"train": {"good": 3}, "test": {"good": 5, "defect": 4}}
    assert report["num_left_out"] == 2
    assert report["found"]["pictures"] == 14
    assert report["published"]["differences"] == [
        "pictures: 14 here, 1150 published",
        "defective: 4 here, 150 published",
    ]
    train = names_in(tmp_path / "Class1/train/good")
    assert train == ["train_0001.PNG", "train_0002.PNG", "train_0003.PNG"]
    masks = [image.mask_path for image in scan_mvtec(tmp_path / "Class1") if image.mask_path]
    assert masks == [f"ground_truth/defect/{half}_000{n}_mask.PNG" for half in ("test", "train") for n in (6, 7)]


def test_dagm_pair_draws_the_masks(tmp_path: Path) -> None:
    data_sets.dagm_pair(tmp_path / "x")
    report = run("dagm", tmp_path / "x", tmp_path / "Class1")
    assert report["counts"]["test"]["defect"] == 3
    assert report["counts"]["train"]["good"] + report["counts"]["test"]["good"] == 20
    drawn = read_mask(tmp_path / "Class1/ground_truth/defect/1_mask.png")
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
    report = run("kolektor", tmp_path / "KolektorSDD", tmp_path / "data/kos", test_good_share=0.3)
    assert report["counts"]["test"]["defect"] == 20
    assert report["published"]["differences"] == [
        "pictures: 60 here, 399 published",
        "defective: 20 here, 52 published",
    ]
    assert report["group_pattern"] == r"^(kos\d+)"
    items = {
        split: {path.name[:5] for path in (tmp_path / f"data/kos/{split}/good").iterdir()}
        for split in ("train", "test")
    }
    assert items["test"] == {f"kos{n:02d}" for n in range(1, 21) if is_test_group(f"kos{n:02d}", 0.3)}
    assert len(items["test"]) >= 3
    assert not items["train"] & items["test"]
    pattern = {**PREPARE, "group_pattern": r"^(kos\d+)"}
    counts = prepare(tmp_path / "data", "kos", tmp_path / "prepared", **pattern)
    assert (counts["num_test_defective"], counts["has_masks"]) == (20, True)


def test_kolektor2_keeps_the_split(tmp_path: Path) -> None:
    report = run("kolektor", data_sets.kolektor2(tmp_path / "KolektorSDD2"), tmp_path / "out")
    assert report["counts"] == {"train": {"good": 3}, "test": {"good": 3, "defect": 2}}
    assert report["found"]["train defective"] == 1
    assert report["test_good_share"] is None
    assert [path.name for path in (tmp_path / "out/ground_truth/defect").iterdir()] != []


def test_a_pictures_split_does_not_move_when_others_come(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"a/good/{number}.png", picture(number))
    import_source("folder", tmp_path / "a", tmp_path / "before")
    for number in range(40, 70):
        save(tmp_path / f"a/good/{number}.png", picture(number))
    import_source("folder", tmp_path / "a", tmp_path / "after")
    before, after = (set(below(tmp_path / name)) for name in ("before", "after"))
    assert before <= after
    assert 3 <= len([path for path in before if path.startswith("test/good/")]) <= 15
    assert run("folder", tmp_path / "a", tmp_path / "none", test_good_share=0)["counts"]["test"] == {}


def test_what_is_tested_on_is_not_what_would_calibrate() -> None:
    groups = [str(number) for number in range(2000)]
    kept = [group for group in groups if not is_test_group(group, 0.2)]
    assert len(kept) == pytest.approx(1600, rel=0.05)
    splits = [assign_split(group, calibration_fraction=0.2, validation_fraction=0) for group in kept]
    assert splits.count("calibration") / len(kept) == pytest.approx(0.2, rel=0.1)


def test_scans_of_any_size_with_a_region(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / f"paper/scan {number} ä.png", picture(number, (70 + 10 * number, 200 - number)))
    save(tmp_path / "paper/roi.png", mask((70, 200)))
    report = run("ppts", tmp_path / "paper", tmp_path / "out", test_good_share=0.5)
    assert report["counts"]["train"]["good"] + report["counts"]["test"]["good"] == 8
    assert (tmp_path / "out/roi.png").read_bytes() == (tmp_path / "paper/roi.png").read_bytes()


def test_what_cannot_be_used_is_listed_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    cut = source / "train/good/000.png"
    cut.write_bytes(cut.read_bytes()[:1000])
    (source / "train/good/note.png").write_text("no picture")
    save(source / "train/good/tiny.png", picture(1, (63, 90)))
    save(source / "train/good/flat.png", np.full((64, 64), 17, dtype=np.uint8))
    save(source / "train/good/huge.png", picture(70, (300, 300)))
    save(source / "test/cut/001.png", picture(2)).write_bytes(b"")
    Image.fromarray(picture(1)).save(source / "train/good/same.bmp")
    (source / "train/good/list.csv").write_text("a")
    monkeypatch.setattr(reading, "MAX_PIXELS", 300 * 300 - 1)
    report = run("mvtec", source, tmp_path / "out")
    assert {entry["file"]: entry["reason"] for entry in report["rejected"]} == {
        "test/cut/001.png": "not a picture in PNG, JPEG, TIFF or another known format (replace or remove it)",
        "train/good/000.png": "truncated image (replace or remove it)",
        "train/good/huge.png": "more than 0 megapixels (cut it into smaller pictures)",
        "train/good/note.png": "not a picture in PNG, JPEG, TIFF or another known format (replace or remove it)",
        "train/good/tiny.png": "90x63 pixels, a side below 64",
    }
    assert report["near_empty"] == ["train/good/flat.png"]
    assert report["duplicates"] == [{"file": "train/good/same.bmp", "same_as": "train/good/001.png"}]
    assert report["ignored"] == ["train/good/list.csv"]
    assert report["counts"] == {"train": {"good": 6}, "test": {"good": 3, "cut": 2, "hole": 3}}
    scanned = scan_mvtec(tmp_path / "out")
    assert len(scanned) == 14
    assert len([path for path in below(tmp_path / "out") if path.startswith("ground_truth")]) == 5
    prepare(tmp_path, "out", tmp_path / "prepared", **PREPARE)


def test_the_same_picture_in_train_and_test_is_an_error_even_in_another_file(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    Image.fromarray(picture(3)).convert("RGB").save(source / "test/cut/001.png")
    with pytest.raises(
        ValueError, match=r"^1 pictures are in train and in test, first train/good/003.png = test/cut/001"
    ):
        import_source("mvtec", source, tmp_path / "data/wall")
    assert not (tmp_path / "data/wall").exists()
    assert list((tmp_path / "data").iterdir()) == []


def test_a_copy_among_pictures_without_a_split_is_a_duplicate_wherever_it_would_go(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / f"a/good/{number}.png", picture(number))
        save(tmp_path / f"a/good/copy {number}.png", picture(number))
    report = run("folder", tmp_path / "a", tmp_path / "out")
    assert len(report["duplicates"]) == 30
    assert report["counts"]["train"]["good"] + report["counts"]["test"]["good"] == 30
    save(tmp_path / "a/defective/x.png", picture(next(n for n in range(30) if not is_test_group(f"{n}.png", 0.2))))
    with pytest.raises(ValueError, match="are in train and in test"):
        import_source("folder", tmp_path / "a", tmp_path / "out")
    assert report_of(tmp_path / "out") == report  # the earlier import is still there


def test_the_same_test_picture_twice_is_listed_and_stays(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    shutil.copy(source / "test/cut/000.png", source / "test/hole/000.png")
    report = run("mvtec", source, tmp_path / "out")
    assert report["test_duplicates"] == [{"file": "test/hole/000.png", "same_as": "test/cut/000.png"}]
    assert report["counts"]["test"] == {"good": 3, "cut": 3, "hole": 3}


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (mask((64, 65)), "mask ground_truth/cut/001_mask.png has 65x64 pixels, its picture 64x64"),
        (mask(is_empty=True), "mask ground_truth/cut/001_mask.png is empty"),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error(tmp_path: Path, pixels: np.ndarray, message: str) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    save(source / "ground_truth/cut/001_mask.png", pixels)
    with pytest.raises(ValueError, match=message):
        import_source("mvtec", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_of_good_pictures_must_be_empty_and_damaged_ones_are_named(tmp_path: Path) -> None:
    source = data_sets.btad(tmp_path / "01")
    report = run("mvtec", source, tmp_path / "out")
    assert report["counts"] == {"train": {"good": 4}, "test": {"good": 2, "ko": 2}}
    assert report["published"]["data_set"] == "BTAD"
    assert names_in(tmp_path / "out/ground_truth") == ["ko"]
    save(source / "ground_truth/ok/0001.png", mask())
    with pytest.raises(ValueError, match=r"mask ground_truth/ok/0001.png marks a defect, but its picture is said"):
        import_source("mvtec", source, tmp_path / "out")
    save(source / "ground_truth/ok/0001.png", mask(is_empty=True))
    damaged = source / "ground_truth/ko/0001.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cannot read (mask )?ground_truth/ko/0001.png"):
        import_source("mvtec", source, tmp_path / "out")


def test_names_that_differ_in_case_only_are_an_error(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    save(source / "train/good/A.png", picture(77))
    save(source / "train/good/a.png", picture(78))
    with pytest.raises(ValueError, match=r"train/good/A.png and train/good/a.png would both become"):
        import_source("mvtec", source, tmp_path / "out")
    (source / "train/good/A.png").unlink()
    (source / "train/good/a.png").unlink()
    save(tmp_path / "own/good/x_y.png", picture(1))
    save(tmp_path / "own/good/x/y.png", picture(2))
    with pytest.raises(ValueError, match=r"two files of the source would become t.*/good/x_y.png"):
        import_source("folder", tmp_path / "own", tmp_path / "out")


def test_odd_names(tmp_path: Path) -> None:
    names = ["a b.png", "ü ß 漢.PNG", "-rf.png", "$(x);'\".png", "%20.png", ".hidden.png", "_mask.png", "x.y.z.png"]
    for number, name in enumerate(names):
        save(tmp_path / "good one/good" / name, picture(number))
    save(tmp_path / "good one/good/bad.png", picture(50)).rename(
        os.fsdecode(bytes(tmp_path) + b"/good one/good/\xff.png")
    )
    save(tmp_path / "good one/good/nl.png", picture(51)).rename(tmp_path / "good one/good/a\nb.png")
    (tmp_path / "good one/good/link.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "good one/good/pipe.png")
    report = run("folder", tmp_path / "good one", tmp_path / "da ta/ö", test_good_share=0)
    assert report["counts"]["train"]["good"] == 7
    assert [entry["reason"].split(" (")[0] for entry in report["rejected"]] == [
        "its name has control characters",
        "its name is not UTF-8",
    ]
    assert report["ignored"] == ["good/link.png", "good/pipe.png"]


@pytest.mark.parametrize("options", [{"test_good_share": 1.0}, {"test_good_share": -0.1}, {"train_limit": 0}])
def test_bad_options(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"test_good_share|train_limit"):
        import_source("mvtec", data_sets.mvtec(tmp_path / "wall"), tmp_path / "out", **options)


def test_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder or archive .*nowhere \(check the path\)"):
        import_source("mvtec", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "a/good").mkdir(parents=True)
    with pytest.raises(ValueError, match="no pictures in"):
        import_source("folder", tmp_path / "a", tmp_path / "out")
    (tmp_path / "a/good/x.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no good picture of .* \(1 unreadable, first good/x.png: not a picture"):
        import_source("folder", tmp_path / "a", tmp_path / "out")
    data_sets.mvtec(tmp_path / "wall")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="will not replace folder"):
        import_source("mvtec", tmp_path / "wall", tmp_path / "full")
    assert names_in(tmp_path) == ["a", "full", "wall"]
    assert names_in(tmp_path / "full") == ["thesis.txt"]


def test_a_refused_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = data_sets.pack_tar(tmp_path / "x.tar", data_sets.mvtec(tmp_path / "wall"))
    shutil.rmtree(tmp_path / "wall")
    for options in ({"max_bytes": 30_000}, {"max_files": 5}):
        with pytest.raises(ValueError, match="more than"):
            import_source("mvtec", archive, tmp_path / "new/data", **options)
    assert names_in(tmp_path) == ["x.tar"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB; mounting needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, small_disk: Path, kind: str) -> None:
    source = data_sets.mvtec(tmp_path / "wall", num_train=60)
    if kind == "archive":
        source = data_sets.pack_tar(tmp_path / "wall.tar", source)
    with pytest.raises(ValueError, match=r"cannot write .*disk/data/wall: No space left on device \(free some"):
        import_source("mvtec", source, small_disk / "data/wall")
    assert below(small_disk) == {}


@pytest.mark.skipif("NDPNET_REAL_DATA" not in os.environ, reason="NDPNET_REAL_DATA names no real data")
def test_real_kolektor_tiles(tmp_path: Path) -> None:
    source = Path(os.environ["NDPNET_REAL_DATA"]) / "data/kolektor"
    report = run("mvtec", source, tmp_path / "kolektor")
    # 735 lie there, 45 of them twice: whole items were photographed, or stored, again
    assert report["found"] == {
        "train good": 735,
        "test good": 309,
        "test defective": 64,
        "pictures": 1108,
        "defective": 64,
    }
    assert report["counts"] == {"train": {"good": 690}, "test": {"good": 309, "crack": 64}}
    assert len(report["duplicates"]) == 45
    assert report["rejected"] == report["near_empty"] == []


def test_two_imports_of_one_archive_do_not_meet(tmp_path: Path) -> None:
    archive = data_sets.pack_tar(tmp_path / "x.tar", data_sets.mvtec(tmp_path / "wall"))
    limits = {"max_bytes": 10**9, "max_files": 10**6}
    with opened_source(str(archive), tmp_path / "data/wall", **limits) as opened:
        before = below(opened.root)
        assert len(before) == 22
        with pytest.raises(ValueError, match=r"another import from this source uses .* \(wait until it ends\)"):
            import_source("mvtec", archive, tmp_path / "data/wall")
        assert below(opened.root) == before
    import_source("mvtec", archive, tmp_path / "data/wall")
    assert names_in(tmp_path / "data") == ["wall"]


def test_what_a_killed_import_unpacked_is_unpacked_anew(tmp_path: Path) -> None:
    archive = data_sets.pack_tar(tmp_path / "x.tar", data_sets.mvtec(tmp_path / "wall"))
    limits = {"max_bytes": 10**9, "max_files": 10**6}
    with opened_source(str(archive), tmp_path / "data/wall", **limits) as opened:
        left = opened.root
    shutil.copytree(tmp_path / "wall", left)
    (left / "train/good/000.png").write_bytes(b"half")
    report = run("mvtec", archive, tmp_path / "data/wall")
    assert report["counts"]["train"]["good"] == 6
    assert names_in(tmp_path / "data") == ["wall"]


def test_an_import_may_take_its_own_output_again(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "data/wall")
    import_source("mvtec", source, tmp_path / "data/wall 2")
    before = below(tmp_path / "data/wall 2")
    import_source("mvtec", tmp_path / "data/wall 2", tmp_path / "data/wall 2")
    after = below(tmp_path / "data/wall 2")
    assert {**after, "import.json": b"", LIST: b""} == {**before, "import.json": b"", LIST: b""}
    for inner, out in ((source, source / "inside"), (source / "test", source)):
        with pytest.raises(ValueError, match="lie in one another"):
            import_source("mvtec", inner, out)


def own_pictures(folder: Path, factor: int, *, num_good: int = 12) -> Path:
    """Good and defective pictures of 16 bits: 8-bit noise times `factor`."""
    for number in range(num_good + 3):
        name = f"good/{number}.png" if number < num_good else f"defective/{number}.png"
        levels = np.random.default_rng(number).integers(0, 256, (64, 64)).astype(np.uint16)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels * factor).save(folder / name)
    return folder


def test_the_bits_of_16_bit_pictures_are_reported(tmp_path: Path) -> None:
    (report,) = import_source("folder", own_pictures(tmp_path / "x", 16), tmp_path / "data/x")
    assert report.content["bit_depth"] == 12
    assert "  levels of 12 bits: 4095 is white" in report.lines()
    assert report.content["near_empty"] == []
    data_sets.save(tmp_path / "x/good/odd.png", data_sets.picture(1))
    with pytest.raises(ValueError, match=r"good/odd\.png has levels of 8 bits, .* of 12: a set has one depth"):
        import_source("folder", tmp_path / "x", tmp_path / "data/y")


def test_good_pictures_by_other_names_are_good(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "x")
    (source / "test/good").rename(source / "test/Normal")
    report = run("mvtec", source, tmp_path / "data/x")
    assert {"good", "cut"} <= set(report["counts"]["test"])
    assert "Normal" not in report["counts"]["test"]
    (source / "test/Normal").rename(source / "test/good looking")
    with pytest.raises(ValueError, match=r"folder 'good looking' holds good pictures, or a type of defect"):
        run("mvtec", source, tmp_path / "data/y")


def test_masks_that_need_a_look_are_listed(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "x")
    path = min((source / "ground_truth").rglob("*.png"))
    with Image.open(path) as mask:
        Image.fromarray(255 - np.asarray(mask.convert("L"))).save(path)
    (entry,) = run("mvtec", source, tmp_path / "data/x")["mask_notes"]
    assert entry["file"] == path.relative_to(source).as_posix()
    assert "of the picture (white on black? else invert it)" in entry["note"]


def test_a_name_that_a_shell_could_misread_is_refused(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "x")
    with pytest.raises(ValueError, match=r"^the category's name 'a;touch x' has ';' \(rename it"):
        run("mvtec", source, tmp_path / "data/a;touch x")
    assert not (tmp_path / "data").exists()


def test_what_was_added_to_an_import_is_not_lost_by_the_next_one(tmp_path: Path) -> None:
    source, out = data_sets.mvtec(tmp_path / "wall"), tmp_path / "data/wall"
    import_source("mvtec", source, out)
    for name in ("roi.png", "train/good/later.png", "notes.txt"):
        (out / name).write_bytes(b"mine")
    before = below(out)
    with pytest.raises(
        ValueError, match=r"it has notes\.txt, roi\.png, train/good/later\.png, which ndpnet did not write"
    ):
        import_source("mvtec", source, out)
    assert below(out) == before
    assert names_in(tmp_path / "data") == ["wall"]
