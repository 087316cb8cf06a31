"""Normalisations folded into the convolutions before them: inference has fixed statistics, and need not apply them."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ndpnet.model.network import NDPNet


def fold_batch_norms(network: NDPNet) -> NDPNet:
    """The same function with fewer operations, to rounding. In place, for good: `network` must be in eval mode."""
    assert not network.training, "statistics of a batch cannot be folded"
    for block in list(network.modules()):
        if isinstance(block, nn.Sequential):
            _fold_pairs(block)
    return network


def _fold_pairs(block: nn.Sequential) -> None:
    for index in range(len(block) - 1):
        convolution, norm = block[index], block[index + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block[index], block[index + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
