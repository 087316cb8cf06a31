"""Overlays: known colours at known pixels, contours just outside the regions, one scale for a whole set."""

import matplotlib
import numpy as np
import pytest
from pictures import decoded

from ndpnet.data.fitting import resize
from ndpnet.inference import overlay as pictures
from ndpnet.inference.verdict import Verdict
from ndpnet.station.judge import draw_map

GREY = np.full((64, 64, 3), 100, dtype=np.uint8)


def square_map(*, level: float) -> np.ndarray:
    anomaly_map = np.zeros((64, 64), dtype=np.float32)
    anomaly_map[20:30, 40:50] = level
    return anomaly_map


def blended(level: float) -> np.ndarray:
    colour = np.array(matplotlib.colormaps["inferno"](level, bytes=True)[:3], dtype=np.float64)
    opacity = pictures.MAX_OPACITY * level
    return np.rint(100 * (1 - opacity) + colour * opacity)


@pytest.mark.parametrize(("value", "level"), [(0.0, 0.0), (0.2, 0.25), (0.4, 0.5), (0.6, 0.75), (0.8, 1.0), (3.0, 1.0)])
def test_heat_has_the_threshold_in_the_middle_of_the_colours(value: float, level: float) -> None:
    assert pictures.heat_level(np.array([[value]]), threshold=0.4) == pytest.approx(level)
    picture = pictures.overlay(GREY, np.full((64, 64), value), threshold=0.4)
    assert picture.dtype == np.uint8
    assert picture.shape == (64, 64, 3)
    np.testing.assert_allclose(picture[32, 32], blended(level), atol=1)


def test_threshold_keeps_its_colour_whatever_the_ends_of_the_scale() -> None:
    for vmin, vmax in [(0.0, 1.0), (0.3, 5.0), (None, 0.9)]:
        assert pictures.heat_level(np.array([[0.4]]), threshold=0.4, vmin=vmin, vmax=vmax) == pytest.approx(0.5)
    assert pictures.scale_stops(threshold=0.4, vmax=0.1) == [0.0, 0.4, 0.8]  # no image of the set reaches the threshold


def test_contour_runs_just_outside_the_detected_region() -> None:
    drawn = pictures.draw_contours(GREY, square_map(level=0.9), threshold=0.5)
    is_red = (drawn == pictures.DETECTED_COLOUR).all(axis=2)
    expected = np.zeros((64, 64), dtype=bool)
    expected[19:31, 39:51] = True
    expected[20:30, 40:50] = False
    np.testing.assert_array_equal(is_red, expected)
    np.testing.assert_array_equal(drawn[~expected], GREY[~expected])


def test_value_equal_to_the_threshold_is_not_detected() -> None:
    level = 0.5
    np.testing.assert_array_equal(pictures.draw_contours(GREY, square_map(level=level), threshold=level), GREY)


def test_both_contours_stay_visible_where_they_coincide() -> None:
    anomaly_map = square_map(level=0.9)
    drawn = pictures.draw_contours(GREY, anomaly_map, threshold=0.5, truth=anomaly_map > 0.5)
    assert tuple(drawn[19, 45]) == pictures.DETECTED_COLOUR
    assert tuple(drawn[18, 45]) == pictures.TRUTH_COLOUR
    assert tuple(drawn[17, 45]) == (100, 100, 100)


def test_panel_holds_the_four_pictures_side_by_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    anomaly_map = np.full((256, 256), 0.5)
    panel = pictures.panel(image, 255 - image, anomaly_map, threshold=0.5, vmax=1.0, truth=np.zeros((256, 256)))
    assert panel.shape == (256 + 2 * 19, 4 * 256 + 3 * 8, 3)  # a row of 19 pixels for text above, another below
    np.testing.assert_array_equal(panel[19:275, :256], image)
    np.testing.assert_array_equal(panel[19:275, 264:520], 255 - image)
    assert (panel[19:275, 528:784] == matplotlib.colormaps["inferno"](0.5, bytes=True)[:3]).all()
    np.testing.assert_array_equal(panel[19:275, 792:], image)  # nothing is above the threshold
    captioned = pictures.panel(image, image, anomaly_map, threshold=0.5, vmax=1.0, caption="crack/017.png")
    assert captioned.shape[0] == panel.shape[0] + 19
    assert captioned[:19].min() < 128


def test_the_ignored_area_is_dimmed_and_the_rest_as_it_was() -> None:
    roi = np.zeros((64, 64), dtype=bool)
    roi[:, 32:] = True
    anomaly_map = square_map(level=0.9)
    plain = pictures.overlay(GREY, anomaly_map, threshold=0.5)
    dimmed = pictures.overlay(GREY, anomaly_map, threshold=0.5, roi=roi)
    np.testing.assert_array_equal(dimmed[:, 32:], plain[:, 32:])
    assert (dimmed[:, :32] == 35).all()
    assert pictures.dim_ignored(GREY, None) is GREY
    panel = pictures.panel(GREY, GREY, anomaly_map, threshold=0.5, vmax=1.0, roi=roi)
    assert (panel == 35).all(axis=2).sum() == 16 * 64 * 32  # in one of the four pictures, at four times the size


def test_a_map_of_another_size_is_drawn_as_if_enlarged() -> None:
    small = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    roi = np.arange(64)[None] >= np.full((64, 1), 32)
    for region in (None, roi):
        drawn = pictures.overlay(GREY, small, threshold=0.5, roi=region)
        full = np.where(roi | (region is None), resize(small, (64, 64)), 0)
        enlarged = pictures.overlay(GREY, full, threshold=0.5, roi=region)
        assert np.abs(drawn.astype(int) - enlarged).max() <= 5  # the colours of levels that are rounded before
        contours = [(picture == pictures.DETECTED_COLOUR).all(axis=2) for picture in (drawn, enlarged)]
        np.testing.assert_array_equal(*contours)
        assert contours[0].any()


def test_a_picture_for_review_has_contours_of_what_a_person_looks_at() -> None:
    anomaly_map = square_map(level=0.5)
    drawn = {
        bound: pictures.draw_verdict(
            GREY, Verdict(0.5, 0.6, GREY.shape[:2], (), anomaly_map, anomaly_map > bound, review_threshold=bound)
        )
        for bound in (0.4, 0.55)
    }
    num_drawn = {bound: (each == pictures.DETECTED_COLOUR).all(axis=2).sum() for bound, each in drawn.items()}
    assert num_drawn[0.4] > 0
    assert num_drawn[0.55] == 0


def test_a_picture_whose_score_is_good_has_no_contour_whatever_single_pixels_reach() -> None:
    anomaly_map = square_map(level=0.9)
    for is_defective in (True, False):
        score, marked = (0.7, anomaly_map > 0.5) if is_defective else (0.3, anomaly_map > 1)
        verdict = Verdict(score, 0.5, (64, 64), (), anomaly_map, marked)
        shown = [pictures.draw_verdict(GREY, verdict)]
        limits = {"threshold": 0.5, "vmax": 1.0, "is_detected": is_defective}
        shown.append(pictures.panel(GREY, GREY, anomaly_map, **limits))
        is_red = [(picture == pictures.DETECTED_COLOUR).all(axis=2).any() for picture in shown]
        assert is_red == [is_defective, is_defective]
        heat = decoded(draw_map(verdict, 0.5))
        np.testing.assert_array_equal(heat >= 128, marked)


def test_the_text_above_a_narrow_picture_is_whole() -> None:
    image = np.full((400, 50, 3), 90, dtype=np.uint8)
    lines = ["defective: score 0.7784, threshold 0.6517", "50x400 pixels, the model knows 128x128"]
    wide = pictures.captioned(np.full((400, 600, 3), 90, dtype=np.uint8), lines)
    narrow = pictures.captioned(image, lines)
    assert (narrow[-400:, :50] == 90).all()
    assert (narrow[-400:, 50:] == 255).all()
    strip = (narrow[:-400] < 128).any(axis=2)
    assert strip.any()
    assert not strip[:, -4:].any()  # nothing is cut off
    assert wide.shape[1] == 600


def test_a_shrunk_scan_keeps_its_hot_pixels() -> None:
    image = np.full((300, 201, 3), 90, dtype=np.uint8)
    anomaly_map, roi = np.zeros((300, 201), dtype=np.float32), np.zeros((300, 201), dtype=bool)
    anomaly_map[299, 200], roi[0, 0] = 0.7, True
    small, small_map, small_roi = pictures.shrink(image, anomaly_map, roi, max_side=100)
    assert small.shape == (100, 67, 3)
    assert small_map.shape == small_roi.shape == (100, 67)
    assert (small == 90).all()
    assert small_map[99, 66] == np.float32(0.7)
    assert np.count_nonzero(small_map) == 1
    assert np.argwhere(small_roi).tolist() == [[0, 0]]
    assert pictures.shrink(image, anomaly_map, None, max_side=100)[2] is None
    assert pictures.shrink(image, anomaly_map, roi, max_side=300)[0] is image
