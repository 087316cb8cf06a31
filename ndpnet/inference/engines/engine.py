"""The interface of an engine, torch's, and the one of exported graphs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from ndpnet.model import Network
from ndpnet.synthesis.compose import to_unit

MapsAndReconstructions = tuple[np.ndarray, np.ndarray]  # float32 (B, H, W), float32 (B, 3, H, W), both in [0, 1]
RunGraph = Callable[[np.ndarray], Sequence[np.ndarray]]  # uint8 (1, H, W, 3) -> the graph's first two outputs


class Engine(Protocol):
    """Computes the network on batches of images, uint8 (B, H, W, 3)."""

    def predict(self, images: np.ndarray) -> MapsAndReconstructions:
        """Anomaly maps after their filters."""

    def predict_raw(self, images: np.ndarray) -> MapsAndReconstructions:
        """As `predict`, the maps before their filters: what maps of tiles are blended from."""


class TorchEngine:
    """The network as it is, on any device."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network, self.device = network, device

    def predict(self, images: np.ndarray) -> MapsAndReconstructions:
        """See `Engine`."""
        return self._run(self.network.predict, images)

    def predict_raw(self, images: np.ndarray) -> MapsAndReconstructions:
        """See `Engine`."""
        return self._run(self.network.predict_raw, images)

    @torch.inference_mode()
    def _run(
        self, predict: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], images: np.ndarray
    ) -> MapsAndReconstructions:
        batch = to_unit(torch.from_numpy(images).to(self.device))
        anomaly_maps, reconstructions = predict(batch.contiguous(memory_format=torch.channels_last))
        return anomaly_maps[:, 0].cpu().numpy(), reconstructions.cpu().numpy()


class GraphEngine:
    """An exported graph, which filters its maps or not as the package's data mode needs it."""

    def __init__(self, run: RunGraph, *, has_filters: bool) -> None:
        self.run, self.has_filters = run, has_filters

    def predict(self, images: np.ndarray) -> MapsAndReconstructions:
        """See `Engine`."""
        assert self.has_filters, "exported for tiles"
        return self._run(images)

    def predict_raw(self, images: np.ndarray) -> MapsAndReconstructions:
        """See `Engine`."""
        assert not self.has_filters, "exported for whole pictures"
        return self._run(images)

    def _run(self, images: np.ndarray) -> MapsAndReconstructions:
        # one by one: a graph of fixed size is faster, and no score depends on what else is in a batch
        outputs = [self.run(image[None]) for image in images]
        anomaly_maps, reconstructions = zip(*outputs, strict=True)
        return np.concatenate(anomaly_maps), np.concatenate(reconstructions)
