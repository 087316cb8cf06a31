"""Folding changes how the network computes, not what."""

import pytest
import torch
from networks import kaiming
from torch import nn

from ndpnet.model import NDPNet
from ndpnet.model.folding import fold_batch_norms


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
