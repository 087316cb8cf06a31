"""Random tensors by their seed, and weights with which an untrained network has something to say."""

import numpy as np
import torch
from torch import nn


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers in [0, 1)."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kaiming(network: nn.Module) -> nn.Module:
    """Activations keep their size: with the default weights an untrained network fades out."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


class Brightness:
    """An engine whose map is the picture's brightness."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) -> float32 (B, H, W)."""
        return images.mean(axis=3, dtype=np.float32) / 255
