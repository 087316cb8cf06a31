"""Maps of mixed sizes and a region of interest: the same figures as the pixels that count give by themselves."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from ndpnet.metrics import exact, weighted

SIZES = [(30, 40), (25, 60), (64, 20), (30, 40), (50, 50)]


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
    assert exact.pixel_metrics(maps, masks)[0] == pytest.approx(roc_auc_score(truth, pixels), abs=1e-12)
    # padded with pixels that never count as an alarm, the overlap is that of the regions alone, and so is its mean
    shares = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        shares += [float((anomaly_map[labels == label] > 0.8).mean()) for label in range(1, count + 1)]
    fpr = float((pixels[truth == 0] > 0.8).mean())
    x, y = exact.pro_curve(maps, masks, max_fpr=1.0)
    assert np.interp(fpr, x, y) == pytest.approx(np.mean(shares), abs=1e-9)
    table = weighted.pixel_table(maps, masks)
    np.testing.assert_array_equal(table.num_good + table.num_defect, [height * width for height, width in SIZES])


def test_pixels_outside_the_region_do_not_count_as_anything() -> None:
    maps, masks = stacked()
    roi = np.zeros(maps.shape[1:], dtype=bool)
    roi[2:30, 10:36] = True  # cuts one defect, leaves the other out
    cut = (slice(None), slice(2, 30), slice(10, 36))
    inside = maps[cut], masks[cut]
    assert exact.pixel_metrics(maps, masks, roi=roi) == exact.pixel_metrics(*inside)
    assert exact.pixel_auroc(maps, masks, roi=roi) == exact.pixel_auroc(*inside)
    assert exact.pro_auc(maps, masks, roi=roi) == exact.pro_auc(*inside)
    for mine, other in zip(exact.pro_curve(maps, masks, roi=roi), exact.pro_curve(*inside), strict=True):
        np.testing.assert_array_equal(mine, other)
    table, other = weighted.pixel_table(maps, masks, roi=roi), weighted.pixel_table(*inside)
    for name in table.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(table, name), getattr(other, name))
    # whatever is said outside
    elsewhere = np.where(roi, maps, 99).astype(np.float32)
    assert exact.pixel_metrics(elsewhere, masks, roi=roi) == exact.pixel_metrics(*inside)
    assert exact.pixel_metrics(maps, masks) != exact.pixel_metrics(*inside)
