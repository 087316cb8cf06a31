"""What encoder, decoder, segmentation and maps share: a block of convolutions, a local mean."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def local_mean(feats: torch.Tensor, size: int) -> torch.Tensor:
    """Mean of each size x size window, borders replicated; size odd. (B, C, H, W) -> (B, C, H, W).

    By a convolution: average pooling takes two to four times as long on a CPU.
    """
    channels = feats.shape[1]
    window = feats.new_full((channels, 1, size, size), 1 / size**2)
    return F.conv2d(F.pad(feats, (size // 2,) * 4, mode="replicate"), window, groups=channels)


def make_norm(norm: str, num_channels: int) -> nn.Module:
    """Normalisation layer: `batch`, or `group` (up to 8 groups) where every process must see the same statistics."""
    if norm == "batch":
        return nn.BatchNorm2d(num_channels)
    assert norm == "group", norm
    return nn.GroupNorm(math.gcd(8, num_channels), num_channels)


class ConvBlock(nn.Sequential):
    """Two conv3x3-norm-ReLU. (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    is_frozen = False  # once set: the statistics of BatchNorm are fixed, and need no pass over the features
    is_recomputed = False  # once set: the backward pass computes the block again instead of keeping what is inside

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        """Features, >= 0."""
        if not self.is_recomputed or not torch.is_grad_enabled():
            return self._compute(feats)
        return checkpoint(
            self._compute, feats, use_reentrant=False, preserve_rng_state=False, context_fn=self._second_time
        )

    def _compute(self, feats: torch.Tensor) -> torch.Tensor:
        if not self.is_frozen or not isinstance(self[1], nn.BatchNorm2d):
            for layer in self:
                feats = layer(feats)
            return feats
        for convolution, norm in ((self[0], self[1]), (self[3], self[4])):
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            # into the weights anew each time: they are few, and may have been loaded or moved since
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            bias = norm.bias - scale * norm.running_mean
            feats = F.relu_(F.conv2d(feats, convolution.weight * scale[:, None, None, None], bias, padding=1))
        return feats

    def _second_time(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._statistics_kept()

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """The same batch must not count twice in the running statistics."""
        norms = [norm for norm in (self[1], self[4]) if isinstance(norm, nn.BatchNorm2d)]
        saved = [dict(norm.named_buffers()) for norm in norms]
        try:
            for norm in norms:
                for name, buffer in norm.named_buffers():
                    setattr(norm, name, buffer.clone())
            yield
        finally:
            for norm, buffers in zip(norms, saved, strict=True):
                for name, buffer in buffers.items():
                    setattr(norm, name, buffer)


def conv_block(in_channels: int, out_channels: int, norm: str) -> ConvBlock:
    """An untrained block; `norm` as in `make_norm`."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
        ]
    return ConvBlock(*layers)
