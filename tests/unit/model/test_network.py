"""The whole network: sides of multiples of 64, a frozen encoder that stays frozen, and a reference that is fixed."""

import pytest
import torch
import torch.nn.functional as F
from networks import kaiming, uniform

from ndpnet.model import NDPNet
from ndpnet.model.decoder import doubled


def make_network(**settings: object) -> NDPNet:
    torch.manual_seed(0)
    network = kaiming(NDPNet(**{"base_width": 4, "ffm_channels": 4, **settings}).eval())
    network.set_reference(uniform(1, 3, 64, 64, seed=1))
    return network


@torch.no_grad()
def test_references_of_other_sizes_and_any_number() -> None:
    network, image = make_network(), uniform(1, 3, 64, 64)
    one = network(image).reconstruction
    network.set_reference(uniform(1, 3, 128, 192, seed=2))  # layer 5 has 8 x 12 positions
    assert [tuple(repair.values.shape) for repair in network.attention[2].repairs] == [(24, 128), (6, 512)]
    assert (network(image).reconstruction - one).abs().max() > 0.01
    network.set_reference(uniform(3, 3, 64, 64, seed=3))
    assert [tuple(repair.values.shape) for repair in network.attention[2].repairs] == [(12, 128), (3, 512)]
    # twice the same picture weighs every patch alike: nothing changes
    network.set_reference(uniform(1, 3, 64, 64, seed=1).expand(2, -1, -1, -1))
    torch.testing.assert_close(network(image).reconstruction, one)


def test_the_reference_leaves_modes_and_statistics_alone() -> None:
    network = make_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.set_reference(uniform(1, 3, 64, 64, seed=5))
    assert network.encoder.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    in_eval = network.eval().encoder(uniform(1, 3, 64, 64, seed=5))[4]
    torch.testing.assert_close(network.attention[2].repairs[0].values.sum(), in_eval.sum())


def test_a_frozen_encoder_stays_frozen_through_train() -> None:
    network = make_network()
    network.encoder.freeze()
    for _ in range(2):
        network.train()
        assert not any(module.training for module in network.encoder.modules())
        assert network.decoder.training
        assert network.segmentation.training
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network(uniform(2, 3, 64, 64)).reconstruction.mean().backward()
    assert all(torch.equal(before[name], value) for name, value in network.encoder.state_dict().items())


@torch.no_grad()
def test_patch_sizes_and_kernel_are_choices() -> None:
    network = make_network(patch_sizes=(), ffm_kernel=3, norm="group", base_width=12)
    assert network.predict(uniform(1, 3, 64, 64))[0].shape == (1, 1, 64, 64)
    features = network.encoder(uniform(1, 3, 64, 64))
    # no repair: the softmax of one branch is 1, the features pass
    torch.testing.assert_close(network.attention[0](features[2]), features[2])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4)])
def test_what_a_gpu_takes_for_it_has_the_same_values_and_gradient(shape: tuple[int, ...]) -> None:
    feats = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = F.interpolate(feats, scale_factor=2, mode="bilinear", align_corners=False)
    upsampled = doubled(doubled(feats, dim=2), dim=3)
    torch.testing.assert_close(upsampled, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad(each, feats, weights)[0] for each in (upsampled, expected)]
    torch.testing.assert_close(*gradients)
