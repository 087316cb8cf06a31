"""The region of interest: what white means, which regions and pictures are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndpnet.data.roi import check_roi_fits, find_roi, read_roi, write_roi

HALF = np.zeros((40, 60), dtype=bool)
HALF[:, :30] = True


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_white_is_inspected_in_any_colour_mode(tmp_path: Path, mode: str) -> None:
    Image.fromarray(HALF.astype(np.uint8) * 255).convert(mode).save(tmp_path / "roi.png")
    np.testing.assert_array_equal(read_roi(tmp_path / "roi.png"), HALF)


def test_grey_counts_as_what_it_is_nearer_to_and_a_written_region_comes_back(tmp_path: Path) -> None:
    Image.fromarray(np.where(HALF, 200, 60).astype(np.uint8)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_roi(tmp_path / "grey.png"), HALF)
    write_roi(tmp_path / "a.png", HALF)
    np.testing.assert_array_equal(read_roi(tmp_path / "a.png"), HALF)
    assert read_roi(tmp_path / "none.png") is None
    write_roi(tmp_path / "black.png", ~HALF & HALF)
    with pytest.raises(ValueError, match=r"black\.png is all black: nothing would be inspected \(paint white"):
        read_roi(tmp_path / "black.png")


def test_of_a_scaled_picture_the_aspect_ratio_need_only_be_near() -> None:
    check_roi_fits(HALF, 601, 399, mode="resize", name="a.png")


@pytest.mark.parametrize("name", ["ROI.png", "roi.PNG", "Roi.jpg", "roi.tif", "roi"])
def test_a_region_is_not_passed_over_for_its_name(tmp_path: Path, name: str) -> None:
    assert find_roi(tmp_path) is None
    Image.fromarray(HALF).save(tmp_path / name, format="PNG")
    with pytest.raises(ValueError, match=rf"{name} is not named roi\.png \(save it as a PNG with this name\)"):
        find_roi(tmp_path)
    write_roi(tmp_path / "roi.png", HALF)
    np.testing.assert_array_equal(find_roi(tmp_path), HALF)
