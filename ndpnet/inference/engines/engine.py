"""The engine of torch, and that of exported graphs."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ndpnet.model import Network
from ndpnet.model.patch_bank import PatchBank
from ndpnet.synthesis.compose import to_unit

OUTPUTS = MAP, RECONSTRUCTION = "anomaly_map", "reconstruction"  # of a graph
RunGraph = Callable[[np.ndarray, str], np.ndarray]  # uint8 (1, H, W, 3) and the name of an output -> that output


class TorchEngine:
    """The network as it is, on any device, for uint8 (B, H, W, 3). has_filters: of whole pictures, not of tiles."""

    def __init__(self, network: Network, device: torch.device, *, has_filters: bool = True) -> None:
        self.network, self.device, self.has_filters = network, device, has_filters
        for bank in network.modules():
            if isinstance(bank, PatchBank):
                bank.freeze()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Anomaly maps, of tiles before their filters: these are blended first. -> float32 (B, H, W) in [0, 1]."""
        return self._run(partial(self.network.mark, has_filters=self.has_filters), images)[:, 0]

    def rebuild(self, images: np.ndarray) -> np.ndarray:
        """The reconstructions. -> float32 (B, 3, H, W) in [0, 1]."""
        return self._run(lambda batch: self.network.predict(batch, has_filters=False)[1], images)

    @torch.inference_mode()
    def _run(self, compute: Callable[[torch.Tensor], torch.Tensor], images: np.ndarray) -> np.ndarray:
        batch = to_unit(torch.from_numpy(images).to(self.device))
        return compute(batch.contiguous(memory_format=torch.channels_last)).cpu().numpy()


class GraphEngine:
    """An exported graph; its export chose whether the maps are filtered."""

    def __init__(self, run: RunGraph) -> None:
        self.run = run

    def predict(self, images: np.ndarray) -> np.ndarray:
        """As `TorchEngine`, of one image."""
        return self.run(images, MAP)

    def rebuild(self, images: np.ndarray) -> np.ndarray:
        """As `TorchEngine`, of one image."""
        return self.run(images, RECONSTRUCTION)


Engine = TorchEngine | GraphEngine
