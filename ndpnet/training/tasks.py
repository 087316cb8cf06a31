"""What one step of each phase computes: a network with its losses, behind the paper's encoder or a frozen one."""

from collections.abc import Iterable

import torch
from torch import nn

from ndpnet.config import LossConfig
from ndpnet.losses import (
    defect_perception_loss,
    feature_repair_loss,
    perceptual_loss,
    reconstruction_loss,
    segmentation_loss,
)
from ndpnet.model import NDPNet, Network, PretrainedNDPNet
from ndpnet.model.network import FIRST_REPAIRED
from ndpnet.perceptual import VGGFeatures
from ndpnet.synthesis.compose import Batch


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


class PretrainedPhase1(PhaseTask):
    """Trains the decoder to rebuild good pictures (Eq. 12-14 without L_def_per: the encoder is not trained)."""

    network: PretrainedNDPNet

    def __init__(self, network: PretrainedNDPNet, vgg: VGGFeatures | None, losses: LossConfig) -> None:
        super().__init__(network, vgg, losses)
        network.segmentation.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss terms and their weighted sum `loss`, scalars."""
        with torch.no_grad():
            features = encode(self.network, batch.clean)
        reconstruction = self.network.rebuild(features)
        terms = {"reconstruction": reconstruction_loss(reconstruction, batch.clean)}
        return self.weighted(terms | self.perceptual(reconstruction, batch.clean))


class PretrainedPhase2(PhaseTask):
    """Trains the joint segmentation (Eq. 10): the bank repairs without being trained, the decoder is phase 1's."""

    network: PretrainedNDPNet

    def __init__(self, network: PretrainedNDPNet, _vgg: VGGFeatures | None, losses: LossConfig) -> None:
        super().__init__(network, None, losses)
        network.segmentation.requires_grad_(True)
        network.decoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "PretrainedPhase2":
        """The decoder stays in eval mode."""
        super().train(mode)
        self.network.decoder.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss terms and their weighted sum `loss`, scalars."""
        network = self.network
        with torch.no_grad():
            features = encode(network, batch.defective)
            repaired = network.repair(features, network.picture_groups[batch.image])
        logit = network.logit(features, repaired)
        focal = {"gamma": self.losses.focal_gamma, "alpha": self.losses.focal_alpha}
        terms = {"segmentation": segmentation_loss([logit], batch.mask, **focal)}
        return self.weighted(terms)


def encode(network: PretrainedNDPNet, image: torch.Tensor) -> list[torch.Tensor]:
    """The encoder's features; on a CPU picture by picture: a cache holds those of one. image: (B, 3, H, W)."""
    if image.device.type != "cpu":
        return network.encoder(image)
    return [torch.cat(level) for level in zip(*map(network.encoder, image.split(1)), strict=True)]


@torch.no_grad()
def settle_statistics(task: nn.Module, batches: Iterable[Batch]) -> None:
    """Make BatchNorm's running statistics the means over `batches`, but for a frozen encoder's; ends in eval mode.

    What a training leaves in them is of weights that it has left behind, and of none at all in averaged ones.
    """
    task.train()
    norms = [module for module in task.modules() if isinstance(module, nn.BatchNorm2d) and module.training]
    if not norms:
        task.eval()
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
    for batch in batches:
        task(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    task.eval()
