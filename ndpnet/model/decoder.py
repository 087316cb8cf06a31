"""The decoder: rebuilds the clean surface from layers 3, 4 and 5; no skip from layers 1-2 around the repair."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.encoder import layer_channels
from ndpnet.model.layers import conv_block


def upsample(feats: torch.Tensor) -> torch.Tensor:
    """Bilinear, twice the size. (B, C, H, W) -> (B, C, 2H, 2W)."""
    if not (feats.is_cuda and feats.requires_grad):
        return F.interpolate(feats, scale_factor=2, mode="bilinear", align_corners=False)
    # on a GPU PyTorch's own gradient is not deterministic, or two thirds of a step
    rows = doubled(feats.permute(0, 2, 3, 1), dim=1)
    return doubled(rows, dim=2).permute(0, 3, 1, 2)


def doubled(values: torch.Tensor, *, dim: int) -> torch.Tensor:
    """Twice as many along a dimension, linear in between: a quarter of a neighbour, three of the nearest."""
    first, last = values.narrow(dim, 0, 1), values.narrow(dim, values.shape[dim] - 1, 1)
    before = torch.cat([first, values.narrow(dim, 0, values.shape[dim] - 1)], dim)
    after = torch.cat([values.narrow(dim, 1, values.shape[dim] - 1), last], dim)
    return torch.stack([values.lerp(before, 0.25), values.lerp(after, 0.25)], dim + 1).flatten(dim, dim + 1)


class Decoder(nn.Module):
    """Image in [0, 1] from the features of layers 3-5, which enter at their own scales."""

    def __init__(self, *, base_width: int, norm: str = "batch") -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = layer_channels(base_width)
        self.block4 = conv_block(c5 + c4, c4, norm)
        self.block3 = conv_block(c4 + c3, c3, norm)
        self.block2 = conv_block(c3, c2, norm)
        self.block1 = conv_block(c2, c1, norm)
        self.to_image = nn.Conv2d(c1, 3, 3, padding=1)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Reconstruction. features: layers 3, 4, 5, each (B, C_l, H/2^(l-1), W/2^(l-1)) -> (B, 3, H, W)."""
        feats3, feats4, feats5 = features
        x = self.block4(torch.cat([upsample(feats5), feats4], dim=1))
        x = self.block3(torch.cat([upsample(x), feats3], dim=1))
        x = self.block2(upsample(x))
        x = self.block1(upsample(x))
        return torch.sigmoid(self.to_image(x))
