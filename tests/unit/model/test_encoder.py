"""Encoder, decoder and their block: sizes, widths and what reaches what."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.decoder import Decoder, doubled, upsample
from ndpnet.model.encoder import Encoder, layer_channels
from ndpnet.model.layers import make_norm


def random_image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def rescaled(network: nn.Module) -> nn.Module:
    """Weights with which activations keep their size: the default ones let an untrained network fade out."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network.eval()


def test_widths_are_those_of_the_method() -> None:
    assert layer_channels(64) == (64, 128, 256, 512, 512)
    convs = [layer for layer in Encoder(base_width=8).modules() if isinstance(layer, nn.Conv2d)]
    widths = [(conv.in_channels, conv.out_channels) for conv in convs]
    assert widths == [(3, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 64)]
    assert {conv.kernel_size for conv in convs} == {(3, 3)}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_layer_one_has_full_resolution_and_each_next_one_half(norm: str) -> None:
    encoder = Encoder(base_width=4, norm=norm)
    features = encoder(random_image(2, 3, 64, 128))
    expected = [(2, 4, 64, 128), (2, 8, 32, 64), (2, 16, 16, 32), (2, 32, 8, 16), (2, 32, 4, 8)]
    assert [tuple(feats.shape) for feats in features] == expected
    assert all((feats >= 0).all() for feats in features)


@pytest.mark.parametrize(("num_channels", "num_groups"), [(4, 4), (8, 8), (12, 4), (20, 4), (64, 8)])
def test_groups_divide_the_channels(num_channels: int, num_groups: int) -> None:
    norm = make_norm("group", num_channels)
    assert norm.num_groups == num_groups
    assert norm(torch.ones(1, num_channels, 2, 2)).shape == (1, num_channels, 2, 2)


def test_upsampling_is_bilinear_between_pixel_centres() -> None:
    feats = torch.tensor([[[[0.0, 4.0]]]])
    expected = torch.tensor([[[[0.0, 1.0, 3.0, 4.0], [0.0, 1.0, 3.0, 4.0]]]])
    torch.testing.assert_close(upsample(feats), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4)])
def test_what_a_gpu_takes_for_it_has_the_same_values_and_gradient(shape: tuple[int, ...]) -> None:
    feats = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = F.interpolate(feats, scale_factor=2, mode="bilinear", align_corners=False)
    upsampled = doubled(doubled(feats, dim=2), dim=3)
    torch.testing.assert_close(upsampled, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad(each, feats, weights)[0] for each in (upsampled, expected)]
    torch.testing.assert_close(*gradients)


def test_the_decoder_is_a_chain_of_blocks_and_concatenations() -> None:
    torch.manual_seed(0)
    decoder = rescaled(Decoder(base_width=4))
    feats3, feats4, feats5 = random_image(1, 16, 16, 16), random_image(1, 32, 8, 8), random_image(1, 32, 4, 4)
    x = decoder.block4(torch.cat([upsample(feats5), feats4], dim=1))
    assert x.shape == (1, 32, 8, 8)
    x = decoder.block3(torch.cat([upsample(x), feats3], dim=1))
    assert x.shape == (1, 16, 16, 16)
    x = decoder.block1(upsample(decoder.block2(upsample(x))))
    assert x.shape == (1, 4, 64, 64)
    torch.testing.assert_close(decoder([feats3, feats4, feats5]), torch.sigmoid(decoder.to_image(x)))
