"""Changes of a natural picture before it fills a defect, as DRAEM makes them (Zavrtanik et al., ICCV 2021)."""

from collections.abc import Callable

import numpy as np
import torch

NUM_CHANGES = 3  # of the ten, each at most once
Change = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


def augmented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three random changes, one after the other. image: uint8 (H, W, 3) -> uint8 (H, W, 3)."""
    changes = _changes()
    changed = torch.from_numpy(image).permute(2, 0, 1)
    for index in rng.choice(len(changes), NUM_CHANGES, replace=False):
        changed = changes[index](changed, rng)
    return changed.permute(1, 2, 0).contiguous().numpy()


def _changes() -> list[Change]:
    """Nine of colour and sharpness and a rotation, in the ranges of DRAEM's. uint8 (3, H, W) -> the same."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as ops

    def gamma(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return torch.stack([ops.adjust_gamma(channel[None], rng.uniform(0.5, 2))[0] for channel in image])  # by channel

    def brightness(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return (image * rng.uniform(0.8, 1.2) + rng.uniform(-30, 30)).round().clamp(0, 255).byte()

    def hue_and_saturation(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return ops.adjust_saturation(ops.adjust_hue(image, rng.uniform(-0.2, 0.2)), rng.uniform(0.6, 1.4))

    def solarize(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return ops.solarize(image, rng.uniform(32, 128)) if rng.random() < 0.5 else image

    def rotate(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return ops.rotate(image, rng.uniform(-45, 45), interpolation=InterpolationMode.BILINEAR)

    return [
        *(gamma, brightness, hue_and_saturation, solarize, rotate),
        lambda image, rng: ops.adjust_sharpness(image, rng.uniform(0, 3)),
        lambda image, rng: ops.posterize(image, int(rng.integers(1, 8))),
        lambda image, _: ops.invert(image),
        lambda image, _: ops.autocontrast(image),
        lambda image, _: ops.equalize(image),
    ]
