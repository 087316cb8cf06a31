"""What one step of each phase computes, and what it trains."""

import itertools

import numpy as np
import pytest
import torch
from networks import kaiming

from ndpnet.config import LossConfig, load_params
from ndpnet.losses import (
    defect_perception_loss,
    feature_repair_loss,
    perceptual_loss,
    reconstruction_loss,
    segmentation_loss,
)
from ndpnet.model import NDPNet
from ndpnet.perceptual import VGGFeatures
from ndpnet.synthesis.compose import Batch
from ndpnet.training.phase1 import Phase1
from ndpnet.training.phase2 import Phase2

SIZE = 64


def make_losses(**changes: float) -> LossConfig:
    return load_params().losses.model_copy(update=changes)


def make_batch(count: int = 2) -> Batch:
    """Stripes with a bright square; the last of more than two images has no defect."""
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    clean = torch.zeros(count, 3, SIZE, SIZE)
    mask = torch.zeros(count, 1, SIZE, SIZE)
    for index in range(count):
        stripes = 0.5 + 0.2 * np.sin((rows + (index + 1) * columns) / 5)
        clean[index] = torch.from_numpy(stripes)
        mask[index, 0, 10 + 8 * index : 26 + 8 * index, 20:40] = index < 2
    return Batch(clean, clean * (1 - mask) + 0.95 * mask, mask, torch.arange(count))


def make_vgg() -> VGGFeatures:
    """Five random convolutions, narrow ones."""
    generator = torch.Generator().manual_seed(5)
    widths = (3, 4, 4, 6, 6, 8)
    convolutions = [
        (torch.randn(wide, narrow, 3, 3, generator=generator) / 6, torch.zeros(wide))
        for narrow, wide in itertools.pairwise(widths)
    ]
    return VGGFeatures(convolutions, (torch.eye(3)[:, :, None, None], torch.zeros(3)))


def make_network() -> NDPNet:
    torch.manual_seed(0)
    return kaiming(NDPNet(base_width=4, ffm_channels=4))


def make_phase2(vgg: VGGFeatures | None = None, **changes: float) -> Phase2:
    network = make_network()
    settle_encoder(network)
    network.set_reference(make_batch().clean[:1])
    return Phase2(network, vgg, make_losses(**changes)).train()


def settle_encoder(network: NDPNet) -> None:
    """Give the encoder statistics of the data, as phase 1 does."""
    network.train()
    with torch.no_grad():
        for _ in range(40):
            network.encoder(make_batch().clean)


def part_of(name: str) -> str:
    return name.split(".")[1]  # network.encoder.layers...


@pytest.mark.parametrize(
    ("phase", "trained"), [(1, {"encoder", "decoder"}), (2, {"attention", "decoder", "segmentation"})]
)
def test_gradients_reach_what_is_trained_and_nothing_else(phase: int, trained: set[str]) -> None:
    task = make_phase2(make_vgg()) if phase == 2 else Phase1(make_network(), make_vgg(), make_losses()).train()
    task(make_batch(3))["loss"].backward()
    for name, parameter in task.named_parameters():
        assert parameter.requires_grad == (part_of(name) in trained), name
        if part_of(name) not in trained:
            assert parameter.grad is None, name
            continue
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert {part_of(name) for name, _ in task.named_parameters()} == {"encoder", "decoder", "attention", "segmentation"}


def test_phase_one_is_eq_12_to_14() -> None:
    vgg, batch = make_vgg(), make_batch(3)
    weights = {"reconstruction_weight": 70.0, "perceptual_weight": 3.0, "defect_perception_weight": 0.5}
    task = Phase1(make_network(), vgg, make_losses(**weights)).train()
    terms = task(batch)
    network = make_network().train()
    features = network.encoder(torch.cat([batch.clean, batch.defective]))  # one pass, one set of statistics
    clean, defective = [feats[:3] for feats in features], [feats[3:] for feats in features]
    rebuilt = network.decoder(clean[2:])
    expected = {
        "reconstruction": reconstruction_loss(rebuilt, batch.clean),
        "perceptual": perceptual_loss(vgg(rebuilt), vgg(batch.clean)),
        "defect_perception": defect_perception_loss(clean, defective, batch.mask),
    }
    assert set(terms) == {"loss", *expected}
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term)
    total = 70 * terms["reconstruction"] + 3 * terms["perceptual"] + 0.5 * terms["defect_perception"]
    torch.testing.assert_close(terms["loss"], total)


def test_phase_two_is_eq_15_to_17() -> None:
    vgg, batch = make_vgg(), make_batch(3)
    weights = {"feature_repair_weight": 2.0, "segmentation_weight": 5.0, "focal_gamma": 1.5, "focal_alpha": 0.4}
    task = make_phase2(vgg, **weights)
    network = task.network
    terms = task(batch)
    output = network(batch.defective)
    clean = network.encoder(batch.clean)
    expected = {
        "reconstruction": reconstruction_loss(output.reconstruction, batch.clean),
        "perceptual": perceptual_loss(vgg(output.reconstruction), vgg(batch.clean)),
        "feature_repair": feature_repair_loss(output.repaired, clean[2:]),
        "segmentation": segmentation_loss(output.logits, batch.mask, gamma=1.5, alpha=0.4),
    }
    assert set(terms) == {"loss", *expected}
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term)
    total = 100 * terms["reconstruction"] + terms["perceptual"] + 2 * terms["feature_repair"]
    torch.testing.assert_close(terms["loss"], total + 5 * terms["segmentation"])


def test_without_vgg_there_is_no_perceptual_term() -> None:
    batch = make_batch()
    first = Phase1(make_network(), None, make_losses())(batch)
    second = make_phase2()(batch)
    assert set(first) == {"loss", "reconstruction", "defect_perception"}
    assert set(second) == {"loss", "reconstruction", "feature_repair", "segmentation"}
    torch.testing.assert_close(first["loss"], 100 * first["reconstruction"] + first["defect_perception"])


def test_phase_two_trains_a_network_that_phase_one_had() -> None:
    network = make_network()
    Phase1(network, None, make_losses())
    assert not any(parameter.requires_grad for parameter in network.attention.parameters())
    Phase2(network, None, make_losses())
    trained = (network.attention, network.decoder, network.segmentation)
    assert all(parameter.requires_grad for part in trained for parameter in part.parameters())
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())
