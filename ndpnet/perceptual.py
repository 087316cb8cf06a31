"""The first five ReLU maps of an ImageNet VGG, for the perceptual loss (Eq. 13, 16)."""

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

logger = logging.getLogger(__name__)

CONV_NAMES = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
CONV_INDICES = (0, 2, 5, 7, 10)  # of torchvision's vgg16().features
POOL_BEFORE = (False, False, True, False, True)
SHAPES = ((3, 3, 1, 1), (64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3))
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ConvWeights = list[tuple[torch.Tensor, torch.Tensor]]


class VGGFeatures(nn.Module):
    """relu1_1, relu1_2, relu2_1, relu2_2, relu3_1, frozen. `preprocess` is a 1x1 convolution from RGB in [0, 1]."""

    def __init__(self, convolutions: ConvWeights, preprocess: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        for name, (weight, bias) in zip(("preprocess", *CONV_NAMES), [preprocess, *convolutions], strict=True):
            self.register_buffer(f"{name}_weight", weight)
            self.register_buffer(f"{name}_bias", bias)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The five maps. image: (B, 3, H, W) in [0, 1] -> [(B, C, H', W')], H' = H, H, H/2, H/2, H/4."""
        maps: list[torch.Tensor] = []
        feats = F.conv2d(image, self.preprocess_weight, self.preprocess_bias)
        for name, is_pooled in zip(CONV_NAMES, POOL_BEFORE, strict=True):
            feats = F.max_pool2d(feats, 2) if is_pooled else feats
            feats = F.relu(F.conv2d(feats, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1))
            maps.append(feats)
        return maps


def load_vgg(weights: str) -> VGGFeatures | None:
    """The extractor for `losses.perceptual_weights`; None, with a warning, for `none`. ValueError if unreadable."""
    if weights == "none":
        logger.warning("no perceptual loss: losses.perceptual_weights is none; the paper's method has one")
        return None
    if weights == "torchvision":
        return _from_state_dict(_download_vgg16())
    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"no file {path} for losses.perceptual_weights (a .pth or .npz file, `torchvision` or `none`)")
    try:
        is_npz = path.suffix == ".npz"
        vgg = _from_npz(path) if is_npz else _from_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        _check_shapes(vgg)
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise ValueError(
            f"cannot read VGG weights from {path}: {error!r} (expected torchvision's vgg16 state dict or an .npz)"
        ) from error
    return vgg


def _check_shapes(vgg: VGGFeatures) -> None:
    for name, shape in zip(("preprocess", *CONV_NAMES), SHAPES, strict=True):
        weight = getattr(vgg, f"{name}_weight")
        if weight.shape != shape:
            raise ValueError(f"{name} is {tuple(weight.shape)} instead of {shape}")


def _download_vgg16() -> dict[str, torch.Tensor]:
    from torchvision.models import VGG16_Weights

    try:
        return VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ValueError(
            f"cannot download VGG-16: {error} (set losses.perceptual_weights to a local file, or to none)"
        ) from error


def _from_state_dict(state: dict[str, torch.Tensor]) -> VGGFeatures:
    convolutions = [(state[f"features.{i}.weight"], state[f"features.{i}.bias"]) for i in CONV_INDICES]
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return VGGFeatures(convolutions, (torch.diag(1 / std)[:, :, None, None], -mean / std))


def _from_npz(path: Path) -> VGGFeatures:
    with np.load(path, allow_pickle=False) as arrays:

        def pair(name: str, separator: str) -> tuple[torch.Tensor, torch.Tensor]:
            names = (f"{name}{separator}weight", f"{name}{separator}bias")
            return torch.from_numpy(arrays[names[0]]), torch.from_numpy(arrays[names[1]])

        return VGGFeatures([pair(name, ".") for name in CONV_NAMES], pair("preprocess", "_"))
