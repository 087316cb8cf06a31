"""Other maps from the same trained network: those that `model.anomaly_map` can choose, MSFR and SSIM (Table VI).

And `lines_alone`, of the picture alone: what `line_gap` must beat to be worth a training.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ndpnet.benchmark.variants import OWN
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.inspector import Inspector
from ndpnet.model import NDPNet
from ndpnet.model.gaps import line_gap
from ndpnet.model.network import has_filters
from ndpnet.model.segmentation import NUM_SCALES, filter_map

SSIM_SIGMA, SSIM_WINDOW = 1.5, 11  # Wang et al. 2004
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

Scoring = Callable[[NDPNet, torch.Tensor, torch.Tensor], torch.Tensor]  # network, input, reconstruction -> map


def feature_residual(network: NDPNet, image: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """MSFR: squared differences of the features of layers 1-3, each a mean over channels, up-sampled and summed.

    (B, 3, H, W) twice -> (B, 1, H, W)
    """
    total = image.new_zeros(())
    seen, rebuilt = (network.encoder(picture, num_layers=NUM_SCALES) for picture in (image, reconstruction))
    for of_input, of_rebuilt in zip(seen, rebuilt, strict=True):
        distance = (of_input - of_rebuilt).square().mean(dim=1, keepdim=True)
        total = total + F.interpolate(distance, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return total


def structural_difference(_: NDPNet, image: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """1 - SSIM of Gaussian windows of 11 pixels, mean over colours. (B, 3, H, W) twice -> (B, 1, H, W)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=image.dtype, device=image.device) - SSIM_WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()

    def blur(values: torch.Tensor) -> torch.Tensor:
        padded = F.pad(values, (SSIM_WINDOW // 2,) * 4, mode="reflect")
        kernel = weights.expand(values.shape[1], 1, 1, -1)
        rows = F.conv2d(padded, kernel, groups=values.shape[1])
        return F.conv2d(rows, kernel.transpose(2, 3), groups=values.shape[1])

    mean_x, mean_y = blur(image), blur(reconstruction)
    var_x = blur(image.square()) - mean_x.square()
    var_y = blur(reconstruction.square()) - mean_y.square()
    covariance = blur(image * reconstruction) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x.square() + mean_y.square() + SSIM_C1)
    contrast = (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)
    return 1 - (luminance * contrast).mean(dim=1, keepdim=True)


def lines_of_picture(network: NDPNet, image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Strengths of lines in the picture itself: `line_gap` to a flat grey. (B, 3, H, W) twice -> (B, 1, H, W)."""
    return line_gap(image, torch.full_like(image, 0.5), network.lines)


LINES_ALONE = "lines_alone"
MAPS: dict[str, Scoring] = {
    "msfr": feature_residual,
    "ssim": structural_difference,
    LINES_ALONE: lines_of_picture,
}


class ScoringEngine(TorchEngine):
    """The trained network with another way from input and reconstruction to the map; filters only of differences."""

    def __init__(self, network: NDPNet, device: torch.device, scoring: str, *, is_tiled: bool) -> None:
        super().__init__(network, device, has_filters=scoring != LINES_ALONE and not is_tiled)
        self.map_of = MAPS[scoring]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._run(self._map, images)[:, 0]

    def _map(self, image: torch.Tensor) -> torch.Tensor:
        anomaly_map = self.map_of(self.network, image, self.network(image).reconstruction)
        return filter_map(anomaly_map) if self.has_filters else anomaly_map


def open_scored(inspector: Inspector, scoring: str) -> Inspector:
    """The inspector whose maps are made by `scoring`; without a threshold where that is not the model's own."""
    if scoring == OWN:
        return inspector
    network, device, tiling = inspector.engine.network, inspector.engine.device, inspector.tiling
    if scoring in MAPS:
        engine: TorchEngine = ScoringEngine(network, device, scoring, is_tiled=tiling is not None)
    else:
        network = copy.copy(network)
        network.anomaly_map = scoring
        engine = TorchEngine(network, device, has_filters=tiling is None)
    if tiling is not None:
        tiling = replace(tiling, has_filters=scoring != LINES_ALONE and has_filters(scoring))
    scored = Inspector(engine, roi=inspector.roi, **inspector.sizes | {"tiling": tiling})
    scored.package = inspector.package
    return scored
