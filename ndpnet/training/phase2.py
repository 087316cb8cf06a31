"""What one step of phase 2 computes: attention, decoder and segmentation learn behind a frozen encoder (Eq. 15-17)."""

import torch

from ndpnet.config import LossConfig
from ndpnet.losses import feature_repair_loss, reconstruction_loss, segmentation_loss
from ndpnet.model import NDPNet
from ndpnet.model.network import FIRST_REPAIRED
from ndpnet.perceptual import VGGFeatures
from ndpnet.synthesis.compose import Batch
from ndpnet.training.task import PhaseTask


class Phase2(PhaseTask):
    """Maps a batch to its loss terms; trains attention, decoder and segmentation. The reference must be set."""

    network: NDPNet

    def __init__(self, network: NDPNet, vgg: VGGFeatures | None, losses: LossConfig) -> None:
        super().__init__(network, vgg, losses)
        network.requires_grad_(True)  # phase 1 froze parts of a network it had
        network.encoder.freeze()

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss terms and their weighted sum `loss` (Eq. 17), scalars."""
        with torch.no_grad():  # both inputs in one pass: a frozen encoder has no batch statistics
            features = self.network.encoder(torch.cat([batch.defective, batch.clean]))
        defective, clean = zip(*(feats.chunk(2) for feats in features), strict=True)
        output = self.network(batch.defective, features=defective)
        terms = {
            "reconstruction": reconstruction_loss(output.reconstruction, batch.clean),
            "feature_repair": feature_repair_loss(
                output.repaired, clean[FIRST_REPAIRED:], is_relative=self.losses.feature_repair_relative
            ),
            "segmentation": segmentation_loss(
                output.logits, batch.mask, gamma=self.losses.focal_gamma, alpha=self.losses.focal_alpha
            ),
        }
        return self.weighted(terms | self.perceptual(output.reconstruction, batch.clean))
