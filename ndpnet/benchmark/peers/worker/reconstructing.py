"""GANomaly and DRAEM, which reconstruct pictures, and SuperSimpleNet: all three need made-up defects or none."""

from pathlib import Path

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from anomalib.data.utils.image import pad_nextpow2
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, DraemModel, ReconstructiveSubNetwork
from anomalib.models.image.ganomaly.loss import DiscriminatorLoss, GeneratorLoss
from anomalib.models.image.ganomaly.torch_model import GanomalyModel
from anomalib.models.image.supersimplenet.loss import SSNLoss
from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel
from torch import Tensor

from worker.backbones import give_weights, without_weights
from worker.peer import Inputs, SteppedPeer
from worker.pictures import HALVES, PLAIN
from worker.sources import find_sources


class Ganomaly(SteppedPeer):
    """Encoder, decoder, encoder against a discriminator; the score is how far the two codes are apart."""

    scaling = HALVES  # the generator ends in tanh
    map_source = "mean over channels of |picture - reconstruction|: the model has none of its own"

    def build(self) -> None:
        """Anomalib's model."""
        side = 1 << (self.settings.image_size - 1).bit_length()
        self.model = GanomalyModel(
            input_size=(side, side),
            num_input_channels=3,
            n_features=self.settings.used_width,
            latent_vec_size=100,
        )
        self.generator_loss, self.discriminator_loss = GeneratorLoss(), DiscriminatorLoss()

    def start(self, train: Inputs, num_steps: int) -> None:
        """Two Adams."""
        parts = (self.model.generator, self.model.discriminator)
        self.optimisers = [torch.optim.Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999)) for part in parts]

    def step(self, images: Tensor) -> float:
        """One step of the generator, then one of the discriminator. -> the generator's loss."""
        of_generator, of_discriminator = self.optimisers
        padded, fake, latent_i, latent_o = self.model(images)
        is_real, _ = self.model.discriminator(padded)
        is_fake, _ = self.model.discriminator(fake)
        loss = self.generator_loss(latent_i, latent_o, padded, fake, is_real, is_fake)
        of_generator.zero_grad()
        loss.backward(retain_graph=True)
        of_generator.step()
        is_fake, _ = self.model.discriminator(fake.detach())
        of_discriminator.zero_grad()
        self.discriminator_loss(is_real, is_fake).backward()
        of_discriminator.step()
        return loss.item()

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Judge pictures. images: (B, 3, S, S) -> scores (B,), maps (B, S, S)."""
        padded = pad_nextpow2(images)
        fake, latent_i, latent_o = self.model.generator(padded)
        scores = (latent_i - latent_o).square().mean(dim=1).flatten()
        start = -(-(padded.shape[-1] - images.shape[-1]) // 2)
        inner = slice(start, start + images.shape[-1])
        return scores, (padded - fake).abs().mean(dim=1)[:, inner, inner]


class Draem(SteppedPeer):
    """Repairs pictures with made-up defects and segments what it repaired."""

    scaling = PLAIN

    def build(self) -> None:
        """Anomalib's model; at another width both networks shrink alike."""
        self.model = DraemModel()
        width = self.settings.used_width
        if width != self.settings.published.width:
            self.model.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=width)
            self.model.discriminative_subnetwork = DiscriminativeSubNetwork(
                in_channels=6, out_channels=2, base_width=width // 2
            )
        self.loss = DraemLoss()

    def start(self, train: Inputs, num_steps: int) -> None:
        """Adam; the rate falls where anomalib has it fall, after 400 and 600 of 700 epochs."""
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        milestones = [num_steps * epochs // 700 for epochs in (400, 600)]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimiser, milestones, gamma=0.1)
        self.augmenter = PerlinAnomalyGenerator(blend_factor=(0.1, 1.0))
        # its own search has no order
        self.augmenter.anomaly_source_paths = find_sources(Path(self.settings.sources))

    def step(self, images: Tensor) -> float:
        """One step of both networks."""
        augmented, masks = self.augmenter(images)
        reconstruction, prediction = self.model(augmented)
        return self.descend(self.loss(images, reconstruction, masks, prediction))


class SuperSimpleNet(SteppedPeer):
    """Tells features from features with noise."""

    strides = (8, 16)

    def build(self) -> None:
        """Anomalib's model, unsupervised."""
        with without_weights():
            self.model = SupersimplenetModel(backbone=self.backbone.timm_name, layers=list(self.backbone.layers))
        self.has_trained_weights = give_weights(
            self.model.feature_extractor.feature_extractor,
            self.backbone.name,
            allow_untrained=self.settings.allow_untrained,
        )
        self.loss = SSNLoss()

    def start(self, train: Inputs, num_steps: int) -> None:
        """AdamW; the rate falls after 80 % and 90 % of the steps."""
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.model.adaptor.parameters(), "lr": 1e-4},
                {"params": self.model.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
            ]
        )
        milestones = [int(num_steps * share) for share in (0.8, 0.9)]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimiser, milestones, gamma=0.4)

    def step(self, images: Tensor) -> float:
        """One step of adaptor and heads."""
        maps, scores, masks, labels = self.model(images, labels=images.new_zeros(len(images)))
        return self.descend(self.loss(pred_map=maps, pred_score=scores, target_mask=masks, target_label=labels))
