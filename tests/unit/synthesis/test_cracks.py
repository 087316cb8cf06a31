"""Masks of cracks: one thin, jagged, tapering line each, in any direction."""

import numpy as np
import pytest
from scipy import ndimage

from ndpnet.synthesis.cracks import crack_masks

EIGHT = np.ones((3, 3))


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    """bool (M, 128, 128), those with a visible crack."""
    made = crack_masks(np.random.default_rng(0), 256, 128, widths=(3.0, 5.0)).numpy()
    return made[made.sum(axis=(1, 2)) >= 8]


def test_a_mask_holds_one_thin_line(masks: np.ndarray) -> None:
    assert len(masks) > 240
    largest = [np.bincount(ndimage.label(mask, EIGHT)[0][mask]).max() / mask.sum() for mask in masks]
    assert np.mean(largest) > 0.98
    half_widths = np.array([ndimage.distance_transform_edt(mask).max() for mask in masks])
    assert half_widths.max() <= 3.0
    assert np.quantile(half_widths, 0.05) >= 1.0
    spans = [np.hypot(*(np.ptp(axis) for axis in np.nonzero(mask))) for mask in masks]
    assert 50 < np.median(spans) < 110


def test_cracks_run_in_every_direction_and_are_jagged(masks: np.ndarray) -> None:
    points = [np.argwhere(mask) - np.argwhere(mask).mean(axis=0) for mask in masks if mask.sum() > 100]
    axes = [np.linalg.svd(each, full_matrices=False)[2] for each in points]
    angles = np.array([np.arctan2(axis[0, 0], axis[0, 1]) % np.pi for axis in axes])
    assert np.histogram(angles, bins=6, range=(0, np.pi))[0].min() > len(angles) / 12
    bends = np.array([np.ptp(each @ axis[1]) for each, axis in zip(points, axes, strict=True)])
    assert np.quantile(bends, 0.1) < 6  # straight: little more than its own width
    assert np.quantile(bends, 0.9) > 8  # twice the widest


def test_a_crack_becomes_thinner_towards_its_tip() -> None:
    # so long that most of it crosses the patch: the ends of one mask differ in width
    masks = crack_masks(np.random.default_rng(1), 64, 128, widths=(10.0, 10.0)).numpy()
    ratios = []
    for mask in masks:
        points = np.argwhere(mask) - 63.5
        along = points @ np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
        edges = np.quantile(along, [0.0, 0.1, 0.9, 1.0])
        widths = (0.1 * mask.sum() / (edges[1] - edges[0]), 0.1 * mask.sum() / (edges[3] - edges[2]))
        ratios.append(min(widths) / max(widths))
    assert np.quantile(ratios, 0.1) > 0.3
    assert np.median(ratios) < 0.75
