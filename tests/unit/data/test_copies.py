"""What shows the same, and what nearly does."""

import numpy as np
import pytest
from pictures import decoded, encoded
from PIL import Image
from skimage.data import brick, grass

from ndpnet.data.copies import nearly_equal, thumbnail


def crops(source: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(source[at : at + 128, 2 * at : 2 * at + 128, None], 3, axis=2) for at in range(0, 180, 20)]


@pytest.mark.parametrize("source", [brick, grass])
def test_a_jpeg_of_a_picture_is_nearly_equal_and_another_crop_is_not(source: object) -> None:
    images = crops(source())
    qualities = zip(images[:3], (75, 85, 95), strict=True)
    again = [decoded(encoded(Image.fromarray(image), "JPEG", quality=quality)) for image, quality in qualities]
    thumbnails = [thumbnail(image) for image in images + again]
    assert nearly_equal(thumbnails, list("abcdefghijkl")) == [(9, 0), (10, 1), (11, 2)]
    assert nearly_equal(thumbnails, list("abcdefghiabl")) == [(11, 2)]  # of one group they are known as dependent


def test_smooth_surfaces_are_not_taken_for_each_other() -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(rng.normal(120, 4, (256, 256, 3)), 0, 255).astype(np.uint8) for _ in range(3)]
    assert nearly_equal([thumbnail(image) for image in noisy], list("abc")) == []
    assert nearly_equal([], []) == []
