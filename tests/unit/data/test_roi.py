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


def test_regions_that_say_nothing_are_refused(tmp_path: Path) -> None:
    Image.new("L", (60, 40)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match=r"black\.png is all black: nothing would be inspected \(paint white"):
        read_roi(tmp_path / "black.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*empty\.png: not a picture"):
        read_roi(tmp_path / "empty.png")


def test_pictures_that_a_region_does_not_fit_are_named() -> None:
    check_roi_fits(HALF, 600, 400, mode="resize", name="a.png")
    check_roi_fits(HALF, 601, 399, mode="resize", name="a.png")
    with pytest.raises(
        ValueError, match=r"^a\.png has 400x600 pixels, the region of interest 60x40, of another aspect"
    ):
        check_roi_fits(HALF, 400, 600, mode="resize", name="a.png")
    check_roi_fits(HALF, 60, 40, mode="tile", name="a.png")
    with pytest.raises(
        ValueError, match=r"^a\.png has 600x400 pixels, the region of interest 60x40 \(draw roi\.png at"
    ):
        check_roi_fits(HALF, 600, 400, mode="tile", name="a.png")


@pytest.mark.parametrize("name", ["ROI.png", "roi.PNG", "Roi.jpg", "roi.tif", "roi"])
def test_a_region_is_not_passed_over_for_its_name(tmp_path: Path, name: str) -> None:
    assert find_roi(tmp_path) is None
    Image.fromarray(HALF).save(tmp_path / name, format="PNG")
    with pytest.raises(ValueError, match=rf"{name} is not named roi\.png \(save it as a PNG with this name\)"):
        find_roi(tmp_path)
    write_roi(tmp_path / "roi.png", HALF)
    np.testing.assert_array_equal(find_roi(tmp_path), HALF)
