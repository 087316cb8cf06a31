"""PaDiM and PatchCore: one pass over the training pictures, features remembered."""

import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

from worker.backbones import give_weights, without_weights
from worker.peer import Inputs, Peer

PADIM_FEATURES = {"resnet18": 100, "wide_resnet50_2": 550}  # kept of all channels, as in the paper
PADIM_DEFAULT_FEATURES = 100


class _BackbonePeer(Peer):
    def load_weights(self) -> None:
        self.has_trained_weights = give_weights(
            self.model.feature_extractor, self.backbone.name, allow_untrained=self.settings.allow_untrained
        )

    def remember(self, train: Inputs) -> None:
        self.model.train()
        with torch.inference_mode():
            for images in train.batches(self.settings.used_batch_size):
                self.model(images)


class Padim(_BackbonePeer):
    """A Gaussian of features at every position; distance by Mahalanobis."""

    strides = (4, 8, 16)

    def build(self) -> None:
        """Anomalib's model; the paper names how many features it keeps for two backbones only."""
        with without_weights():
            self.model = PadimModel(
                backbone=self.backbone.timm_name,
                layers=list(self.backbone.layers),
                pre_trained=False,
                n_features=PADIM_FEATURES.get(self.backbone.name, PADIM_DEFAULT_FEATURES),
            )
        self.load_weights()

    def fit(self, train: Inputs, validation: Inputs) -> int:
        """Fit the Gaussians."""
        del validation
        self.remember(train)
        with torch.inference_mode():
            self.model.fit()
        return 0


class Patchcore(_BackbonePeer):
    """A core set of training patches; distance to the nearest."""

    strides = (8, 16)

    def build(self) -> None:
        """Anomalib's model."""
        with without_weights():
            self.model = PatchcoreModel(
                backbone=self.backbone.timm_name, layers=list(self.backbone.layers), pre_trained=False
            )
        self.load_weights()

    def fit(self, train: Inputs, validation: Inputs) -> int:
        """Keep `coreset_ratio` of the patches."""
        del validation
        self.remember(train)
        with torch.inference_mode():
            patches = torch.vstack(self.model.embedding_store)
            self.model.embedding_store.clear()
            self.model.memory_bank = CoreSet(patches, self.settings.coreset_ratio).sample_coreset()
        return 0


class CoreSet(KCenterGreedy):
    """anomalib's choice of a core set with the distances as one product: the same patches in a quarter of the time.

    anomalib projects patches at random to the dimension that Johnson and Lindenstrauss ask for. Where that is no fewer
    than they have, their own distances are taken.
    """

    def __init__(self, patches: torch.Tensor, ratio: float) -> None:
        super().__init__(embedding=patches, sampling_ratio=ratio)
        num_wanted = self.model._johnson_lindenstrauss_min_dim(len(patches), eps=self.model.eps)
        if num_wanted >= patches.shape[1]:
            self.model = _NoProjection()
        self.square_norms: torch.Tensor | None = None

    def update_distances(self, cluster_center: torch.Tensor) -> None:
        """Lower the squared distance of each patch to its nearest centre. min_distances: (N, 1)."""
        if self.square_norms is None:
            self.square_norms = self.features.square().sum(dim=1)
        center = self.features[cluster_center].reshape(-1)
        distances = torch.addmv(self.square_norms, self.features, center, alpha=-2) + center.square().sum()
        distances = distances.clamp_(min=0)[:, None]
        known = self.min_distances
        self.min_distances = distances if known is None else torch.minimum(known, distances, out=known)


class _NoProjection:
    def fit(self, patches: torch.Tensor) -> None:
        pass

    def transform(self, patches: torch.Tensor) -> torch.Tensor:
        return patches
