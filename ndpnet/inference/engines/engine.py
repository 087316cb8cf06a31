"""The engine of torch, and that of exported graphs."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ndpnet.inference.engines.runtimes import GraphEngine
from ndpnet.model import Network
from ndpnet.model.patch_bank import PatchBank
from ndpnet.synthesis.compose import to_unit


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


Engine = TorchEngine | GraphEngine
