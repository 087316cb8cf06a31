"""Other maps from the same trained network: a frozen encoder's two, and pixel gap, MSFR and SSIM (Table VI).

And `line_gap`, along lines; and `lines_alone`, of the picture alone: what that must beat to be worth a training.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from ndpnet.benchmark.variants import OWN
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.inspector import Inspector
from ndpnet.model import NDPNet
from ndpnet.model.segmentation import NUM_SCALES, filter_map

NUM_DIRECTIONS, LINE_LENGTH = 12, 15  # of lines: 15 degrees apart, pixels

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
    """1 - SSIM of Gaussian windows (Wang et al. 2004), mean over colours. (1, 3, H, W) twice -> (1, 1, H, W)."""
    pictures = (picture[0].permute(1, 2, 0).cpu().numpy() for picture in (image, reconstruction))
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1.0}
    _, similarity = structural_similarity(*pictures, channel_axis=2, full=True, **options)
    return torch.from_numpy(1 - similarity.mean(axis=2))[None, None]


def pixel_gap(_: NDPNet, image: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Mean over colours of the squared difference. (B, 3, H, W) twice -> (B, 1, H, W)."""
    return (image - reconstruction).square().mean(dim=1, keepdim=True)


def line_gap(_: NDPNet, image: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Difference averaged along a line through the pixel, root mean square over colours, of the direction with most.

    The surface's grain, up and down from pixel to pixel, averages out; a crack, dark all along, does not. What the
    whole image differs by is the lamp's or the decoder's, no defect: each colour's mean is taken off. Beyond the paper.
    (B, 3, H, W) twice -> (B, 1, H, W) in [0, 1], borders replicated.
    """
    difference = image - reconstruction
    difference = difference - difference.mean(dim=(2, 3), keepdim=True)
    padded = F.pad(difference, (LINE_LENGTH // 2,) * 4, mode="replicate")
    lines = line_kernels().to(image.device)
    means = F.conv2d(padded.flatten(0, 1).unsqueeze(1), lines)  # (B, C, H', W') -> (B*C, 1, H', W') -> (B*C, 12, H, W)
    strengths = means.unflatten(0, image.shape[:2]).square().mean(dim=1)  # -> (B, 12, H, W)
    return strengths.amax(dim=1, keepdim=True).sqrt().clamp(max=1)


@cache
def line_kernels() -> torch.Tensor:
    """Lines through the middle, in every direction, each with the sum 1. -> (12, 1, LINE_LENGTH, LINE_LENGTH)."""
    middle = LINE_LENGTH // 2
    kernels = torch.zeros(NUM_DIRECTIONS, 1, LINE_LENGTH, LINE_LENGTH)
    for direction, kernel in enumerate(kernels[:, 0]):
        angle = math.pi * direction / NUM_DIRECTIONS
        for step in range(-4 * middle, 4 * middle + 1):  # in quarters of a pixel: a line has no holes
            # rounded first: whether a half goes up or down must not depend on the last bit of a cosine
            row, column = (round(round(step / 4 * part, 6)) for part in (math.sin(angle), math.cos(angle)))
            kernel[middle + row, middle + column] = 1
    return kernels / kernels.sum(dim=(2, 3), keepdim=True)


def lines_of_picture(network: NDPNet, image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Strengths of lines in the picture itself: `line_gap` to a flat grey. (B, 3, H, W) twice -> (B, 1, H, W)."""
    return line_gap(network, image, torch.full_like(image, 0.5))


MAPS: dict[str, Scoring] = {
    "pixel_gap": pixel_gap,
    "msfr": feature_residual,
    "ssim": structural_difference,
    "line_gap": line_gap,
    "lines_alone": lines_of_picture,
}
UNFILTERED = ("line_gap", "lines_alone")  # the lines have smoothed them


class ScoringEngine(TorchEngine):
    """The trained network with another way from input and reconstruction to the map."""

    def __init__(self, network: NDPNet, device: torch.device, scoring: str, *, is_tiled: bool) -> None:
        super().__init__(network, device, has_filters=scoring not in UNFILTERED and not is_tiled)
        self.map_of = MAPS[scoring]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """As `TorchEngine`."""
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
    scored = Inspector.of(inspector.opened_package, engine, roi=inspector.roi)
    if tiling is not None and scoring in UNFILTERED:
        scored.tiling = replace(tiling, has_filters=False)
    scored.package = inspector.package
    return scored
