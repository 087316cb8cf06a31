"""What the loop runs: a network with the losses of one phase."""

import torch
from torch import nn

from ndpnet.config import LossConfig
from ndpnet.losses import perceptual_loss
from ndpnet.model import Network
from ndpnet.perceptual import VGGFeatures


class PhaseTask(nn.Module):
    """Maps a batch to loss terms and their weighted sum `loss`; a subclass trains parts of the network."""

    def __init__(self, network: Network, vgg: VGGFeatures | None, losses: LossConfig) -> None:
        super().__init__()
        self.network, self.vgg, self.losses = network, vgg, losses

    def weighted(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loss terms, scalars, and their weighted sum `loss` (Eq. 14, 17)."""
        first, *others = (getattr(self.losses, f"{name}_weight") * term for name, term in terms.items())
        return {"loss": sum(others, first)} | terms

    def perceptual(self, reconstruction: torch.Tensor, clean: torch.Tensor) -> dict[str, torch.Tensor]:
        """The perceptual term, if there is a VGG; the target's maps need no gradient. (B, 3, H, W) twice."""
        if self.vgg is None:
            return {}
        with torch.no_grad():
            target_maps = self.vgg(clean)
        return {"perceptual": perceptual_loss(self.vgg(reconstruction), target_maps)}
