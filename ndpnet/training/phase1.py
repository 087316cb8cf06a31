"""What one step of phase 1 computes: encoder and decoder learn to rebuild and to perceive (Eq. 12-14)."""

import torch

from ndpnet.config import LossConfig
from ndpnet.losses import defect_perception_loss, reconstruction_loss
from ndpnet.model import NDPNet
from ndpnet.perceptual import VGGFeatures
from ndpnet.synthesis.compose import Batch
from ndpnet.training.task import PhaseTask


class Phase1(PhaseTask):
    """Maps a batch to its loss terms; trains encoder and decoder, leaves the rest alone."""

    network: NDPNet

    def __init__(self, network: NDPNet, vgg: VGGFeatures | None, losses: LossConfig) -> None:
        super().__init__(network, vgg, losses)
        network.attention.requires_grad_(False)
        network.segmentation.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss terms and their weighted sum `loss` (Eq. 14), scalars."""
        # one pass over [I_o; I_ad]: separate ones would have other BatchNorm statistics
        features = self.network.encoder(torch.cat([batch.clean, batch.defective]))
        clean, defective = zip(*(feats.chunk(2) for feats in features), strict=True)
        reconstruction = self.network.rebuild(clean)
        terms = {
            "reconstruction": reconstruction_loss(reconstruction, batch.clean),
            "defect_perception": defect_perception_loss(clean, defective, batch.mask),
        }
        return self.weighted(terms | self.perceptual(reconstruction, batch.clean))
