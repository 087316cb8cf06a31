"""Folding changes how the network computes, not what."""

import pytest
import torch
from networks import kaiming
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from ndpnet.model import NDPNet
from ndpnet.model.folding import PaddedConv2d, fold_batch_norms, pad_without_copies


def make_network(norm: str, *, ffm_norm: bool = False) -> NDPNet:
    """A network whose statistics are no longer those of a new one."""
    torch.manual_seed(0)
    network = kaiming(NDPNet(base_width=4, ffm_channels=4, norm=norm, ffm_norm=ffm_norm).eval())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    network.set_reference(torch.rand(1, 3, 64, 64))
    return network


@pytest.mark.parametrize(("ffm_norm", "num_norms"), [(False, 24), (True, 27)])
@torch.no_grad()
def test_the_map_stays_to_rounding_without_batch_norms(ffm_norm: bool, num_norms: int) -> None:
    network, image = make_network("batch", ffm_norm=ffm_norm), torch.rand(2, 3, 64, 128)
    expected = network.predict(image)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == num_norms
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for found, wanted in zip(folded.predict(image), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=5e-6, rtol=0)


@torch.no_grad()
def test_group_norms_stay_as_they_depend_on_the_image() -> None:
    network, image = make_network("group"), torch.rand(1, 3, 64, 64)
    expected, _ = network.predict(image)
    assert torch.equal(fold_batch_norms(network).predict(image)[0], expected)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@torch.no_grad()
def test_padding_without_a_copy_is_tensorflows(kernel_size: int, groups: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Conv2dSame(4, 8, kernel_size, stride=2, groups=groups))
    image, expected_state = torch.rand(2, 4, 16, 24), network.state_dict()
    expected = network(image)
    padded = pad_without_copies(network)
    assert isinstance(padded[0], PaddedConv2d)
    torch.testing.assert_close(padded(image), expected)
    assert padded.state_dict().keys() == expected_state.keys()
    assert all(torch.equal(padded.state_dict()[name], values) for name, values in expected_state.items())


@pytest.mark.parametrize(
    "options",
    [{"stride": 1}, {"stride": 2, "kernel_size": 1}, {"stride": 2, "kernel_size": 4}, {"stride": 2, "dilation": 2}],
)
def test_other_convolutions_pad_as_before(options: dict[str, int]) -> None:
    convolution = Conv2dSame(4, 8, **({"kernel_size": 3} | options))
    assert pad_without_copies(nn.Sequential(convolution))[0] is convolution
