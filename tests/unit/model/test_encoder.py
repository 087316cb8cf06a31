"""Encoder, decoder and their block: sizes, widths and what reaches what."""

import pytest
import torch
import torch.nn.functional as F

from ndpnet.model.decoder import doubled
from ndpnet.model.layers import make_norm


@pytest.mark.parametrize(("num_channels", "num_groups"), [(4, 4), (8, 8), (12, 4), (20, 4), (64, 8)])
def test_groups_divide_the_channels(num_channels: int, num_groups: int) -> None:
    norm = make_norm("group", num_channels)
    assert norm.num_groups == num_groups
    assert norm(torch.ones(1, num_channels, 2, 2)).shape == (1, num_channels, 2, 2)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4)])
def test_what_a_gpu_takes_for_it_has_the_same_values_and_gradient(shape: tuple[int, ...]) -> None:
    feats = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = F.interpolate(feats, scale_factor=2, mode="bilinear", align_corners=False)
    upsampled = doubled(doubled(feats, dim=2), dim=3)
    torch.testing.assert_close(upsampled, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad(each, feats, weights)[0] for each in (upsampled, expected)]
    torch.testing.assert_close(*gradients)
