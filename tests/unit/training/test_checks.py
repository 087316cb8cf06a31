"""A part that does nothing is named, one that does something is not."""

import numpy as np
import pytest
import torch

from ndpnet.model import NDPNet, PretrainedNDPNet
from ndpnet.synthesis.compose import Batch
from ndpnet.training.checks import check_parts

SIZE = 64


@pytest.fixture
def batches() -> list[Batch]:
    """One clean surface, again and again; half of the pictures carry a bright square."""
    rng = np.random.default_rng(0)
    clean = torch.from_numpy(rng.uniform(0.3, 0.5, (1, 3, SIZE, SIZE))).float().repeat(4, 1, 1, 1)
    mask = torch.zeros(4, 1, SIZE, SIZE)
    mask[::2, :, 16:40, 20:44] = 1
    return [Batch(clean, clean * (1 - mask) + mask, mask, torch.arange(4))] * 2


@pytest.fixture
def network(batches: list[Batch]) -> NDPNet:
    """Untrained, but that the repair is sharp, and the decoder paints the mean grey."""
    torch.manual_seed(0)
    network = NDPNet(base_width=4, ffm_channels=4, softmax_scale=1000.0, segmentation_input="concat_difference").eval()
    network.set_reference(batches[0].clean[:1])
    with torch.no_grad():
        network.decoder.to_image.weight.zero_()
        network.decoder.to_image.bias.fill_(float(torch.logit(torch.tensor(0.4))))
    return network


def take_branch(network: NDPNet, index: int) -> None:
    """Make every FFM answer with one of the features and their repairs."""
    with torch.no_grad():
        for attention in network.attention:
            for number, layer in enumerate(attention.fusion.branch_logits):
                layer.weight.zero_()
                layer.bias.fill_(50.0 if number == index else 0.0)


def see(network: NDPNet, part: int) -> None:
    """Make each map the sum of what its head gets: 0: features of the input, 1: of the reconstruction, 2: their gap."""
    with torch.no_grad():
        for head in network.segmentation.heads:
            (first, _, _, second, _, _), to_logit = head
            for convolution in (first, second):
                convolution.weight.zero_()
            width = first.out_channels
            first.weight[:, part * width : (part + 1) * width, 1, 1] = torch.eye(width)
            second.weight[:, :, 1, 1] = torch.eye(width)
            to_logit.weight.fill_(1.0)


def names(idle: list[str]) -> list[str]:
    return [sentence.split()[1] for sentence in idle]


def test_a_grey_reconstruction_is_no_better_than_the_mean_picture(network: NDPNet, batches: list[Batch]) -> None:
    checks = check_parts(network, batches, torch.full((3, SIZE, SIZE), 0.4))
    values = checks["values"]["reconstruction"]
    assert values["with"] == pytest.approx(values["without"], rel=1e-4)
    assert values["without"] == pytest.approx(0.2**2 / 12, rel=0.05)  # of a uniform distribution
    assert "reconstruction" in names(checks["idle"])
    worse = check_parts(network, batches, torch.full((3, SIZE, SIZE), 0.5))
    assert "reconstruction" not in names(worse["idle"])


def test_a_repair_that_lets_the_input_through_does_nothing(network: NDPNet, batches: list[Batch]) -> None:
    picture = torch.full((3, SIZE, SIZE), 0.4)
    take_branch(network, 0)
    idle = check_parts(network, batches, picture)
    assert idle["values"]["repair"]["with"] == pytest.approx(idle["values"]["repair"]["without"], rel=1e-5)
    assert "repair" in names(idle["idle"])
    take_branch(network, 1)  # patches of the very surface
    busy = check_parts(network, batches, picture)
    assert busy["values"]["repair"]["without"] == idle["values"]["repair"]["without"]
    assert busy["values"]["repair"]["with"] < 0.9 * busy["values"]["repair"]["without"]
    assert "repair" not in names(busy["idle"])


def test_a_map_that_does_not_look_at_the_reconstruction(network: NDPNet, batches: list[Batch]) -> None:
    picture = torch.full((3, SIZE, SIZE), 0.4)
    see(network, 2)
    looks = check_parts(network, batches, picture)
    assert looks["values"]["map"]["without"] == pytest.approx(0.5)  # the input differs from itself nowhere
    assert looks["values"]["map"]["with"] < 0.3
    assert "map" not in names(looks["idle"])
    see(network, 0)
    blind = check_parts(network, batches, picture)
    assert blind["values"]["map"]["with"] == blind["values"]["map"]["without"]
    assert "map" in names(blind["idle"])


def test_without_a_repair_none_is_missed(batches: list[Batch]) -> None:
    network = NDPNet(base_width=4, ffm_channels=4, patch_sizes=())
    assert set(check_parts(network, batches, batches[0].clean[0])["values"]) == {"reconstruction", "map"}


def test_behind_a_frozen_encoder_artificial_defects_do_not_judge_the_comparison(batches: list[Batch]) -> None:
    network = PretrainedNDPNet(encoder="tf_efficientnet_lite0", bank_size=64, head_channels=8)
    assert set(check_parts(network, batches, batches[0].clean[0])["values"]) == {"reconstruction"}
