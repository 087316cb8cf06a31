"""Sizes: pictures are averaged, regions lose no defect, marks of a map come back where they were."""

import numpy as np
import pytest
from PIL import Image

from ndpnet.data.fitting import (
    continue_surface,
    covered_size,
    fit_image,
    input_size_of,
    median_aspect_ratio,
    scale_mask,
    scale_plane,
    scale_scan,
)


def test_fit_image_keeps_what_fits_and_averages_the_rest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert fit_image(image, (64, 64)) is image
    stripes = np.zeros((128, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 200  # every other column: antialiasing gives their mean
    fitted = fit_image(stripes, (64, 64))
    assert fitted.shape == (64, 64, 3)
    assert np.abs(fitted[:, 2:-2].astype(int) - 100).max() <= 8
    with pytest.raises(ValueError, match=r"a\.png has 100x63 pixels, a side below 64"):
        fit_image(np.zeros((63, 100, 3), dtype=np.uint8), (64, 64), name="a.png")
    with pytest.raises(ValueError, match=r"^s\.png has 90x60 pixels at scale 0\.3, a side below 64"):
        scale_scan(np.zeros((200, 300, 3), dtype=np.uint8), 0.3, name="s.png")


def test_a_scaled_mask_takes_half_the_area_and_loses_no_defect() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0:2] = True  # half of its 2x2 cell: stays
    mask[4, 4] = True  # a quarter of its cell: goes
    assert np.argwhere(scale_plane(mask, (4, 4))).tolist() == [[0, 0]]
    mask[0, 0:2] = False
    assert np.argwhere(scale_plane(mask, (4, 4))).tolist() == [[2, 2]]
    assert scale_plane(mask, (8, 8)) is mask
    assert scale_plane(np.ones((8, 6), dtype=bool), (4, 3)).shape == (4, 3)
    assert not scale_plane(np.zeros((8, 8), dtype=bool), (4, 4)).any()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(500, 500)], (256, 256)),
        ([(530, 500)], (256, 256)),
        ([(480, 320)], (256, 384)),
        ([(320, 480)], (384, 256)),
        ([(100, 100), (300, 150), (4000, 2000)], (256, 512)),  # the median
        ([(9000, 100)], (256, 1024)),
    ],
)
def test_input_has_the_aspect_ratio_of_the_pictures(sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    assert input_size_of(median_aspect_ratio(sizes), 256) == expected


@pytest.mark.parametrize(
    ("size", "aspect_ratio", "expected"),
    [
        ((300, 300), 1.0, (256, 256)),
        ((300, 310), 1.0, (256, 256)),  # within the tolerance
        ((300, 600), 1.0, (128, 256)),
        ((600, 300), 1.0, (256, 128)),
        ((100, 9000), 1.0, (32, 256)),
        ((400, 550), 1.375, (256, 384)),  # the input's sides are rounded, and all pictures stretched alike
        ((550, 550), 1.375, (256, 279)),
        ((100, 900), 9.0, (256, 1024)),
    ],
)
def test_all_pictures_are_scaled_alike(size: tuple[int, int], aspect_ratio: float, expected: tuple[int, int]) -> None:
    assert covered_size(size, input_size_of(aspect_ratio, 256), aspect_ratio) == expected


def test_a_surface_goes_on_as_it_was() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    assert continue_surface(noise, (40, 64)) is noise
    longer = continue_surface(noise, (64, 64))
    np.testing.assert_array_equal(longer[:40], noise)
    assert {row.tobytes() for row in longer} == {row.tobytes() for row in noise}  # nothing is made up


@pytest.mark.parametrize(("num_rows", "num_columns"), [(8, 5), (9, 5), (11, 7), (40, 21)])
def test_an_enlarged_mask_takes_the_nearest_pixel(num_rows: int, num_columns: int) -> None:
    mask = np.random.default_rng(1).random((8, 5)) > 0.5
    expected = np.asarray(Image.fromarray(mask).resize((num_columns, num_rows), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(scale_mask(mask, (num_rows, num_columns)), expected)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 7])
def test_a_reduced_mask_loses_no_pixel(num_rows: int) -> None:
    for row in range(8):
        mask = np.zeros((8, 3), dtype=bool)
        mask[row, 1] = True
        for scaled in (scale_mask(mask, (num_rows, 3)), scale_mask(mask.T, (3, num_rows)).T):
            assert scaled.shape == (num_rows, 3)
            assert scaled.sum() == 1
            assert scaled[row * num_rows // 8 : -(-(row + 1) * num_rows // 8), 1].any()
