"""Reference attention over many good pictures: RBFRM (Eq. 3-5) with K = 1, at the sharp end of its softmax."""

from collections.abc import Callable
from math import gcd

import torch
import torch.nn.functional as F
from torch import nn

NO_GROUP = -1
Seen = Callable[[torch.Tensor], torch.Tensor]
BLOCK = 128  # patches, at most, whose largest product is looked for at once
POSITIONS_AT_ONCE = 128
FAR = 1e9  # finite: infinity times one plus something else is no number


class PatchBank(nn.Module):
    """Patches of good pictures; repair replaces every position of a feature map by the patch that is nearest to it."""

    patches: torch.Tensor
    groups: torch.Tensor

    def __init__(self, *, num_channels: int, num_patches: int) -> None:
        super().__init__()
        self.register_buffer("patches", torch.zeros(num_patches, num_channels))
        self.register_buffer("groups", torch.full((num_patches,), NO_GROUP))  # of the pictures they are from

    def forward(
        self, feats: torch.Tensor, groups: torch.Tensor | None = None, *, seen: Seen | None = None
    ) -> torch.Tensor:
        """Repaired features. feats: (B, C, h, w) -> (B, C, h, w).

        groups: (B,), in training: a picture is not repaired by patches of its own group, which it would find again.
        seen: (..., C) -> (..., C), as what patches are compared; without it as they are.
        """
        # fp32: in half precision many patches are equally near
        with torch.autocast(feats.device.type, enabled=False):
            return self._repair(feats.float(), groups, seen or torch.nn.Identity())

    def _repair(self, feats: torch.Tensor, groups: torch.Tensor | None, seen: Seen) -> torch.Tensor:
        B, C, H, W = feats.shape
        queries, keys = seen(feats.permute(0, 2, 3, 1).reshape(B, H * W, C)), seen(self.patches)
        queries = torch.cat([queries, torch.ones_like(queries[..., :1])], dim=2)  # (B, h*w, C + 1)
        penalty = 0.5 * keys.square().sum(dim=1)  # (R,): nearest is where q.p - p.p/2 is largest
        if groups is None:
            nearest = _nearest(queries, keys, penalty)  # (B, h*w)
        else:
            pairs = zip(queries.split(1), groups, strict=True)
            nearest = torch.cat([_nearest(own, keys, self._without(group, penalty)) for own, group in pairs])
        return self.patches[nearest].reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, h*w, C) -> (B, C, h, w)

    def _without(self, group: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        is_own = self.groups.eq(group)
        return penalty if is_own.all() else penalty.masked_fill(is_own, FAR)


def _nearest(queries: torch.Tensor, keys: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Indices of the keys. queries: (B, N, C + 1), the last one 1; keys: (R, C), penalty: (R,) -> (B, N)."""
    weights = torch.cat([keys, -penalty[:, None]], dim=1).T  # (C + 1, R)
    # a part of the positions at once: all products would not fit into a cache
    return torch.cat([largest(part @ weights) for part in queries.split(POSITIONS_AT_ONCE, dim=1)], dim=1)


def largest(scores: torch.Tensor) -> torch.Tensor:
    """As `argmax` over the last dimension, a multiple of 64, in a quarter of its time on a CPU. (..., R) -> (...)."""
    side = gcd(scores.shape[-1], BLOCK)
    blocks = scores.unflatten(-1, (-1, side))  # (..., R/side, side)
    block = _argmax(blocks.amax(dim=-1))  # (...)
    first = blocks.shape[-2] * torch.arange(block.numel(), device=block.device).reshape(block.shape)
    within = _argmax(F.embedding(first + block, blocks.flatten(0, -2)))
    return side * block + within


def _argmax(values: torch.Tensor) -> torch.Tensor:
    """Over the last dimension. An exported graph compares: the argmax of OpenVINO takes ten times as long."""
    if not torch.compiler.is_exporting():
        return values.argmax(dim=-1)
    count = values.shape[-1]
    is_largest = values >= values.amax(dim=-1, keepdim=True)
    return torch.where(is_largest, torch.arange(count, device=values.device), count - 1).amin(dim=-1)


def surprise(feats: torch.Tensor, repaired: torch.Tensor) -> torch.Tensor:
    """Distance to the repaired features, relative to how strong the features are. (B, C, h, w) twice -> (B, 1, h, w).

    Where the texture is strong, good features lie far apart, too: the plain distance ranks these first.
    """
    strength = feats.square().sum(dim=1, keepdim=True) + feats.shape[1]
    return ((feats - repaired).square().sum(dim=1, keepdim=True) / strength).sqrt()
