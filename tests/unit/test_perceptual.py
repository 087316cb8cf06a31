"""The VGG maps against torchvision's own layers."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import uniform
from torch import nn
from torchvision.models.vgg import make_layers
from torchvision.transforms.functional import normalize

from ndpnet.perceptual import load_vgg

FIRST_FIVE, RELU_INDICES = [64, 64, "M", 128, 128, "M", 256], (1, 3, 6, 8, 11)
BLOCK_STARTS = [*FIRST_FIVE, 256, 256, "M", 512, 512, 512, "M", 512], (1, 6, 11, 18, 25)


def vgg_features(layers: list[int | str] = FIRST_FIVE) -> nn.Sequential:
    """torchvision's vgg16().features as far as that, with random weights."""
    torch.manual_seed(0)
    return make_layers(layers).eval()


def save(features: nn.Sequential, path: Path) -> str:
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return str(path)


def relu_maps(
    features: nn.Sequential, image: torch.Tensor, indices: tuple[int, ...] = RELU_INDICES
) -> list[torch.Tensor]:
    maps = []
    for index, layer in enumerate(features):
        image = layer(image)
        if index in indices:
            maps.append(image.clone())
    return maps


@pytest.mark.parametrize(
    ("which", "layers", "indices"), [("first_five", FIRST_FIVE, RELU_INDICES), ("block_starts", *BLOCK_STARTS)]
)
def test_a_state_dict_gives_torchvisions_maps(
    tmp_path: Path, which: str, layers: list[int | str], indices: tuple[int, ...]
) -> None:
    features, image = vgg_features(layers), uniform(1, 3, 32, 32)
    with torch.no_grad():
        expected = relu_maps(features, normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), indices)
        vgg = load_vgg(save(features, tmp_path / "vgg16.pth"), which)
        maps = vgg(image)
    assert list(vgg.parameters()) == []
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


def test_an_npz_has_its_own_preprocessing(tmp_path: Path) -> None:
    features, path = vgg_features(), tmp_path / "vgg.npz"
    swap = np.flip(np.eye(3, dtype=np.float32), axis=0)[..., None, None] * 255  # RGB in [0, 1] -> BGR in 0..255
    mean = np.array([103.9, 116.8, 123.7], dtype=np.float32)
    arrays = {"preprocess_weight": swap, "preprocess_bias": -mean}
    convs = [layer for layer in features if isinstance(layer, nn.Conv2d)]
    for name, conv in zip(("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"), convs, strict=True):
        arrays |= {f"{name}.weight": conv.weight.detach().numpy(), f"{name}.bias": conv.bias.detach().numpy()}
    np.savez(path, **arrays)
    image = uniform(1, 3, 16, 16)
    with torch.no_grad():
        expected = relu_maps(features, image.flip(1) * 255 - torch.from_numpy(mean).view(1, 3, 1, 1))
    for each, target in zip(load_vgg(str(path))(image), expected, strict=True):
        torch.testing.assert_close(each, target, atol=1e-3, rtol=1e-4)


def test_none_is_none_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_vgg("none") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no perceptual loss" in caplog.text


def test_what_are_no_weights_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_bytes(b"not a weight file\n" * 10)
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "short.pth")
    torch.save({"path": tmp_path}, tmp_path / "pickle.pth")
    weights = {f"features.{index}.weight": torch.zeros(4, 3, 3, 3) for index in (0, 2, 5, 7, 10)}
    torch.save(weights | {name.replace("weight", "bias"): torch.zeros(4) for name in weights}, tmp_path / "other.pth")
    for name, message in {
        "text.pth": r"cannot read VGG weights from .*text\.pth: .*expected torchvision's",
        "short.pth": r"cannot read VGG weights from .*short\.pth: KeyError.*features\.0\.bias",
        "pickle.pth": "cannot read VGG weights",  # no code runs from it
        "other.pth": r".*conv1_1 is \(4, 3, 3, 3\) instead of \(64, 3, 3, 3\)",
        "none.pth": r"no file .*/none\.pth for losses.perceptual_weights \(a \.pth or \.npz file",
    }.items():
        with pytest.raises(ValueError, match=rf"^{message}") as caught:
            load_vgg(str(tmp_path / name))
        assert "\n" not in str(caught.value)
