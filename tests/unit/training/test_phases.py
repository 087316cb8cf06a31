"""What one step of each phase computes, and what it trains."""

import itertools

import numpy as np
import pytest
import torch
from networks import kaiming

from ndpnet.config import LossConfig, load_params
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


def make_task(phase: int, vgg: VGGFeatures | None, **changes: float) -> Phase1 | Phase2:
    network, losses = make_network(), make_losses(**changes)
    if phase == 1:
        return Phase1(network, vgg, losses).train()
    settle_encoder(network)
    network.set_reference(make_batch().clean[:1])
    return Phase2(network, vgg, losses).train()


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
    task = make_task(phase, make_vgg())
    task(make_batch(3))["loss"].backward()
    for name, parameter in task.named_parameters():
        assert parameter.requires_grad == (part_of(name) in trained), name
        if part_of(name) not in trained:
            assert parameter.grad is None, name
            continue
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert {part_of(name) for name, _ in task.named_parameters()} == {"encoder", "decoder", "attention", "segmentation"}


@pytest.mark.parametrize("has_vgg", [True, False])
@pytest.mark.parametrize("phase", [1, 2])
def test_the_loss_is_the_weighted_sum_of_its_terms(phase: int, has_vgg: bool) -> None:
    names = {1: {"reconstruction", "defect_perception"}, 2: {"reconstruction", "feature_repair", "segmentation"}}[phase]
    names |= {"perceptual"} if has_vgg else set()
    weights = {name: float(number) for number, name in enumerate(sorted(names), start=2)}
    task = make_task(phase, make_vgg() if has_vgg else None, **{f"{name}_weight": weights[name] for name in names})
    terms = task(make_batch(3))
    loss = terms.pop("loss")
    assert set(terms) == names
    torch.testing.assert_close(loss, sum(weights[name] * term for name, term in terms.items()))


def test_phase_two_trains_a_network_that_phase_one_had() -> None:
    network = make_network()
    Phase1(network, None, make_losses())
    assert not any(parameter.requires_grad for parameter in network.attention.parameters())
    Phase2(network, None, make_losses())
    trained = (network.attention, network.decoder, network.segmentation)
    assert all(parameter.requires_grad for part in trained for parameter in part.parameters())
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())
