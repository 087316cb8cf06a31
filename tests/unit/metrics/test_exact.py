"""The exact metrics against brute force, scikit-learn and cases computed by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import f1_score, roc_auc_score

from ndpnet.metrics import exact, weighted

SHAPE = (3, 6, 5)
SIZES = [(30, 40), (25, 60), (64, 20), (30, 40), (50, 50)]


def brute_force_pro(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> float:
    """PRO by its definition: one threshold after the other, one region after the other."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[index][labels == region] for region in range(1, count + 1)]
    good = maps[~masks.astype(bool)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        points.append(((good >= threshold).mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= x0 or x0 >= max_fpr:
            continue
        right = min(x1, max_fpr)
        y_right = y0 + (y1 - y0) * (right - x0) / (x1 - x0)
        area += (right - x0) * (y0 + y_right) / 2
    return area / max_fpr


def random_set(seed: int, *, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = rng.random(SHAPE) < 0.3
    masks.flat[0], masks.flat[1] = True, False
    return rng.integers(0, levels, SHAPE).astype(np.float32) / 7, masks


@settings(max_examples=60)
@given(
    hnp.arrays(np.float32, SHAPE, elements=st.floats(-4, 4, width=16)), hnp.arrays(bool, SHAPE), st.floats(0.01, 1.0)
)
def test_pixel_metrics_equal_their_definitions(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> None:
    both = exact.pixel_metrics(maps, masks, max_fpr)
    if masks.all() or not masks.any():
        assert both is None
        return
    assert both[0] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert both[1] == pytest.approx(brute_force_pro(maps, masks, max_fpr), abs=1e-9)
    assert both == (exact.pixel_auroc(maps, masks), exact.pro_auc(maps, masks, max_fpr))


@settings(max_examples=60)
@given(hnp.arrays(np.int8, 30, elements=st.integers(0, 9)), hnp.arrays(bool, 30))
def test_image_auroc_with_ties_equals_scikit_learn(scores: np.ndarray, labels: np.ndarray) -> None:
    if labels.all() or not labels.any():
        assert exact.image_auroc(scores, labels) is None
        assert exact.roc_curve(scores, labels) is None
        return
    value = exact.image_auroc(scores.astype(np.float64), labels)
    assert value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    # swapping the classes mirrors the area; a monotone transform changes nothing
    assert exact.image_auroc(scores, ~labels) == pytest.approx(1 - value, abs=1e-12)
    assert exact.image_auroc(np.exp(scores / 3.0), labels) == value


def test_a_score_is_the_mean_of_the_highest_pixels() -> None:
    plane = np.float32([[0.1, 0.9, 0.3], [0.5, 0.7, 0.2]])
    assert exact.image_score(plane, 1) == plane.max()
    assert exact.image_score(plane, 3) == pytest.approx(0.7)
    assert exact.image_score(plane, 200) == pytest.approx(plane.mean()), "a small map has fewer"
    shuffled = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    assert exact.image_score(shuffled, 200) == exact.image_score(np.sort(shuffled, axis=None), 200), "bit for bit"
    large = np.random.default_rng(1).random((1100, 2000), dtype=np.float32)
    assert large.size > 2 * exact.PIXELS_AT_ONCE
    assert exact.image_score(large, 200) == np.sort(large, axis=None)[-200:].mean(dtype=np.float64)


@pytest.mark.parametrize("max_fpr", [0.1, 0.3, 1.0])
def test_the_area_under_the_plotted_curve_is_the_metric(max_fpr: float) -> None:
    for seed, levels in enumerate([2, 6, 1000]):
        maps, masks = random_set(seed, levels=levels)
        fpr, overlap = exact.rank_pixels(maps, masks).pro_curve(max_fpr)
        assert fpr[0] == 0.0
        assert fpr[-1] == max_fpr
        assert np.trapezoid(overlap, fpr) / max_fpr == pytest.approx(exact.pro_auc(maps, masks, max_fpr), abs=1e-12)
        fpr, tpr = exact.roc_curve(maps.ravel(), masks.ravel())
        assert np.trapezoid(tpr, fpr) == pytest.approx(exact.pixel_auroc(maps, masks), abs=1e-12)


def test_thinning_keeps_the_endpoints_and_the_shape() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(40_000) < 0.5
    scores = rng.standard_normal(40_000) + 1.5 * labels
    fpr, tpr = exact.thin_curve(*exact.roc_curve(scores, labels))
    assert 400 < fpr.size <= 500
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(exact.image_auroc(scores, labels), abs=1e-3)
    short = exact.thin_curve(np.arange(5.0), np.arange(5.0))
    assert short[0].tolist() == [0, 1, 2, 3, 4]


def test_confusion_and_its_f1_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.random(200), rng.random(200) < 0.4
    counts = exact.confusion(scores, labels, 0.6)
    calls = scores > 0.6
    assert sum(counts.values()) == 200
    assert exact.f1(counts) == pytest.approx(f1_score(labels, calls), abs=1e-12)


def test_defective_means_strictly_above_the_threshold() -> None:
    counts = exact.confusion(np.array([0.5, 0.5, 0.6]), np.array([False, True, True]), 0.5)
    assert counts == {"true_positive": 1, "false_positive": 0, "true_negative": 1, "false_negative": 1}


def test_bad_input_is_refused() -> None:
    maps, masks = random_set(0, levels=4)
    with pytest.raises(ValueError, match=r"^3 anomaly maps and 2 masks differ: give one mask"):
        exact.pro_auc(maps, masks[:2])
    broken = maps.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        exact.pixel_auroc(broken, masks)
    with pytest.raises(ValueError, match=r"^a region of interest \(2, 2\) for other sizes of maps"):
        exact.pixel_metrics(maps, masks, roi=np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="NaN or infinity"):
        exact.image_auroc(np.array([0.0, np.inf]), np.array([0, 1]))


# ---- maps of mixed sizes, and a region of interest


def ragged() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps with ties and masks of two regions, the first image a good one."""
    rng = np.random.default_rng(0)
    maps, masks = [], []
    for number, size in enumerate(SIZES):
        mask = np.zeros(size, dtype=np.uint8)
        if number:
            mask[3:9, 4 : 10 + number] = 1
            mask[15:17, 2:14] = 1
        maps.append((np.round(rng.random(size) + 0.4 * mask, 2)).astype(np.float32))
        masks.append(mask)
    return maps, masks


def stacked() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    masks = np.zeros((6, 32, 40), dtype=np.uint8)
    masks[2:, 5:12, 8:30] = 1
    masks[3:, 20:25, 3:6] = 1
    return np.round(rng.random(masks.shape) + 0.3 * masks, 2).astype(np.float32), masks


def test_mixed_sizes_count_every_pixel_once() -> None:
    maps, masks = ragged()
    pixels = np.concatenate([each.ravel() for each in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    assert exact.pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(truth, pixels), abs=1e-12)
    # padded with pixels that never count as an alarm, the overlap is that of the regions alone, and so is its mean
    shares = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        shares += [float((anomaly_map[labels == label] > 0.8).mean()) for label in range(1, count + 1)]
    fpr = float((pixels[truth == 0] > 0.8).mean())
    ranking = exact.rank_pixels(maps, masks)
    x, y = ranking.pro_curve(max_fpr=1.0)
    assert np.interp(fpr, x, y) == pytest.approx(np.mean(shares), abs=1e-9)
    table = weighted.pixel_table(maps, [mask > 0 for mask in masks], weighted.grid_of(ranking))
    np.testing.assert_array_equal(table.num_good + table.num_defect, [height * width for height, width in SIZES])


def test_pixels_outside_the_region_do_not_count_as_anything() -> None:
    maps, masks = stacked()
    roi = np.zeros(maps.shape[1:], dtype=bool)
    roi[2:30, 10:36] = True  # cuts one defect, leaves the other out
    cut = (slice(None), slice(2, 30), slice(10, 36))
    inside = maps[cut], masks[cut]
    assert exact.pixel_metrics(maps, masks, roi=roi) == exact.pixel_metrics(*inside)
    rankings = exact.rank_pixels(maps, masks, roi), exact.rank_pixels(*inside)
    np.testing.assert_array_equal(rankings[0].pro_curve(), rankings[1].pro_curve())
    table = weighted.pixel_table(maps, masks > 0, weighted.grid_of(rankings[0]), roi=roi)
    other = weighted.pixel_table(inside[0], inside[1] > 0, weighted.grid_of(rankings[1]))
    for name in table.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(table, name), getattr(other, name))
    # whatever is said outside
    elsewhere = np.where(roi, maps, 99).astype(np.float32)
    assert exact.pixel_metrics(elsewhere, masks, roi=roi) == exact.pixel_metrics(*inside)
    assert exact.pixel_metrics(maps, masks) != exact.pixel_metrics(*inside)
