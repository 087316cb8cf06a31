"""A frozen encoder that has seen other pictures: any backbone of timm, with weights from a local file, never a hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from ndpnet.model.folding import fold_batch_norms, pad_without_copies
from ndpnet.model.layers import local_mean
from ndpnet.model.lite0 import NAME as LITE0
from ndpnet.model.lite0 import Lite0
from ndpnet.pretrained_weights import weights_path

STRIDES = (4, 8, 16)  # of the levels that are used, where a backbone has them
NUM_LEVELS = 3
LIGHT_STRIDE, LIGHT_CELLS = 8, 9  # light is a mean over 72 pixels, of that again one
DARKEST = 0.02  # light, or a mean of pictures: darker is noise
UNEVEN = 0.08  # spread of the light's logarithm at one place of good pictures: from there on it is made even
SMALLEST_SPREAD = 0.05  # of the mean one: a channel that good pictures leave silent must not outweigh all others


class Backbone(nn.Module):
    """Features of three levels, each channel standardised by `fit` on good pictures."""

    network: Any  # one of timm, whose own attributes it has
    picture_mean: torch.Tensor
    picture_std: torch.Tensor

    def __init__(self, name: str, *, is_trained: bool = False) -> None:
        """Weights follow by `load_backbone`, or of a package (is_trained), whose Lite0 needs no timm.

        ValueError: timm has no such backbone.
        """
        super().__init__()
        self.name = name
        self.has_uneven_light = False  # as `fit` finds
        self.network = Lite0() if is_trained and name == LITE0 else pad_without_copies(_folded(_create(name)))
        self.channels, strides, colours = _shape_of(self.network)
        self.patch_side = min(strides[-1], 16)  # of a ViT, whose patches may divide no multiple of 16
        self.strides = [stride if stride < self.patch_side else 16 for stride in strides]
        for kind, values in colours.items():
            alike = values[:1] if len(set(values)) == 1 else values  # a tenth of the time
            self.register_buffer(f"picture_{kind}", torch.tensor(alike).view(1, -1, 1, 1), persistent=False)
        for level, channels in enumerate(self.channels):
            self.register_buffer(f"mean{level}", torch.zeros(channels))
            self.register_buffer(f"spread{level}", torch.ones(channels))
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Three levels as they are, then the same to compare; both finest first. image: (B, 3, H, W) in [0, 1].

        What is compared is averaged over 3 x 3 positions and has stride 8 or more. -> [(B, C_l, h_l, w_l)], 6 maps.
        """
        every = self._raw(self.evened(image))
        levels = [_compared(feats, stride) for feats, stride in zip(every, self.strides, strict=True)]
        return [self._standardised(feats, index % NUM_LEVELS) for index, feats in enumerate([*every, *levels])]

    def evened(self, image: torch.Tensor) -> torch.Tensor:
        """The picture under even light, if good pictures show that theirs is not. (B, 3, H, W) -> the same."""
        return evenly_lit(image) if self.has_uneven_light else image

    def _standardised(self, feats: torch.Tensor, level: int) -> torch.Tensor:
        mean, spread = getattr(self, f"mean{level}"), getattr(self, f"spread{level}")
        return (feats - mean[:, None, None]) / spread[:, None, None]

    def directions(self, feats: torch.Tensor) -> torch.Tensor:
        """The coarsest level's features as unit vectors, before they were standardised. (..., C) -> (..., C)."""
        last = NUM_LEVELS - 1
        return F.normalize(feats * getattr(self, f"spread{last}") + getattr(self, f"mean{last}"), dim=-1)

    @torch.no_grad()
    def fit(self, batches: list[torch.Tensor]) -> None:
        """Take each channel's mean and standard deviation from good pictures. batches: (B, 3, H, W) in [0, 1] each.

        And whether their light differs over a picture, and from one to the other.
        """
        light = torch.cat([_light(batch).log() for batch in batches])  # (N, 1, H/8, W/8)
        own = light - light.mean(dim=(2, 3), keepdim=True)  # however bright the whole picture is
        self.has_uneven_light = (own - own.mean(dim=0)).square().mean().sqrt().item() > UNEVEN
        for level in range(NUM_LEVELS):
            getattr(self, f"mean{level}").zero_()
            getattr(self, f"spread{level}").fill_(1)
        sums = [[torch.zeros(channels, dtype=torch.float64) for _ in range(2)] for channels in self.channels]
        counts = [0] * NUM_LEVELS
        for batch in batches:
            for level, feats in enumerate(self(batch)[NUM_LEVELS:]):
                values = feats.transpose(0, 1).flatten(1).double().cpu()  # (B, C, h, w) -> (C, B*h*w)
                sums[level][0] += values.sum(dim=1)
                sums[level][1] += values.square().sum(dim=1)
                counts[level] += values.shape[1]
        for level, (total, squared) in enumerate(sums):
            mean = total / counts[level]
            spread = (squared / counts[level] - mean.square()).clamp(min=0).sqrt()
            spread = spread.clamp(min=SMALLEST_SPREAD * spread.mean().item() or 1.0)
            getattr(self, f"mean{level}").copy_(mean)
            getattr(self, f"spread{level}").copy_(spread)

    def get_extra_state(self) -> torch.Tensor:
        """Part of the weights: `has_uneven_light`, which no exported graph should ask again."""
        return torch.tensor(self.has_uneven_light)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Of stored weights."""
        self.has_uneven_light = bool(state)

    def _raw(self, image: torch.Tensor) -> list[torch.Tensor]:
        if self.patch_side != 16:  # as many patches of the backbone's own side as there are of 16 pixels
            size = [side // 16 * self.patch_side for side in image.shape[-2:]]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        return self.network((image - self.picture_mean) / self.picture_std)

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in eval mode: a frozen encoder has no statistics of a batch."""
        return super().train(False)


def evenly_lit(image: torch.Tensor) -> torch.Tensor:
    """The picture without its changes of light, as bright on average. (B, 3, H, W), multiples of 8 -> the same."""
    light = _light(image)
    gain = light.mean(dim=(2, 3), keepdim=True) / light
    return image * F.interpolate(gain, size=image.shape[-2:], mode="bilinear", align_corners=False)


def local_brightness(image: torch.Tensor) -> torch.Tensor:
    """How much each place differs from the light around it, as |log|. (B, 3, H, W) -> (B, 1, H/8, W/8)."""
    # half precision keeps more digits of numbers near 0: the picture's own mean is taken off first
    mean = _brightness(image).mean(dim=(2, 3), keepdim=True)
    centred = _brightness(image - mean)
    here, light = (torch.maximum(plane, DARKEST - mean) for plane in (local_mean(centred, 3), _twice_averaged(centred)))
    return ((here - light) / (light + mean)).log1p().abs()


def _light(image: torch.Tensor) -> torch.Tensor:
    """What is taken for light: the brightness around each place. (B, 3, H, W) -> (B, 1, H/8, W/8)."""
    return _twice_averaged(_brightness(image)).clamp(min=DARKEST)


def _twice_averaged(brightness: torch.Tensor) -> torch.Tensor:
    return local_mean(local_mean(brightness, LIGHT_CELLS), LIGHT_CELLS)


def _brightness(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(image.mean(dim=1, keepdim=True), LIGHT_STRIDE)


def _compared(feats: torch.Tensor, stride: int) -> torch.Tensor:
    """What is compared with good patches. (B, C, h, w) -> the same, averaged over 3 x 3 positions and to stride 8."""
    mean = local_mean(feats, 3)
    return F.avg_pool2d(mean, 8 // stride) if stride < 8 else mean


def load_backbone(backbone: Backbone, source: str) -> None:
    """Load ImageNet weights from a file, or from the installed package that carries one. ValueError if they do not fit.

    Another project's names are taken by their order, if all shapes agree.
    """
    path = weights_path(source)
    fresh = _create(backbone.name)
    state, own = _read(path), fresh.model.state_dict()
    if not own.keys() <= state.keys():
        whole = _whole(backbone.name).state_dict()
        state = dict(zip(whole, state.values(), strict=len(whole) == len(state)))
    wrong = next((name for name in own if name not in state or own[name].shape != state[name].shape), None)
    if wrong is not None:
        raise ValueError(f"{path} is not of {backbone.name}: {wrong} differs (name a file of model.encoder's weights)")
    fresh.model.load_state_dict({name: state[name] for name in own})
    backbone.network.load_state_dict(_folded(fresh).state_dict())


def _shape_of(network: Any) -> tuple[list[int], list[int], dict[str, Sequence[float]]]:
    """Channels and strides of the levels, mean and std of ImageNet's colours."""
    if isinstance(network, Lite0):
        return list(network.channels), list(network.strides), {"mean": network.mean, "std": network.std}
    info, config = network.feature_info, network.pretrained_cfg
    return info.channels(), info.reduction(), {kind: config[kind] for kind in ("mean", "std")}


def _create(name: str) -> Any:
    """The part of a backbone up to its last level that is used; timm's own wrapper cuts off the rest."""
    import timm

    whole = _whole(name)
    options: dict[str, Any] = {"dynamic_img_size": True} if hasattr(whole, "dynamic_img_size") else {}
    indices = _level_indices(name, [level["reduction"] for level in whole.feature_info])
    return timm.create_model(
        name, pretrained=False, features_only=True, feature_cls="getter", out_indices=indices, **options
    )


def _folded(network: Any) -> nn.Module:
    """Without the BatchNorms of an EfficientNet, whose statistics never change; other backbones keep theirs."""
    from timm.models import _efficientnet_blocks as blocks
    from timm.models.efficientnet import EfficientNet

    kinds = (
        EfficientNet,
        blocks.ConvBnAct,
        blocks.DepthwiseSeparableConv,
        blocks.InvertedResidual,
        blocks.EdgeResidual,
    )
    return fold_batch_norms(network.eval(), kinds)


def _whole(name: str) -> Any:
    import timm

    if not timm.is_model(name):
        raise ValueError(f"model.encoder {name!r} is no backbone of timm (one of timm.list_models(), or own)")
    return timm.create_model(name, pretrained=False)


def _level_indices(name: str, strides: list[int]) -> list[int]:
    """Which of a backbone's feature maps are used: the last ones of strides 4, 8 and 16, else three of its depth."""
    last = {stride: index for index, stride in enumerate(strides)}
    if last.keys() >= set(STRIDES):
        return [last[stride] for stride in STRIDES]
    if len(strides) < NUM_LEVELS:
        raise ValueError(f"model.encoder {name!r} has {len(strides)} levels, not {NUM_LEVELS} (use another)")
    return [len(strides) * part // NUM_LEVELS - 1 for part in range(1, NUM_LEVELS + 1)]


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes make the readers raise
        raise ValueError(f"cannot read weights from {path}: {error!r} (a state dict, .pth or .safetensors)") from error
    return state.get("state_dict", state)
