"""Masks as people and programs draw them."""

import numpy as np
import pytest
from pictures import decoded, encoded, png_16
from PIL import Image, ImageFilter

from ndpnet.data.masks import check_mask, open_mask


def disc(radius: float = 10) -> np.ndarray:
    rows, columns = np.mgrid[:64, :64]
    return (rows - 32) ** 2 + (columns - 30) ** 2 <= radius**2


def grey(values: object) -> bytes:
    return encoded(Image.fromarray(np.array(values, dtype=np.uint8)))


@pytest.mark.parametrize("level", [1, 7, 64, 128, 255])
def test_two_levels_are_a_defect_and_none_whatever_they_are(level: int) -> None:
    mask = open_mask(grey(disc() * level))
    np.testing.assert_array_equal(mask.marked, disc())
    assert mask.note is None


COLOURS = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
COLOURS.putpalette([0, 0, 0, 128, 0, 0, 0, 64, 0])


@pytest.mark.parametrize(
    ("content", "marked"),
    [
        (grey([[0, 1, 2, 31]]), [0, 1, 1, 1]),
        (png_16(np.array([[0, 1, 2]])), [0, 1, 1]),
        (encoded(Image.new("1", (2, 1), 1)), [1, 1]),
        (grey([[0, 0]]), [0, 0]),
        (encoded(COLOURS), [0, 1, 1]),
        (png_16(np.array([[0, 1, 65535]])), [0, 0, 1]),  # 16 bits are halved in the range that is used
        (png_16(np.array([[0, 100, 2047, 2048, 4095]])), [0, 0, 0, 1, 1]),
    ],
)
def test_labels_and_colours_are_defects_and_of_many_levels_the_upper_half(content: bytes, marked: list[int]) -> None:
    assert open_mask(content).marked.tolist() == [[bool(level) for level in marked]]


@pytest.mark.parametrize("border", [100, 255])
def test_labels_with_a_brighter_border_are_all_defects(border: int) -> None:
    labels = disc(4).astype(int) + disc(6) + (disc(8) & ~disc(6)) * border  # 2 in 1 in the border
    np.testing.assert_array_equal(open_mask(grey(labels)).marked, disc(8))


def test_a_blurred_edge_is_cut_at_half_of_its_height() -> None:
    """A disc of 317 pixels: what is not zero would be 30 % more."""
    image = Image.fromarray((disc() * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    assert np.count_nonzero(np.asarray(image)) > 1.3 * disc().sum()
    mask = open_mask(encoded(image), name="m.png")
    assert abs(int(mask.marked.sum()) - int(disc().sum())) <= 0.05 * disc().sum()
    assert "grey levels, taken as defect from half on" in mask.note


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_noise_of_jpeg_is_no_defect(quality: int) -> None:
    image = Image.fromarray((disc() * 255).astype(np.uint8))
    noisy = decoded(encoded(image, "JPEG", quality=quality))
    assert np.count_nonzero(noisy) > 1.3 * disc().sum()
    assert (open_mask(grey(noisy)).marked != disc()).sum() <= 0.03 * disc().sum()


@pytest.mark.parametrize(("rows", "quality"), [(slice(16, 17), 70), (slice(20, 26), 95)])
def test_noise_of_few_levels_is_no_label(rows: slice, quality: int) -> None:
    """Beside one white level: black that became 1, and rows of 1 above and below."""
    bar = np.zeros((64, 64), dtype=np.uint8)
    bar[rows, 16:48] = 255
    noisy = decoded(encoded(Image.fromarray(bar), "JPEG", quality=quality))
    low, white = np.split(np.unique(noisy), [-1])
    assert (white, low.max() > 0, low.max() < 32) == (255, True, True)
    np.testing.assert_array_equal(open_mask(grey(noisy)).marked, bar > 0)


def test_what_can_be_read_in_two_ways_is_refused() -> None:
    white_first = Image.fromarray(disc().astype(np.uint8))
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    red = np.full((64, 64, 3), 255, dtype=np.uint8)
    red[disc()] = (255, 0, 0)
    apart = disc() * 255
    apart[:8, :8] = 100
    for content, message in (
        (encoded(white_first), "mask m.png has a palette that starts with a bright colour"),
        (encoded(Image.fromarray(red)), "mask m.png marks every pixel, and has several colours"),
        (grey(apart), "mask m.png has grey areas of level 100: defect or not"),
        (grey([[0, 40, 80]]), "mask m.png has grey areas of level 80"),
        (grey([[200, 250]]), "mask m.png marks every pixel"),
    ):
        with pytest.raises(ValueError, match=rf"^{message}.* \(draw it white on black\)$"):
            open_mask(content, name="m.png")


@pytest.mark.parametrize(
    ("size", "fix"), [((90, 60), "turn it: pictures are read upright"), ((60, 80), "draw it at the picture's size")]
)
def test_a_mask_of_another_size_is_refused_and_one_that_lies_on_its_side_is_to_be_turned(
    size: tuple[int, int], fix: str
) -> None:
    with pytest.raises(ValueError, match=rf"^m\.png has {size[1]}x{size[0]} pixels, its picture 90x60 \({fix}"):
        check_mask(np.ones(size, dtype=bool), "m.png", is_good=False, size=(60, 90))
