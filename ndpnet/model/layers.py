"""The one building block that encoder, decoder and segmentation heads share."""

import math

from torch import nn


def make_norm(norm: str, num_channels: int) -> nn.Module:
    """Normalisation layer: `batch`, or `group` (up to 8 groups) where every process must see the same statistics."""
    if norm == "batch":
        return nn.BatchNorm2d(num_channels)
    assert norm == "group", norm
    return nn.GroupNorm(math.gcd(8, num_channels), num_channels)


def conv_block(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    """Two conv3x3-norm-ReLU. (B, in_channels, H, W) -> (B, out_channels, H, W)."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
