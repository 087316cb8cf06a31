"""The MVTec layout: what is found, and what is refused."""

from pathlib import Path

import pytest
from data_sets import touch

from ndpnet.data.importing.sources.mvtec import scan_mvtec


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


def test_good_pictures_are_good_by_whatever_name(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/OK/1.png", "test/nok/3.png")
    found = {image.path: image.defect_type for image in scan_mvtec(tmp_path) if image.split == "test"}
    assert found == {"test/OK/1.png": "good", "test/nok/3.png": "nok"}
    touch(tmp_path, "test/good ones/4.png")
    with pytest.raises(ValueError, match=r"^folder 'good ones' holds good pictures, or a type of defect\?"):
        scan_mvtec(tmp_path)


def test_training_only_and_masks_missing_altogether_are_allowed(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png")
    assert [image.path for image in scan_mvtec(tmp_path)] == ["train/good/0.png"]
    touch(tmp_path, "test/cut/0.png")
    assert (scan_mvtec(tmp_path)[0].path, scan_mvtec(tmp_path)[0].mask_path) == ("test/cut/0.png", None)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((), r"no folder .*train/good \(put"),
        (("train/good/notes.txt",), r"no images under .*train/good \(run"),
        (("train/good/0.png", "train/cut/0.png"), r"pictures under .*train/cut, but only good ones"),
        (("train/good/0.png", "train/good/day1/1.png"), r"folder .*day1 lies among the pictures"),
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


def test_missing_category_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder .*/brik \(run `dvc pull`, or check"):
        scan_mvtec(tmp_path / "brik")
