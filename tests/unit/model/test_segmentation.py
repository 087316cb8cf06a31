"""MSDSM's heads, the blend of three scales, and the two filters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import uniform
from scipy import ndimage

from ndpnet.model.segmentation import MultiScaleSegmentation, blend_scales, compare, filter_map


@pytest.mark.parametrize("compared_as", ["concat", "concat_difference", "product"])
def test_every_comparison_teaches_the_reconstruction(compared_as: str) -> None:
    torch.manual_seed(0)
    segmentation = MultiScaleSegmentation(base_width=4, compared_as=compared_as)
    seen = [uniform(2, width, size, size) for width, size in ((4, 16), (8, 8), (16, 4))]
    rebuilt = [uniform(*feats.shape, seed=9).requires_grad_() for feats in seen]
    sum(logit.sum() for logit in segmentation(seen, rebuilt)).backward()
    assert all(feats.grad.abs().sum() > 0 for feats in rebuilt)
    for head, first, second in zip(segmentation.heads, seen, rebuilt, strict=True):
        assert head[0][0].in_channels == compare(first, second, compared_as).shape[1]


def test_maps_are_upsampled_bilinearly_after_the_sigmoid() -> None:
    logits = [4 * uniform(1, 1, 16 // factor, 8 // factor, seed=factor) - 2 for factor in (1, 2, 4)]
    fine, middle, coarse = (F.interpolate(torch.sigmoid(each), (16, 8), mode="bilinear") for each in logits)
    torch.testing.assert_close(blend_scales(logits), 0.2 * fine + 0.2 * middle + 0.6 * coarse, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(9, 7), (16, 23), (5, 5)])
def test_filters_are_a_mean_and_a_median_with_nearest_borders(shape: tuple[int, int]) -> None:
    anomaly_map = uniform(2, 1, *shape, seed=shape[0])
    filtered = filter_map(anomaly_map)
    assert filtered.shape == anomaly_map.shape
    for image in range(2):
        mean = ndimage.uniform_filter(anomaly_map[image, 0].double().numpy(), 5, mode="nearest")
        expected = ndimage.median_filter(mean, 5, mode="nearest")
        np.testing.assert_allclose(filtered[image, 0].numpy(), expected, atol=1e-6)
