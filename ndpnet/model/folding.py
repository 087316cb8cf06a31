"""The same functions with less work, for networks that are not trained: folded norms, padding without a copy."""

from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norms(network: Module, kinds: tuple[type[nn.Module], ...] = (nn.Sequential,)) -> Module:
    """The same function with fewer operations, to rounding. In place, for good: `network` must be in eval mode.

    kinds: modules that apply their children in turn, as a Sequential does.
    """
    assert not network.training, "statistics of a batch cannot be folded"
    for block in list(network.modules()):
        if isinstance(block, kinds):
            _fold_pairs(block)
    return network


def _fold_pairs(block: nn.Module) -> None:
    for (name, convolution), (next_name, norm) in pairwise(list(block.named_children())):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(block, name, fuse_conv_bn_eval(convolution, norm))
            setattr(block, next_name, getattr(norm, "act", nn.Identity()))  # timm's norms have their activation inside


class PaddedConv2d(nn.Conv2d):
    """TensorFlow's padding "same" at stride 2, of even sides: one pixel less at the top and left than at the others.

    The kernel gets a row and a column of zeros instead, since torch pads all sides alike, and a copy costs more.
    """

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, out_channels, H/2, W/2)."""
        kernel = F.pad(self.weight, (1, 0, 1, 0))
        return F.conv2d(feats, kernel, self.bias, stride=2, padding=self.kernel_size[0] // 2, groups=self.groups)


def pad_without_copies(network: Module) -> Module:
    """The same function for sides that stay even, with the same state dict. In place: timm pads by copies."""
    from timm.layers.conv2d_same import Conv2dSame

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv2dSame) and _halves(child):
                setattr(parent, name, _padded(child))
    return network


def _halves(convolution: nn.Conv2d) -> bool:
    side, other = convolution.kernel_size
    return side == other and side in (3, 5, 7) and convolution.stride == (2, 2) and convolution.dilation == (1, 1)


def _padded(convolution: nn.Conv2d) -> PaddedConv2d:
    channels, groups = (convolution.in_channels, convolution.out_channels), convolution.groups
    has_bias = convolution.bias is not None
    padded = PaddedConv2d(*channels, convolution.kernel_size[0], groups=groups, bias=has_bias)
    padded.weight, padded.bias = convolution.weight, convolution.bias
    return padded
