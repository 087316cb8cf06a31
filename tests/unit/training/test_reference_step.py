"""A step of either phase against a plain transcription of the method: the same losses, the same gradients."""

import pytest
import torch
from scripts import load_script
from torch import nn

from ndpnet.config import load_params
from ndpnet.model.weights import make_network
from ndpnet.perceptual import VGGFeatures
from ndpnet.synthesis.compose import Batch
from ndpnet.training.tasks import Phase1, Phase2

SIZE = 64
WEIGHTS = {"reconstruction": 70.0, "perceptual": 3.0, "defect_perception": 0.5}
WEIGHTS |= {"feature_repair": 2.0, "segmentation": 5.0}
FOCAL = {"focal_gamma": 1.5, "focal_alpha": 0.4}
TRAINED = {1: ("encoder", "decoder"), 2: ("attention", "decoder", "segmentation")}


def make_batch() -> Batch:
    """Three noisy surfaces; a square defect in the first, a single pixel in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    clean, filling = torch.rand(2, 3, 3, SIZE, SIZE, generator=generator)
    mask = torch.zeros(3, 1, SIZE, SIZE)
    mask[0, 0, 10:30, 20:40] = 1
    mask[1, 0, 33, 5] = 1
    return Batch(clean, clean * (1 - mask) + filling * mask, mask, torch.arange(3))


@pytest.mark.parametrize("has_vgg", [True, False])
@pytest.mark.parametrize("phase", [1, 2])
def test_losses_and_gradients_are_those_of_the_plain_transcription(phase: int, has_vgg: bool) -> None:
    plain = load_script("benchmarks/reference_step.py")  # no part of the package
    params = load_params(profile="paper", overrides=["model.base_width=4", "model.ffm_channels=8"])
    changes = {f"{name}_weight": weight for name, weight in WEIGHTS.items()} | FOCAL
    losses = params.losses.model_copy(update=changes)
    torch.manual_seed(0)
    network, batch = make_network(params.model).double(), make_batch()
    batch = batch._replace(clean=batch.clean.double(), defective=batch.defective.double(), mask=batch.mask.double())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    plain_vgg = plain.PlainVGG().double().requires_grad_(False)
    plain_network = plain.PlainNetwork(4, 8).double()
    plain_network.load_state_dict(network.state_dict())
    plain_network.train()
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (plain.IMAGENET_MEAN, plain.IMAGENET_STD))
    convolutions = [(each.weight.data, each.bias.data) for each in plain_vgg.convolutions]
    vgg = VGGFeatures(convolutions, (torch.diag(1 / std)[:, :, None, None], -mean / std))
    vgg, plain_vgg = (vgg, plain_vgg) if has_vgg else (None, None)
    if phase == 1:
        expected = plain.phase1_terms(plain_network, plain_vgg, *batch[:3])
        terms = Phase1(network, vgg, losses).train()(batch)
    else:
        plain_network.encoder.eval()
        focal = {"gamma": losses.focal_gamma, "alpha": losses.focal_alpha}
        reference = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
        expected = plain.phase2_terms(plain_network, plain_vgg, *batch[:3], reference=reference, **focal)
        network.set_reference(reference)
        terms = Phase2(network, vgg, losses).train()(batch)
    assert terms.keys() == expected.keys()
    expected["loss"] = sum(WEIGHTS[name] * term for name, term in expected.items() if name != "loss")
    for name, term in expected.items():
        # the library's losses, and its attention, compute in single precision
        torch.testing.assert_close(terms[name].double(), term, rtol=1e-5, atol=1e-7)
    expected["loss"].backward()
    terms["loss"].backward()
    gradients = {name: each.grad for name, each in network.named_parameters()}
    trained = [name for name in gradients if name.startswith(TRAINED[phase])]
    assert [name for name, gradient in gradients.items() if gradient is not None] == trained
    for name, parameter in plain_network.named_parameters():
        if name in trained:
            scale = parameter.grad.abs().max()
            assert scale > 0, name
            assert (gradients[name] - parameter.grad).abs().max() < 1e-4 * scale, name
