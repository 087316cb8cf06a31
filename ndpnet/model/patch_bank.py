"""Reference attention over many good pictures: RBFRM (Eq. 3-5) with K = 1, at the sharp end of its softmax."""

from collections.abc import Callable
from math import gcd

import torch
import torch.nn.functional as F
from torch import nn

NO_GROUP = -1
Seen = Callable[[torch.Tensor], torch.Tensor]
BLOCK = 128  # patches, at most, whose largest product is looked for at once
PRODUCTS_AT_ONCE = 2**19  # of positions and patches: more would not fit into a cache
FAR = 1e9  # finite: infinity times one plus something else is no number
ALIKE, MAX_ALIKE = 8, 512  # one place in so many of a picture, and at most so many, stand for good surface as the bank
BESIDE = 4  # places nearer than this to each other, down and across, share what they are computed from


class PatchBank(nn.Module):
    """Patches of good pictures; repair replaces every position of a feature map by the patch that is nearest to it.

    seen: (..., C) -> (..., C), as what patches are compared; without it as they are.
    """

    frozen: torch.Tensor | None

    def __init__(self, *, num_channels: int, num_patches: int, seen: Seen | None = None) -> None:
        super().__init__()
        self.seen = seen or nn.Identity()
        self.patches = nn.Buffer(torch.zeros(num_patches, num_channels))
        self.groups = nn.Buffer(torch.full((num_patches,), NO_GROUP))  # of the pictures they are from
        self.register_buffer("frozen", None, persistent=False)

    def freeze(self) -> None:
        """Prepare the search once and for all: the patches must not change any more."""
        self.frozen = self._weights()

    def forward(self, feats: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Repaired features. feats: (B, C, h, w) -> (B, C, h, w).

        groups: (B,), in training: a picture is not repaired by patches of its own group, which it would find again.
        """
        # fp32: in half precision many patches are equally near
        with torch.autocast(feats.device.type, enabled=False):
            return self._repair(feats.float(), groups)

    def _repair(self, feats: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        B, C, H, W = feats.shape
        queries = self.seen(feats.permute(0, 2, 3, 1).reshape(B, H * W, C))
        weights = self._weights() if self.frozen is None else self.frozen
        added = [queries, torch.ones_like(queries[..., :1])]
        if torch.compiler.is_exporting():  # half precision tells numbers near 0 apart: less q.q/2 they are -|q - p|^2/2
            added += [queries.square().sum(dim=2, keepdim=True)]
            weights = torch.cat([weights, torch.full_like(weights[:, :1], -0.5)], dim=1)
        queries = torch.cat(added, dim=2)  # (B, h*w, C + 1), in a graph C + 2
        if groups is None:
            nearest = _nearest(queries, weights)  # (B, h*w)
        else:
            pairs = zip(queries.split(1), groups, strict=True)
            nearest = torch.cat([_nearest(own, self._without(group, weights)) for own, group in pairs])
        return self.patches[nearest].reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, h*w, C) -> (B, C, h, w)

    def _weights(self) -> torch.Tensor:
        """Of the search: the nearest patch p of a query q is the one with the largest q.p - p.p/2. -> (R, C + 1)."""
        keys = self.seen(self.patches)
        return torch.cat([keys, -0.5 * keys.square().sum(dim=1, keepdim=True)], dim=1)

    def _without(self, group: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        is_own = self.groups.eq(group)
        if is_own.all():
            return weights
        return torch.cat([weights[:, :-1], weights[:, -1:].masked_fill(is_own[:, None], -FAR)], dim=1)


def _nearest(queries: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Indices of patches, by the largest products. queries: (B, N, K), weights: (R, K) -> (B, N)."""
    count = max(1, PRODUCTS_AT_ONCE // len(weights))
    return torch.cat([largest(part @ weights.T) for part in queries.split(count, dim=1)], dim=1)


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
        return values.max(dim=-1).indices  # the first of equals, as of argmax, in half its time
    count = values.shape[-1]
    is_largest = values >= values.amax(dim=-1, keepdim=True)
    return torch.where(is_largest, torch.arange(count, device=values.device), count - 1).amin(dim=-1)


def repair_by_itself(feats: torch.Tensor, repaired: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    """Take a place of the picture itself, like the bank and not beside, where it is nearer than what the bank has.

    Good surface of another lot is like the rest of its own picture. usual: the surprise up to which a place is like the
    bank, so that a picture of something else has none. (B, C, h, w) twice, () -> (B, C, h, w)
    """
    C, H, W = feats.shape[1:]
    own, known = (maps.flatten(2).transpose(1, 2) for maps in (feats, repaired))  # (B, C, h, w) -> (B, N, C)
    count = min(H * W // ALIKE, MAX_ALIKE)
    gaps, alike = surprise(feats, repaired).flatten(1).topk(count, largest=False, sorted=False)  # (B, K)
    keys = own.gather(1, alike[..., None].expand(-1, -1, C))  # (B, K, C)
    scores = 2 * own @ keys.transpose(1, 2) - keys.square().sum(dim=2)[:, None]  # (B, N, K), q.q - |q - k|^2
    scores = scores.masked_fill(_is_beside(alike, H, W) | (gaps > usual)[:, None], -FAR)
    index = largest(scores)[..., None]  # (B, N, 1)
    nearest = keys.gather(1, index.expand(-1, -1, C))  # (B, N, C)
    # not by the scores: half precision has no digits left of their difference to q.q
    is_nearer = (own - nearest).square().sum(dim=2) < (own - known).square().sum(dim=2)
    is_nearer = is_nearer[..., None] & (scores.gather(2, index) > -FAR)  # else there is none
    return torch.where(is_nearer, nearest, known).transpose(1, 2).reshape(feats.shape)


def _is_beside(places: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Which of a map's places are beside these. (B, K), by rows -> bool (B, N, K)."""
    rows, columns = (torch.arange(side, device=places.device) for side in (height, width))
    down = (rows[:, None] - places[:, None] // width).abs() < BESIDE  # (B, h, K)
    across = (columns[:, None] - places[:, None] % width).abs() < BESIDE  # (B, w, K)
    return (down[:, :, None] & across[:, None]).flatten(1, 2)  # (B, h, w, K) -> (B, N, K)


def surprise(feats: torch.Tensor, repaired: torch.Tensor) -> torch.Tensor:
    """Distance to the repaired features, relative to how strong the features are. (B, C, h, w) twice -> (B, 1, h, w).

    Where the texture is strong, good features lie far apart, too: the plain distance ranks these first.
    """
    strength = feats.square().sum(dim=1, keepdim=True) + feats.shape[1]
    return ((feats - repaired).square().sum(dim=1, keepdim=True) / strength).sqrt()
