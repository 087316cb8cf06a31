"""The layouts: which pictures are found where, and what is refused."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import data_sets
import pytest
from data_sets import touch
from samples import write_picture

from ndpnet.data.importing.report import NON_COMMERCIAL, PERHAPS_MVTEC_AD, licence_of
from ndpnet.data.importing.sources import find_categories
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.importing.sources.plan import SourceImage


def found(layout: str, folder: Path) -> dict[str, list[SourceImage]]:
    return {plan.name: plan.images for plan in find_categories(layout, folder, "mine")}


def by_place(images: list[SourceImage]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for image in images:
        places.setdefault(f"{image.split}/{image.defect_type}", []).append(image.name)
    return {place: sorted(names) for place, names in places.items()}


@pytest.mark.parametrize("parents", ["", "carpet", "mvtec_anomaly_detection/carpet", "test/good/b/carpet"])
def test_mvtec_is_found_at_any_depth(tmp_path: Path, parents: str) -> None:
    data_sets.mvtec(tmp_path / parents)
    (tmp_path / "readme.txt").write_text("hello")
    ((name, images),) = found("mvtec", tmp_path).items()
    assert name == ("carpet" if parents else "mine")
    assert {place: len(names) for place, names in by_place(images).items()} == {
        "train/good": 6,
        "test/good": 3,
        "test/cut": 3,
        "test/hole": 3,
    }
    masks = {image.path: image.mask_path for image in images if image.mask_path}
    below = f"{parents}/" if parents else ""
    assert masks[f"{below}test/cut/001.png"] == f"{below}ground_truth/cut/001_mask.png"
    assert len(masks) == 6


def test_dagm_pair_reads_ellipses_in_radians_and_degrees(tmp_path: Path) -> None:
    data_sets.dagm_pair(tmp_path)
    (images,) = found("dagm", tmp_path).values()
    assert by_place(images) == {
        "/good": sorted(f"{number}.png" for number in range(1, 21)),
        "/defect": ["1.png", "2.png", "3.png"],
    }
    (ellipse,) = next(image.ellipses for image in images if image.defect_type == "defect")
    assert ellipse == pytest.approx((20, 5, math.pi / 4, 32, 30), abs=1e-5)  # MATLAB counts pixels from 1
    labels = tmp_path / "Class1_def/labels.txt"
    labels.write_text("1 20 5 45 33 31\n1 3 3 0 9 9\n2 20 5 10 33 31\n3 20 5 5 33 31\n")
    ellipses = next(image.ellipses for image in found("dagm", tmp_path)["Class1"] if image.ellipses)
    assert [ellipse[2] for ellipse in ellipses] == pytest.approx([math.pi / 4, 0])
    labels.rename(labels.with_name("Labels.txt"))  # as in the other shape
    assert next(image.ellipses for image in found("dagm", tmp_path)["Class1"] if image.ellipses) == ellipses


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("1 20 5 1 33 31\n2 20 5 1 33 31\n", r"no ellipse for .*Class1_def/3.png"),
        ("1 9 5 1 3 3\n2 9 5 1 3 3\n3 9 5 1 3 3\n4 9 5 1 3 3\n", r"labels.txt lists picture 4, which is not there"),
        ("1 20 5 1 33\n", r"no ellipse in '20 5 1 33'"),
        ("1 20 0 1 33 31\n", r"no ellipse in '20 0 1 33 31'"),
        ("1 20 5 nan 33 31\n", r"no ellipse in '20 5 nan 33 31'"),
        (None, r"no .*Class1_def/labels.txt \(unpack the whole"),
    ],
)
def test_dagm_pair_with_other_labels_is_an_error(tmp_path: Path, labels: str | None, message: str) -> None:
    path = data_sets.dagm_pair(tmp_path) / "Class1_def/labels.txt"
    path.write_text(labels) if labels else path.unlink()
    with pytest.raises(ValueError, match=message):
        found("dagm", tmp_path)


def test_kolektor2_keeps_the_publishers_split(tmp_path: Path) -> None:
    data_sets.kolektor2(tmp_path / "KolektorSDD2")
    (tmp_path / "KolektorSDD2/split_weakly_0.pyb").write_bytes(b"x")
    (plan,) = find_categories("kolektor", tmp_path, "x")
    assert plan.name == "KolektorSDD2"
    assert [image.split for image in plan.images].count("train") == 4
    assert plan.images[0].mask_path == "KolektorSDD2/test/20000_GT.png"


def own(folder: Path) -> Path:
    """good/ with a folder inside, defective/ with and without a type, masks/."""
    for number, name in enumerate(("good/1.png", "good/2.jpg", "good/monday/1.png")):
        write_picture(folder / name, data_sets.picture(number))
    for number, name in enumerate(("defective/7.png", "defective/crack/8.png", "defective/crack/9.png")):
        write_picture(folder / name, data_sets.picture(10 + number))
    for name in ("masks/7.png", "masks/8_mask.png", "masks/crack/9.png"):
        write_picture(folder / name, data_sets.mask())
    return folder


def test_own_pictures(tmp_path: Path) -> None:
    (images,) = found("folder", own(tmp_path)).values()
    assert by_place(images) == {
        "/good": ["1.png", "2.jpg", "monday_1.png"],
        "/defective": ["7.png"],
        "/crack": ["8.png", "9.png"],
    }
    assert {image.name: image.mask_path for image in images if image.mask_path} == {
        "7.png": "masks/7.png",
        "8.png": "masks/8_mask.png",
        "9.png": "masks/crack/9.png",
    }


@pytest.mark.parametrize("mask", ["crack/monday/7.png", "crack/monday_7_mask.png", "monday/7_mask.png", "monday_7.png"])
def test_masks_may_lie_in_the_folders_of_their_pictures(tmp_path: Path, mask: str) -> None:
    own(tmp_path)
    write_picture(tmp_path / "defective/crack/monday/7.png", data_sets.picture(99))
    write_picture(tmp_path / "masks" / mask, data_sets.mask())
    (images,) = found("folder", tmp_path).values()
    masks = {image.name: image.mask_path for image in images}
    assert (masks["monday_7.png"], masks["7.png"]) == (f"masks/{mask}", "masks/7.png")


@pytest.mark.parametrize("mask", ["D 1 \u00fc_MASK.PNG", "d 1 u\u0308.png"])
def test_a_mask_belongs_to_its_picture_however_case_and_accents_are_written(tmp_path: Path, mask: str) -> None:
    own(tmp_path / "own")
    data_sets.mvtec(tmp_path / "mvtec")
    for folder, masks in (("own/defective/crack", "own/masks/crack"), ("mvtec/test/cut", "mvtec/ground_truth/cut")):
        write_picture(tmp_path / folder / "D 1 \u00fc.png", data_sets.picture(99))
        write_picture(tmp_path / masks / mask, data_sets.mask())
    for layout, masks in (("folder", "masks/crack"), ("mvtec", "ground_truth/cut")):
        (images,) = found(layout, tmp_path / {"folder": "own"}.get(layout, layout)).values()
        assert f"{masks}/{mask}" in [image.mask_path for image in images]


AMONG_PICTURES = r"^folder '.*{}' holds masks by its name \(move it out"


@pytest.mark.parametrize(
    ("layout", "make", "change", "message"),
    [
        ("dagm", data_sets.dagm_halves, "-Train/Label/0007_label.PNG", r"txt and the masks of .*/0007.PNG disagree"),
        ("dagm", data_sets.dagm_halves, "+Train/Label/0099_label.PNG", r"0099_label.PNG has no picture"),
        ("dagm", data_sets.dagm_halves, "-Train/Label", r"^no Label/ in .*Class1/Train says what is good \(unpack the"),
        ("kolektor", data_sets.kolektor, "-kos03/Part1_label.bmp", r"kos03/Part1.jpg has no label"),
        ("kolektor", data_sets.kolektor, "-kos04/Part1.jpg", r"kos04/Part1_label.bmp has no picture"),
        ("folder", own, "+good/masks/8.png", AMONG_PICTURES.format("masks")),
        ("folder", own, "+defective/gt/8.png", AMONG_PICTURES.format("gt")),
        ("folder", own, "+defective/crack/masks/8.png", AMONG_PICTURES.format("masks")),
        ("mvtec", data_sets.mvtec, "+test/ground_truth/8.png", AMONG_PICTURES.format("ground_truth")),
        ("mvtec", data_sets.mvtec, "+ground_truth/cut/x.jpg", r"mask .*cut/x.jpg has no picture"),
    ],
)
def test_a_set_that_contradicts_itself_is_an_error(
    tmp_path: Path, layout: str, make: Callable[[Path], Path], change: str, message: str
) -> None:
    path = make(tmp_path / "Class1") / change[1:]
    if change.startswith("+"):
        write_picture(path, data_sets.mask())
    else:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=message):
        found(layout, tmp_path / "Class1" if layout == "folder" else tmp_path)


@pytest.mark.parametrize("below", ["", "scans", "good"])
def test_scans_may_lie_just_so(tmp_path: Path, below: str) -> None:
    for number in range(3):
        write_picture(tmp_path / below / f"scan {number}.tif", data_sets.picture(number, (70 + number, 90)))
    (plan,) = find_categories("ppts", tmp_path, "paper")
    assert by_place(plan.images) == {"/good": [f"scan {number}.tif" for number in range(3)]}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("mvtec", "no train/good"),
        ("dagm", "neither ClassN/Train"),
        ("kolektor", "neither kosNN"),
        ("folder", "no folder good/"),
        ("ppts", "no folder good/"),
        ("mvtek", "no layout 'mvtek' "),
    ],
)
def test_a_folder_of_another_layout_is_an_error(tmp_path: Path, layout: str, message: str) -> None:
    (tmp_path / "something").mkdir()
    with pytest.raises(ValueError, match=message):
        found(layout, tmp_path)


@pytest.mark.parametrize(
    ("layout", "path", "message"),
    [
        ("mvtec", "test/cut/day1/1.png", "picture .*day1/1.png lies neither in train/good nor"),
        ("mvtec", "test/1.png", "picture .*test/1.png lies neither in train/good nor"),
        ("dagm", "Class1/Train/day1/1.png", "folder .*Train/day1 lies among the pictures"),
        ("kolektor", "kos01/day1/1.png", "folder .*kos01/day1 lies among the pictures"),
        ("ppts", "day1/1.png", "folder .*/day1 lies among the pictures"),
    ],
)
def test_pictures_at_another_depth_are_an_error(tmp_path: Path, layout: str, path: str, message: str) -> None:
    {"mvtec": data_sets.mvtec, "dagm": lambda folder: data_sets.dagm_halves(folder / "Class1")}.get(
        layout, data_sets.kolektor
    )(tmp_path)
    if layout == "ppts":
        touch(tmp_path, "1.tif")
    touch(tmp_path, path)
    with pytest.raises(ValueError, match=message):
        found(layout, tmp_path)


def test_a_link_to_a_folder_is_an_error(tmp_path: Path) -> None:
    data_sets.mvtec(tmp_path / "wood")
    (tmp_path / "wood/test").rename(tmp_path / "elsewhere")
    (tmp_path / "wood/test").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"wood/test is a link to a folder, not followed"):
        found("mvtec", tmp_path / "wood")


def test_ok_is_another_name_of_good(tmp_path: Path) -> None:
    data_sets.mvtec(tmp_path / "wood")
    write_picture(tmp_path / "wood/test/ok/1.png", data_sets.picture(9))
    assert len(by_place(found("mvtec", tmp_path)["wood"])["test/good"]) == 4


def test_two_categories_of_one_name_are_an_error(tmp_path: Path) -> None:
    data_sets.mvtec(tmp_path / "a/wood")
    data_sets.mvtec(tmp_path / "b/Wood")
    with pytest.raises(ValueError, match=r"two categories have the name '[Ww]ood'"):
        found("mvtec", tmp_path)


@pytest.mark.parametrize(
    ("layout", "category", "terms"),
    [
        ("mvtec", "carpet", PERHAPS_MVTEC_AD),
        ("mvtec", "01", None),
        ("folder", "carpet", None),
        ("kolektor", "x", NON_COMMERCIAL),
    ],
)
def test_terms_are_those_of_the_set_that_layout_and_name_tell(layout: str, category: str, terms: str | None) -> None:
    assert licence_of(layout, category) == terms


# ---- a category under data/


def test_finds_all_in_path_order_with_their_masks(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/10.PNG", "train/good/2.jpeg", "train/good/._2.jpeg", "train/good/notes.txt")
    touch(tmp_path, "test/good/0.webp", "test/cut/0.tif", "test/cut/1.bmp")
    touch(tmp_path, "ground_truth/cut/0_mask.png", "ground_truth/cut/1.png", "ground_truth/cut/.DS_Store")
    assert [(image.path, image.split, image.defect_type, image.mask_path) for image in scan_mvtec(tmp_path)] == [
        ("test/cut/0.tif", "test", "cut", "ground_truth/cut/0_mask.png"),
        ("test/cut/1.bmp", "test", "cut", "ground_truth/cut/1.png"),
        ("test/good/0.webp", "test", "good", None),
        ("train/good/10.PNG", "train", "good", None),
        ("train/good/2.jpeg", "train", "good", None),
    ]


def test_training_only_and_masks_missing_altogether_are_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "train/good/0.png")
    (tmp_path / "test/good").mkdir(parents=True)  # holds nothing
    assert [image.path for image in scan_mvtec(tmp_path)] == ["train/good/0.png"]
    assert not caplog.records
    touch(tmp_path, "test/cut/0.png")
    assert (scan_mvtec(tmp_path)[0].path, scan_mvtec(tmp_path)[0].mask_path) == ("test/cut/0.png", None)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((), r"no folder .*train/good \(put"),
        (("train/good/notes.txt",), r"no images under .*train/good \(run"),
        (("train/good/0.png", "train/cut/0.png"), r"pictures under .*train/cut, but only good ones"),
        (("train/good/0.png", "train/good/day1/1.png"), r"picture .*day1/1.png lies neither in train/good"),
        (("train/good/0.png", "ground_truth/cut/0_mask.png"), r"mask .*cut/0_mask.png has no picture"),
        (
            ("train/good/0.png", "test/cut/0.png", "test/cut/1.png", "ground_truth/cut/0_mask.png"),
            r"picture .*test/cut/1.png has no mask, but others have",
        ),
        (
            ("train/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png", "ground_truth/cut/0.png"),
            r"two masks for one picture: .*ground_truth/cut/0.png and ground_truth/cut/0_mask.png",
        ),
        (("train/good/0.png", "test/good/0.png", "ground_truth/good/0.png"), r"mask .* of a good image"),
    ],
)
def test_bad_folders_are_named(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(ValueError, match=message) as caught:
        scan_mvtec(tmp_path)
    assert "\n" not in str(caught.value)
