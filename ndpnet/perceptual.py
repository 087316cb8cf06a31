"""Five ReLU maps of an ImageNet VGG, for the perceptual loss (Eq. 13, 16)."""

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

logger = logging.getLogger(__name__)

CONV_INDICES = {  # of torchvision's vgg16().features
    **{"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12, "conv3_3": 14},
    **{"conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24},
}
CONV_NAMES = tuple(CONV_INDICES)
MAPS = {"first_five": CONV_NAMES[:5], "block_starts": ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")}
WIDTHS = {"conv1": 64, "conv2": 128, "conv3": 256, "conv4": 512, "conv5": 512}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ConvWeights = list[tuple[torch.Tensor, torch.Tensor]]


class VGGFeatures(nn.Module):
    """The maps after the convolutions named in MAPS, frozen. `preprocess` is a 1x1 convolution from RGB in [0, 1]."""

    preprocess_weight: torch.Tensor
    preprocess_bias: torch.Tensor

    def __init__(
        self, convolutions: ConvWeights, preprocess: tuple[torch.Tensor, torch.Tensor], maps: str = "first_five"
    ) -> None:
        super().__init__()
        self.maps, self.names = MAPS[maps], names_up_to(maps)
        for name, (weight, bias) in zip(("preprocess", *self.names), [preprocess, *convolutions], strict=True):
            self.register_buffer(f"{name}_weight", weight)
            self.register_buffer(f"{name}_bias", bias)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The five maps. image: (B, 3, H, W) in [0, 1] -> [(B, C, H', W')], of block i at H' = H/2^(i-1)."""
        maps: list[torch.Tensor] = []
        feats = F.conv2d(image, self.preprocess_weight, self.preprocess_bias)
        for name in self.names:
            feats = F.max_pool2d(feats, 2) if name.endswith("_1") and name != "conv1_1" else feats
            feats = F.relu(F.conv2d(feats, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), padding=1))
            if name in self.maps:
                maps.append(feats)
        return maps


def names_up_to(maps: str) -> tuple[str, ...]:
    """The convolutions that the last of these maps needs."""
    return CONV_NAMES[: CONV_NAMES.index(MAPS[maps][-1]) + 1]


def load_vgg(weights: str, maps: str = "first_five") -> VGGFeatures | None:
    """The extractor for `losses.perceptual_weights`; None, with a warning, for `none`. ValueError if unreadable."""
    if weights == "none":
        logger.warning("no perceptual loss: losses.perceptual_weights is none; the paper's method has one")
        return None
    if weights == "torchvision":
        return _from_state_dict(_download_vgg16(), maps)
    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"no file {path} for losses.perceptual_weights (a .pth or .npz file, `torchvision` or `none`)")
    try:
        if path.suffix == ".npz":
            vgg = _from_npz(path, maps)
        else:
            vgg = _from_state_dict(torch.load(path, map_location="cpu", weights_only=True), maps)
        _check_shapes(vgg)
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise ValueError(
            f"cannot read VGG weights from {path}: {error!r} (expected torchvision's vgg16 state dict or an .npz)"
        ) from error
    return vgg


def _check_shapes(vgg: VGGFeatures) -> None:
    before = 3
    for name in ("preprocess", *vgg.names):
        shape = (WIDTHS[name[:5]], before, 3, 3) if name != "preprocess" else (3, 3, 1, 1)
        before, weight = shape[0], getattr(vgg, f"{name}_weight")
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


def _from_state_dict(state: dict[str, torch.Tensor], maps: str) -> VGGFeatures:
    indices = [CONV_INDICES[name] for name in names_up_to(maps)]
    convolutions = [(state[f"features.{i}.weight"], state[f"features.{i}.bias"]) for i in indices]
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return VGGFeatures(convolutions, (torch.diag(1 / std)[:, :, None, None], -mean / std), maps)


def _from_npz(path: Path, maps: str) -> VGGFeatures:
    with np.load(path, allow_pickle=False) as arrays:

        def pair(name: str, separator: str) -> tuple[torch.Tensor, torch.Tensor]:
            names = (f"{name}{separator}weight", f"{name}{separator}bias")
            return torch.from_numpy(arrays[names[0]]), torch.from_numpy(arrays[names[1]])

        return VGGFeatures([pair(name, ".") for name in names_up_to(maps)], pair("preprocess", "_"), maps)
