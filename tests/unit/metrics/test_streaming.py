"""The streamed metrics against the exact ones: within the error they state, which is small."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ndpnet.metrics import exact
from ndpnet.metrics.streaming import PixelStream, PixelTally
from ndpnet.metrics.summary import ScoredImages, summarise

SHAPE = (3, 6, 5)


def streamed(maps: np.ndarray, masks: np.ndarray, **settings: np.ndarray) -> PixelStream:
    stream = PixelStream()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        stream.add(anomaly_map, mask, **settings)
    return stream


def realistic(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Noisy maps in [0, 1] that are higher in one square and one speck per image."""
    rng = np.random.default_rng(3)
    masks = np.zeros((count, 64, 64), dtype=bool)
    for mask in masks[::2]:
        row, column = rng.integers(0, 52, 2)
        mask[row : row + 12, column : column + 8] = True
        mask[rng.integers(64), rng.integers(64)] = True
    return rng.beta(2, 8, masks.shape).astype(np.float32) * 0.7 + 0.25 * masks, masks


@settings(max_examples=40)
@given(
    hnp.arrays(np.float64, SHAPE, elements=st.floats(-1e3, 1e3) | st.floats(0.5, 0.501)),
    hnp.arrays(bool, SHAPE),
    st.floats(0.01, 1.0),
)
def test_no_scores_and_no_limit_break_the_stated_error(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> None:
    expected = exact.pixel_metrics(maps, masks, max_fpr)
    result = streamed(maps, masks).metrics(max_fpr)
    assert (result is None) == (expected is None)
    if result is not None:
        values, errors = np.array(result)
        assert (np.abs(values - expected) <= errors + 1e-12).all()


def test_the_error_of_an_order_that_is_lost_is_the_largest_possible() -> None:
    # one bin: the defect may be above or below all good pixels
    maps = np.full((1, 1, 5), 0.5) + np.array([4, 0, 1, 2, 3]) * 1e-6
    masks = np.array([[[True, False, False, False, False]]])
    result = streamed(maps, masks).metrics(1.0)
    assert result == ((0.5, 0.5), (0.5, 0.5))
    assert exact.pixel_auroc(maps, masks) == 1.0


def test_ties_and_scores_that_bins_can_tell_apart_are_exact() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((6, 20, 20)) < 0.2
    maps = rng.integers(-4, 5, masks.shape) / 4
    result = streamed(maps, masks).metrics()
    assert result[0] == pytest.approx(exact.pixel_metrics(maps, masks), abs=1e-12)
    maps[maps == 0] = -0.0  # the same number
    assert streamed(maps, masks).metrics() == result


def test_errors_of_maps_as_they_are_stay_below_a_thousandth() -> None:
    maps, masks = realistic()
    values, errors = np.array(streamed(maps, masks).metrics())
    assert (np.abs(values - exact.pixel_metrics(maps, masks)) <= errors).all()
    assert ((errors > 0) & (errors < 1e-3)).all()


def test_bad_maps_are_refused_as_by_the_exact_metrics() -> None:
    stream = PixelStream()
    with pytest.raises(ValueError, match="NaN or infinity"):
        stream.add(np.array([[np.nan, 1.0]]), np.array([[True, False]]))
    with pytest.raises(ValueError, match="differ"):
        stream.add(np.zeros((2, 2)), np.zeros((2, 3)))
    assert stream.metrics() is None


# ---- a whole test set


def tally_of(maps: np.ndarray, masks: np.ndarray, types: list[str], roi: np.ndarray | None = None) -> PixelTally:
    tally = PixelTally(roi)
    for anomaly_map, mask, name in zip(maps, masks, types, strict=True):
        tally.add(anomaly_map, mask, name, is_good=name == "good")
    return tally


@pytest.mark.parametrize("has_roi", [False, True])
def test_a_tally_gives_the_summary_of_the_maps(has_roi: bool) -> None:
    maps, masks = realistic(count=24)
    types = [("hole", "good", "spot", "good")[index % 4] for index in range(24)]
    masks[4] = False  # a hole that nobody drew
    roi = None
    if has_roi:
        roi = np.ones(masks.shape[1:], dtype=bool)
        roi[:, :8] = False
    groups, scores = np.array([f"g{index // 2}" for index in range(24)]), maps.max(axis=(1, 2)).astype(np.float64)
    known = {"groups": groups, "types": np.array(types), "scores": scores, "roi": roi}
    known |= {"threshold_record": {"value": 0.5, "statement": ""}}
    expected = summarise(ScoredImages(**known, maps=maps, masks=masks), category="wall")
    found = summarise(ScoredImages(**known, tally=tally_of(maps, masks, types, roi)), category="wall")
    (note,) = [each for each in found["notes"] if each not in expected["notes"]]
    assert note.startswith("Too many test images to keep their maps: pixel ROCAUC to within ")
    assert set(expected["notes"]) < set(found["notes"])
    types = [(expected["by_defect_type"][name], found["by_defect_type"][name]) for name in ("hole", "spot")]
    for of_exact, of_found in [(expected, found), *types]:
        assert of_found["recall_overlap"] == of_exact["recall_overlap"]
        for name in ("pixel_auroc", "pro_auc"):
            assert of_found[name]["value"] == pytest.approx(of_exact[name]["value"], abs=1e-3)
            for end in ("low", "high"):  # the intervals' grids differ
                assert of_found[name][end] == pytest.approx(of_exact[name][end], abs=0.01)
            del of_exact[name], of_found[name]
    del expected["notes"], found["notes"]
    assert found == expected


def test_a_tally_draws_the_curve_of_the_maps() -> None:
    maps, masks = realistic()
    types = ["hole" if mask.any() else "good" for mask in masks]
    tally = tally_of(maps, masks, types)
    fpr, overlap = tally.stream_of(tally.streams).pro_curve()
    expected = exact.rank_pixels(maps, masks).pro_curve()
    assert fpr[0] == overlap[0] == 0
    assert fpr[-1] == exact.MAX_FPR
    np.testing.assert_allclose(
        np.interp(np.linspace(0, 0.3, 50), fpr, overlap), np.interp(np.linspace(0, 0.3, 50), *expected), atol=0.01
    )
    np.testing.assert_array_equal(tally.stream_of(tally.streams).pro_curve()[1], overlap)  # no stream took in another
    assert tally.stream_of(["good"]).pro_curve() is None
