"""Encoder, decoder and their block: sizes, widths and what reaches what."""

import pytest
import torch
import torch.nn.functional as F
from networks import uniform

from ndpnet.model.decoder import doubled
from ndpnet.model.encoder import Encoder
from ndpnet.model.layers import make_norm


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_layer_one_has_full_resolution_and_each_next_one_half(norm: str) -> None:
    encoder = Encoder(base_width=4, norm=norm)
    features = encoder(uniform(2, 3, 64, 128))
    expected = [(2, 4, 64, 128), (2, 8, 32, 64), (2, 16, 16, 32), (2, 32, 8, 16), (2, 32, 4, 8)]
    assert [tuple(feats.shape) for feats in features] == expected
    assert all((feats >= 0).all() for feats in features)


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
