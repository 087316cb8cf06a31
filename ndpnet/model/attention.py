"""Reference-based attention: repair features with those of a defect-free image (RBFRM, FFM, RBAM; Eq. 3-8)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.layers import make_norm

MAX_QUERIES = 4096  # patches at once: the weights of all patches of a large picture would not fit into memory


def to_patches(feats: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut into non-overlapping K x K patches (Eq. 3). feats: (B, C, H, W) -> (B, N, C*K*K), N = H/K * W/K."""
    B, C, H, W = feats.shape
    K = patch_size
    assert H % K == W % K == 0, f"{H}x{W} features are no multiple of the patch size {K}"
    patches = feats.reshape(B, C, H // K, K, W // K, K)  # (B, C, H, W) -> (B, C, H/K, K, W/K, K)
    patches = patches.permute(0, 2, 4, 1, 3, 5)  # -> (B, H/K, W/K, C, K, K)
    return patches.reshape(B, (H // K) * (W // K), C * K * K)  # -> (B, N, C*K*K)


def from_patches(patches: torch.Tensor, patch_size: int, height: int, width: int) -> torch.Tensor:
    """Fold patches back, the inverse of `to_patches`. patches: (B, N, C*K*K) -> (B, C, height, width)."""
    B, _, D = patches.shape
    K = patch_size
    C = D // (K * K)
    feats = patches.reshape(B, height // K, width // K, C, K, K)  # (B, N, C*K*K) -> (B, H/K, W/K, C, K, K)
    feats = feats.permute(0, 1, 4, 2, 5, 3)  # -> (B, H/K, K, W/K, K, C): channels last in memory
    return feats.reshape(B, height, width, C).permute(0, 3, 1, 2)  # -> (B, C, H, W)


class ReferenceRepair(nn.Module):
    """RBFRM for one patch size: every patch becomes a weighted sum of reference patches (Eq. 3-5).

    Keys and values come from `set_reference` and never change afterwards: F_ref is fixed once phase 1 is over.
    """

    def __init__(self, *, patch_size: int, softmax_scale: float = 1.0) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.softmax_scale = softmax_scale
        # not in the state dict: they are a function of the reference image and the encoder
        self.register_buffer("keys", torch.empty(0), persistent=False)
        self.register_buffer("values", torch.empty(0), persistent=False)

    def set_reference(self, reference_feats: torch.Tensor) -> None:
        """Take the patches of the reference features. reference_feats: (R, C, h, w), R reference images."""
        patches = to_patches(reference_feats.float(), self.patch_size)
        self.values = patches.flatten(0, 1)  # (R, N, D) -> (R*N, D)
        self.keys = F.normalize(self.values, dim=-1)

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        """Repaired features F_repK. feats: (B, C, H, W) -> (B, C, H, W)."""
        assert self.keys.numel(), "set_reference comes before the first forward"
        H, W = feats.shape[-2:]
        # fp32: the cosine underflows in half precision
        with torch.autocast(feats.device.type, enabled=False):
            patches = to_patches(feats.float(), self.patch_size)
            chunks = [self._repair(chunk) for chunk in patches.split(MAX_QUERIES, dim=1)]
            repaired = chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)
        return from_patches(repaired, self.patch_size, H, W)

    def _repair(self, patches: torch.Tensor) -> torch.Tensor:
        """Weighted sums of the reference patches. (B, n, D) -> (B, n, D)."""
        queries = F.normalize(patches, dim=-1)
        weights = torch.softmax(self.softmax_scale * (queries @ self.keys.T), dim=-1)  # (B, n, R*N) (Eq. 4)
        return weights @ self.values  # (Eq. 5)


class FeatureFusion(nn.Module):
    """FFM: a softmax across the branches F, F_rep2, F_rep4, at every position and channel (Eq. 6-8).

    norm: as in `make_norm`, with a ReLU between the two convolutions, as in SKNet; None: neither.
    """

    def __init__(
        self,
        *,
        num_channels: int,
        num_branches: int,
        hidden_channels: int = 64,
        kernel_size: int = 5,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        squeeze = nn.Conv2d(num_channels, hidden_channels, kernel_size, padding=padding)
        norms = [] if norm is None else [make_norm(norm, hidden_channels), nn.ReLU(inplace=True)]
        self.squeeze = nn.Sequential(squeeze, *norms) if norms else squeeze
        self.branch_logits = nn.ModuleList(
            nn.Conv2d(hidden_channels, num_channels, kernel_size, padding=padding) for _ in range(num_branches)
        )

    def forward(self, branches: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fused features F_out. branches: num_branches x (B, C, H, W) -> (B, C, H, W)."""
        # channels last all through: (B, C, H, W) -> (B, H, W, branches, C)
        united = torch.stack([branch.permute(0, 2, 3, 1) for branch in branches], dim=3)
        hidden = self.squeeze(united.sum(dim=3).permute(0, 3, 1, 2))  # F_U (Eq. 6)
        weights = torch.softmax(self._logits(hidden), dim=3)
        return (weights * united).sum(dim=3).permute(0, 3, 1, 2)  # (Eq. 7-8)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits less the last branch's: the softmax sees differences alone. -> (B, H, W, branches, C)."""
        *others, last = (branch for branch in self.branch_logits if isinstance(branch, nn.Conv2d))
        if not others:
            return last(hidden).permute(0, 2, 3, 1).unsqueeze(3)
        weight = torch.cat([branch.weight - last.weight for branch in others])
        assert last.bias is not None
        bias = torch.cat([branch.bias - last.bias for branch in others if branch.bias is not None])
        relative = F.conv2d(hidden, weight, bias, padding=last.padding)  # (B, (branches-1)*C, H, W)
        relative = relative.permute(0, 2, 3, 1).unflatten(3, (len(others), -1))  # -> (B, H, W, branches-1, C)
        return F.pad(relative, (0, 0, 0, 1))


class ReferenceAttention(nn.Module):
    """RBAM: RBFRM for every patch size, then FFM over the features and their repairs; fusion: its own parameters."""

    def __init__(
        self,
        *,
        num_channels: int,
        patch_sizes: Sequence[int] = (2, 4),
        softmax_scale: float = 1.0,
        **fusion: Any,
    ) -> None:
        super().__init__()
        self.repairs = nn.ModuleList(
            ReferenceRepair(patch_size=size, softmax_scale=softmax_scale) for size in patch_sizes
        )
        self.fusion = FeatureFusion(num_channels=num_channels, num_branches=1 + len(patch_sizes), **fusion)

    def set_reference(self, reference_feats: torch.Tensor) -> None:
        """Fix the reference patches. reference_feats: (R, C, h, w)."""
        for repair in self.repairs:
            assert isinstance(repair, ReferenceRepair)
            repair.set_reference(reference_feats)

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        """Repaired and fused features F_out. feats: (B, C, H, W) -> (B, C, H, W)."""
        return self.fusion([feats, *(repair(feats) for repair in self.repairs)])
