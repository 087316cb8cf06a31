"""One function per loss of the paper, named and numbered; squared norms are means over elements."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

MIN_MAX_EPS = 1e-6
VARIANCE_EPS = 1e-6


def resize_mask(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Max-pool a binary mask, so that a thin defect never disappears. mask: (B, 1, H, W) -> (B, 1, *size)."""
    return mask if mask.shape[-2:] == tuple(size) else F.adaptive_max_pool2d(mask, tuple(size))


def min_max(values: torch.Tensor) -> torch.Tensor:
    """N of Eq. 2: to [0, 1] per image. values: (B, 1, h, w) -> (B, 1, h, w)."""
    low = values.amin(dim=(1, 2, 3), keepdim=True)
    high = values.amax(dim=(1, 2, 3), keepdim=True)
    return (values - low) / (high - low + MIN_MAX_EPS)


def defect_perception_loss(
    clean_features: Sequence[torch.Tensor], defective_features: Sequence[torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    """L_def_per (Eq. 2), defect-free images left out. Features: L x (B, C_l, h, w), mask: (B, 1, H, W) -> scalar."""
    total = mask.new_zeros(())
    for clean, defective in zip(clean_features, defective_features, strict=True):
        distance = (clean.float() - defective.float()).square().mean(dim=1, keepdim=True)
        target = resize_mask(mask, distance.shape[-2:])
        per_image = (min_max(distance) - target).square().mean(dim=(1, 2, 3))
        has_defect = (target.amax(dim=(1, 2, 3)) > 0).float()
        total = total + (per_image * has_defect).sum()
    num_pairs = len(clean_features) * (mask.amax(dim=(1, 2, 3)) > 0).sum()
    return total / num_pairs.clamp(min=1)


def feature_repair_loss(
    repaired: Sequence[torch.Tensor], clean_features: Sequence[torch.Tensor], *, is_relative: bool = False
) -> torch.Tensor:
    """L_fea_rep (Eq. 9): 1/(l2-l1) * sum over layers l1..l2. Both: (l2-l1+1) x (B, C_l, h, w) -> scalar.

    is_relative: each layer divided by the variance of its clean features.
    """
    total = repaired[0].new_zeros((), dtype=torch.float32)
    for out, clean in zip(repaired, clean_features, strict=True):
        loss = F.mse_loss(out.float(), clean.float())
        total = total + (loss / (clean.float().var() + VARIANCE_EPS) if is_relative else loss)
    return total / (len(repaired) - 1)


def focal_loss(logits: torch.Tensor, target: torch.Tensor, *, gamma: float, alpha: float) -> torch.Tensor:
    """Binary focal loss in fp32, mean. logits, target: (B, 1, h, w) -> scalar; alpha weighs the defect class."""
    logits = logits.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = torch.sigmoid(logits)
    missed = target * (1 - probability) + (1 - target) * probability
    weight = target * alpha + (1 - target) * (1 - alpha)
    return (weight * missed**gamma * cross_entropy).mean()


def segmentation_loss(
    logits: Sequence[torch.Tensor], mask: torch.Tensor, *, gamma: float, alpha: float
) -> torch.Tensor:
    """L_seg (Eq. 10): mean focal loss over scales. logits: [(B, 1, H/2^(i-1), ...)], mask: (B, 1, H, W) -> scalar."""
    losses = [focal_loss(logit, resize_mask(mask, logit.shape[-2:]), gamma=gamma, alpha=alpha) for logit in logits]
    return torch.stack(losses).mean()


def reconstruction_loss(reconstruction: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Pixel MSE (Eq. 12, 15). Both: (B, 3, H, W) in [0, 1] -> scalar."""
    return F.mse_loss(reconstruction.float(), clean.float())


def perceptual_loss(maps: Sequence[torch.Tensor], target_maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """L_per (Eq. 13, 16): mean over the VGG maps of the L1 distance. Both: 5 x (B, C, h, w) -> scalar."""
    distances = [F.l1_loss(feats.float(), target.float()) for feats, target in zip(maps, target_maps, strict=True)]
    return torch.stack(distances).mean()
