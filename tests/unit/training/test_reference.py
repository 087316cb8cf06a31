"""Choosing reference images: a function of training images alone."""

import numpy as np
import pytest
import torch

from ndpnet.model import NDPNet
from ndpnet.synthesis.compose import to_unit
from ndpnet.training.reference import choose_references

SIZE = 64


@pytest.fixture(scope="module")
def network() -> NDPNet:
    torch.manual_seed(0)
    return NDPNet(base_width=4, ffm_channels=4)


def surfaces(levels: list[int]) -> np.ndarray:
    """Noise of growing contrast: (N, S, S, 3)."""
    noise = np.random.default_rng(0).normal(size=(SIZE, SIZE, 3))
    return np.stack([np.clip(128 + level * noise, 0, 255).astype(np.uint8) for level in levels])


def transcribed_features(images: np.ndarray, network: NDPNet) -> np.ndarray:
    """Means of layers 3-5 over positions, each channel in units of its spread."""
    with torch.no_grad():
        features = network.eval().encoder(to_unit(torch.from_numpy(images)))[2:]
    pooled = torch.cat([feats.mean(dim=(2, 3)) for feats in features], dim=1).double().numpy()
    spread = pooled.std(axis=0)
    return pooled[:, spread > 0] / spread[spread > 0]


def test_first_is_the_first(network: NDPNet) -> None:
    images = surfaces([5, 10, 20, 40])
    assert choose_references(images, network, method="first", count=1) == [0]
    assert choose_references(images, network, method="first", count=3) == [0, 1, 2]


def test_the_medoid_is_nearest_to_the_mean(network: NDPNet) -> None:
    images = surfaces([2, 60, 30, 4, 5, 20])
    features = transcribed_features(images, network)
    nearest = np.linalg.norm(features - features.mean(axis=0), axis=1).argmin()
    assert choose_references(images, network, method="medoid", count=1) == [nearest]


def test_further_references_are_each_farthest_from_the_chosen(network: NDPNet) -> None:
    images = surfaces([2, 60, 30, 4, 5, 20, 90])
    features = transcribed_features(images, network)
    chosen = choose_references(images, network, method="medoid", count=4)
    assert len(set(chosen)) == 4
    for count in range(1, 4):
        distances = np.linalg.norm(features[:, None] - features[chosen[:count]], axis=-1).min(axis=1)
        assert distances[chosen[count]] == pytest.approx(distances.max())


def test_choosing_leaves_the_weights_and_statistics_alone(network: NDPNet) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    choose_references(surfaces([5, 10, 20]), network, method="medoid", count=1)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(value.is_inference() for value in network.state_dict().values())


def test_too_few_images_is_one_line(network: NDPNet) -> None:
    with pytest.raises(ValueError, match=r"^model.num_references is 3, but there are 2 training images$"):
        choose_references(surfaces([5, 10]), network, method="first", count=3)
