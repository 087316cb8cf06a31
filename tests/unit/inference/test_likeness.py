"""Pictures unlike those of the calibration are named, with what is unlike; those like them are not."""

import numpy as np
import pytest
from scipy import ndimage

from ndpnet.inference.likeness import level_of, measure, surface_of, unlike


def surface_picture(seed: int) -> np.ndarray:
    grain = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(64, 64)), 1)
    return np.repeat(np.clip(110 + 60 * grain, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def surface() -> dict:
    looks = [measure(surface_picture(seed), (128, 128)) for seed in range(10)]
    return surface_of(looks, [level_of(np.full((64, 64), 0.1 + seed / 100)) for seed in range(10)])


def test_like_pictures_pass(surface: dict) -> None:
    for seed in range(10, 60):
        assert unlike(surface, surface_picture(seed), (128, 128), is_tiled=False) == []
    assert unlike(surface, surface_picture(11), (140, 130), is_tiled=False) == []
    assert unlike(None, surface_picture(11), (4000, 10), is_tiled=False) == []
    assert surface["map_level"] == pytest.approx(0.145)


@pytest.mark.parametrize(
    ("size", "change", "words"),
    [
        ((4000, 3000), lambda picture: picture, ["4000x3000 pixels, the model knows 128x128", "aspect ratio 1.3"]),
        ((1024, 128), lambda picture: picture, ["1024x128 pixels", "aspect ratio 8, the model knows 1"]),
        ((50, 50), lambda picture: picture, ["50x50 pixels"]),
        ((128, 128), lambda picture: picture // 2, ["darker: mean level 5"]),
        ((128, 128), lambda picture: np.clip(picture * 1.4, 0, 255).astype(np.uint8), ["brighter: mean level 15"]),
        ((128, 128), lambda picture: ndimage.gaussian_filter(picture, (2, 2, 0)), ["blurred: sharpness"]),
        (
            (128, 128),
            lambda picture: (picture * (1, 1, 0.7)).astype(np.uint8),
            ["another colour: red is 0.37 of", "another colour: blue is 0.26 of the light, the model knows 0.33"],
        ),
        ((128, 128), lambda picture: (picture * (1.04, 1, 0.96)).astype(np.uint8), []),
    ],
)
def test_each_way_to_be_unlike_is_said(surface: dict, size: tuple[int, int], change, words: list[str]) -> None:
    said = unlike(surface, change(surface_picture(11)), size, is_tiled=False)
    assert len(said) == len(words)
    assert all(sentence.startswith(word) for sentence, word in zip(said, words, strict=True))


def test_scans_that_are_cut_may_have_any_size(surface: dict) -> None:
    assert unlike(surface, surface_picture(11), (4000, 100), is_tiled=True) == []
