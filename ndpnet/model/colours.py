"""What ImageNet features hardly tell: colours, of a surface and of its small places, whatever the light's strength."""

import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.backbone import DARKEST
from ndpnet.model.layers import local_mean

STRIDE = 8  # that colours are averaged to
SMALLEST_SPREAD = 1e-6  # of less the pictures are grey


class OpponentColours(nn.Module):
    """Red less green and blue less green, averaged over 24 x 24 pixels, standardised by `fit` on good pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(2))
        self.gain = nn.Buffer(torch.ones(2))  # 1 / spread; 0 of grey pictures: no colour is ever heard

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), sides multiples of 8 -> (B, 2, H/8, W/8)."""
        red, green, blue = F.avg_pool2d(image, STRIDE).split(1, dim=1)
        colours = torch.cat([red - green, blue - green], dim=1)
        colours = local_mean(colours, 3)
        return (colours - self.mean[:, None, None]) * self.gain[:, None, None]

    @torch.no_grad()
    def fit(self, batches: list[torch.Tensor]) -> None:
        """Take mean and spread from good pictures. batches: (B, 3, H, W) in [0, 1] each."""
        self.mean.zero_()
        self.gain.fill_(1)
        spread, mean = torch.std_mean(torch.cat([self(batch) for batch in batches]), dim=(0, 2, 3))
        self.mean.copy_(mean)
        self.gain.copy_(torch.where(spread > SMALLEST_SPREAD, 1 / spread, 0))


def relative_colours(image: torch.Tensor, stride: int) -> torch.Tensor:
    """How far means over stride x stride pixels are from the picture's mean, in such means; 0 is as bright as it is.

    (B, 3, H, W) -> (B, 3, H/stride, W/stride).
    """
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    # half precision keeps more digits of numbers near 0: the mean is taken off first
    return F.avg_pool2d(image - mean, stride) / mean.clamp(min=DARKEST)
