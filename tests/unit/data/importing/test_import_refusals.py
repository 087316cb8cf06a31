"""Importing: what is refused or left out, and that nothing half done stays and nothing is lost."""

import os
from pathlib import Path

import data_sets
import numpy as np
import pytest
from data_sets import mask, names_in, picture, run_import
from PIL import Image
from repositories import contents
from samples import data_config, write_picture

from ndpnet.data import images as reading
from ndpnet.data.importing.importer import import_source
from ndpnet.data.importing.opening import opened_source
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.preparing import prepare
from ndpnet.folders import LIST

PREPARE = data_config(image_size=64, group_pattern="", calibration_fraction=0.2, validation_fraction=0.0)


def test_what_cannot_be_used_is_listed_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = data_sets.mvtec(tmp_path / "wall")
    cut = source / "train/good/000.png"
    cut.write_bytes(cut.read_bytes()[:1000])
    (source / "train/good/note.png").write_text("no picture")
    write_picture(source / "train/good/tiny.png", picture(1, (63, 90)))
    write_picture(source / "train/good/flat.png", np.full((64, 64), 17, dtype=np.uint8))
    write_picture(source / "train/good/huge.png", picture(70, (300, 300)))
    write_picture(source / "test/cut/001.png", picture(2)).write_bytes(b"")
    Image.fromarray(picture(1)).save(source / "train/good/same.bmp")
    (source / "train/good/list.csv").write_text("a")
    monkeypatch.setattr(reading, "MAX_PIXELS", 300 * 300 - 1)
    report = run_import("mvtec", source, tmp_path / "out")
    assert {entry["file"]: entry["reason"] for entry in report["rejected"]} == {
        "test/cut/001.png": "not a picture in PNG, JPEG, TIFF or another known format (replace or remove it)",
        "train/good/000.png": "truncated image (replace or remove it)",
        "train/good/huge.png": "more than 0 megapixels (cut it into smaller pictures)",
        "train/good/note.png": "not a picture in PNG, JPEG, TIFF or another known format (replace or remove it)",
        "train/good/tiny.png": "90x63 pixels, a side below 64 (use larger pictures)",
    }
    assert report["near_empty"] == ["train/good/flat.png"]
    assert report["duplicates"] == [{"file": "train/good/same.bmp", "same_as": "train/good/001.png"}]
    assert report["ignored"] == []
    assert "no pictures, left out: 2 (license.txt, train/good/list.csv)" in caplog.messages
    assert report["counts"] == {"train": {"good": 6}, "test": {"good": 3, "cut": 2, "hole": 3}}
    scanned = scan_mvtec(tmp_path / "out")
    assert len(scanned) == 14
    assert len([path for path in contents(tmp_path / "out") if path.startswith("ground_truth")]) == 5
    prepare(tmp_path, "out", tmp_path / "prepared", PREPARE)


def test_masks_of_good_pictures_must_be_empty_and_damaged_ones_are_named(tmp_path: Path) -> None:
    source = data_sets.btad(tmp_path / "01")
    report = run_import("mvtec", source, tmp_path / "out")
    assert report["counts"] == {"train": {"good": 4}, "test": {"good": 2, "ko": 2}}
    assert names_in(tmp_path / "out/ground_truth") == ["ko"]
    write_picture(source / "ground_truth/ok/0001.png", mask())
    with pytest.raises(ValueError, match=r"mask ground_truth/ok/0001.png marks a defect, but its picture is said"):
        import_source("mvtec", source, tmp_path / "out")
    write_picture(source / "ground_truth/ok/0001.png", mask(is_empty=True))
    damaged = source / "ground_truth/ko/0001.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cannot read (mask )?ground_truth/ko/0001.png"):
        import_source("mvtec", source, tmp_path / "out")


def test_names_that_differ_in_case_only_are_an_error(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "wall")
    write_picture(source / "train/good/A.png", picture(77))
    write_picture(source / "train/good/a.png", picture(78))
    with pytest.raises(ValueError, match=r"train/good/A.png and train/good/a.png would both become"):
        import_source("mvtec", source, tmp_path / "out")
    (source / "train/good/A.png").unlink()
    (source / "train/good/a.png").unlink()
    write_picture(tmp_path / "own/good/x_y.png", picture(1))
    write_picture(tmp_path / "own/good/x/y.png", picture(2))
    with pytest.raises(ValueError, match=r"good/x/y.png and good/x_y.png would both become good/x_y.png"):
        import_source("folder", tmp_path / "own", tmp_path / "out")


def test_odd_names(tmp_path: Path) -> None:
    names = ["a b.png", "ü ß 漢.PNG", "-rf.png", "$(x);'\".png", "%20.png", ".hidden.png", "_mask.png", "x.y.z.png"]
    for number, name in enumerate(names):
        write_picture(tmp_path / "good one/good" / name, picture(number))
    write_picture(tmp_path / "good one/good/bad.png", picture(50)).rename(
        os.fsdecode(bytes(tmp_path) + b"/good one/good/\xff.png")
    )
    write_picture(tmp_path / "good one/good/nl.png", picture(51)).rename(tmp_path / "good one/good/a\nb.png")
    (tmp_path / "good one/good/link.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "good one/good/pipe.png")
    report = run_import("folder", tmp_path / "good one", tmp_path / "da ta/ö", test_good_share=0)
    assert report["counts"]["train"]["good"] == 7
    assert [entry["reason"].split(" (")[0] for entry in report["rejected"]] == [
        "its name has control characters",
        "its name is not UTF-8",
    ]
    assert report["ignored"] == ["good/link.png", "good/pipe.png"]


def test_a_name_that_its_folders_or_its_mask_make_too_long_is_listed(tmp_path: Path) -> None:
    nested, masked, longest = f"{'a' * 120}/{'b' * 140}.png", f"{'x' * 250}.png", f"{'y' * 246}.png"
    for number, name in enumerate(("good/1.png", f"good/{nested}", f"defective/{masked}", f"defective/{longest}")):
        write_picture(tmp_path / "source" / name, picture(number))
    for name in (masked, longest):
        write_picture(tmp_path / f"source/masks/{name}", mask())
    report = run_import("folder", tmp_path / "source", tmp_path / "out", test_good_share=0)
    assert report["counts"] == {"train": {"good": 1}, "test": {"defective": 1}}
    assert [(entry["file"], entry["reason"].split(" has ")[1]) for entry in report["rejected"]] == [
        (f"defective/{masked}", "259 bytes with its folders and _mask, at most 255 are possible (shorten it)"),
        (f"good/{nested}", "270 bytes with its folders and _mask, at most 255 are possible (shorten it)"),
    ]
    scan_mvtec(tmp_path / "out")


def test_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder or archive .*nowhere \(check the path\)"):
        import_source("mvtec", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "a/good").mkdir(parents=True)
    with pytest.raises(ValueError, match="no pictures in"):
        import_source("folder", tmp_path / "a", tmp_path / "out")
    (tmp_path / "a/good/x.png").write_bytes(b"x")
    with pytest.raises(
        ValueError,
        match=r"no good picture in .*: 1 of 1 cannot be used, first good/x.png: not a .* \(replace or remove it\)$",
    ):
        import_source("folder", tmp_path / "a", tmp_path / "out")
    write_picture(tmp_path / "a/good/x.png", picture(0))
    with pytest.raises(ValueError, match=r"is left to train on \(add some, or lower --test-good-share\)$"):
        import_source("folder", tmp_path / "a", tmp_path / "out", test_good_share=0.99)
    data_sets.mvtec(tmp_path / "wall")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="will not replace folder"):
        import_source("mvtec", tmp_path / "wall", tmp_path / "full")
    with pytest.raises(ValueError, match=r"^the category's name 'a;touch x' has ';' \(rename it"):
        import_source("mvtec", tmp_path / "wall", tmp_path / "data/a;touch x")
    assert names_in(tmp_path) == ["a", "full", "wall"]
    assert names_in(tmp_path / "full") == ["thesis.txt"]


@pytest.mark.parametrize("small_disk", ["200k"], indirect=True)
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, small_disk: Path, kind: str) -> None:
    source = data_sets.mvtec(tmp_path / "wall", num_train=60)
    if kind == "archive":
        source = data_sets.pack_tar(tmp_path / "wall.tar", source)
    with pytest.raises(ValueError, match=r"cannot write .*disk/data/wall: No space left on device \(free some"):
        import_source("mvtec", source, small_disk / "data/wall")
    assert contents(small_disk) == {}


def test_two_imports_of_one_archive_do_not_meet(tmp_path: Path) -> None:
    archive = data_sets.pack_tar(tmp_path / "x.tar", data_sets.mvtec(tmp_path / "wall"))
    with opened_source(str(archive), tmp_path / "data/wall") as (root, _):
        before = contents(root)
        assert len(before) == 22
        import_source("mvtec", archive, tmp_path / "data/wall")
        assert contents(root) == before
    assert names_in(tmp_path / "data") == ["wall"]


def test_an_import_may_take_its_own_output_again(tmp_path: Path) -> None:
    source = data_sets.mvtec(tmp_path / "data/wall")
    import_source("mvtec", source, tmp_path / "data/wall 2")
    before = contents(tmp_path / "data/wall 2")
    import_source("mvtec", tmp_path / "data/wall 2", tmp_path / "data/wall 2")
    after = contents(tmp_path / "data/wall 2")
    assert {**after, "import.json": b"", LIST: b""} == {**before, "import.json": b"", LIST: b""}
    for inner, out in ((source, source / "inside"), (source / "test", source)):
        with pytest.raises(ValueError, match="lie in one another"):
            import_source("mvtec", inner, out)
