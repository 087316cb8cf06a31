"""Choosing the fixed defect-free reference image(s), from training images alone."""

import numpy as np
import torch

from ndpnet.model import Network
from ndpnet.synthesis.compose import to_unit


def choose_references(images: np.ndarray, network: Network, *, method: str, count: int) -> list[int]:
    """Indices of the reference images. images: uint8 (N, H, W, 3). ValueError if there are fewer than `count`.

    `first`: the first ones. `medoid`: the image whose features are nearest to the mean; further ones are each
    farthest from those already chosen (greedy k-centre), so that they spread over the surface's variation.
    """
    if count > len(images):
        raise ValueError(f"model.num_references is {count}, but there are {len(images)} training images")
    if method == "first":
        return list(range(count))
    features = _pooled_features(images, network)  # (N, C)
    chosen = [int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())]
    nearest = np.full(len(images), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return chosen


@torch.inference_mode()
def _pooled_features(images: np.ndarray, network: Network) -> np.ndarray:
    """Means over positions of what is repaired, each channel scaled to unit spread. -> float64 (N, channels)."""
    network.eval()
    device = next(network.parameters()).device
    rows = []
    for image in images:
        batch = to_unit(torch.from_numpy(image[None].copy()).to(device))
        features = network.repairable(network.encoder(batch))
        rows.append(torch.cat([feats.mean(dim=(2, 3))[0] for feats in features]).double().cpu().numpy())
    pooled = np.stack(rows)
    return pooled / (pooled.std(axis=0) + 1e-12)
