"""EfficientNet-Lite0 up to stride 16 as a package has it: norms folded, padding without copies; bit for bit timm's.

Importing timm imports torchvision and torch's compiler: seconds that a trained model need not wait for.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.folding import PaddedConv2d

NAME = "tf_efficientnet_lite0"  # in timm
STEM_CHANNELS = 32
# channels, side of the kernel, stride and number of blocks; the first stage does not expand
STAGES = ((16, 3, 1, 1), (24, 3, 2, 2), (40, 5, 2, 2), (80, 3, 2, 3), (112, 5, 1, 3))
EXPANSION = 6
LEVELS = (1, 2, 4)  # stages whose output is used


class Lite0(nn.Module):
    """Untrained, with the names and shapes of timm's weights after folding."""

    channels, strides = (24, 40, 112), (4, 8, 16)
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        stages, channels = nn.Sequential(), STEM_CHANNELS
        for number, (width, side, stride, num_blocks) in enumerate(STAGES):
            expansion = EXPANSION if number else 1
            first = Block(channels, width, side=side, stride=stride, expansion=expansion)
            others = (Block(width, width, side=side, expansion=expansion) for _ in range(num_blocks - 1))
            stages.append(nn.Sequential(first, *others))
            channels = width
        self.model = nn.ModuleDict({"conv_stem": PaddedConv2d(3, STEM_CHANNELS, 3), "blocks": stages})

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Three levels, finest first. (B, 3, H, W), standardised -> [(B, C_l, H/stride_l, W/stride_l)]."""
        feats = F.relu6(self.model["conv_stem"](image), inplace=True)
        levels = []
        for stage in self.model["blocks"].children():
            feats = stage(feats)
            levels.append(feats)
        return [levels[index] for index in LEVELS]


class Block(nn.Module):
    """Point-wise, depth-wise and again point-wise convolution; without expansion the last two."""

    def __init__(self, channels: int, out_channels: int, *, side: int, stride: int = 1, expansion: int) -> None:
        super().__init__()
        self.has_skip = stride == 1 and channels == out_channels
        width = channels * expansion
        if expansion > 1:
            self.conv_pw = nn.Conv2d(channels, width, 1)
        self.conv_dw = (
            PaddedConv2d(width, width, side, groups=width)
            if stride == 2
            else nn.Conv2d(width, width, side, padding=side // 2, groups=width)
        )
        self.add_module("conv_pwl" if expansion > 1 else "conv_pw", nn.Conv2d(width, out_channels, 1))

    def forward(self, feats: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> (B, out_channels, H/stride, W/stride)."""
        *before, last = self.children()
        result = feats
        for convolution in before:
            result = F.relu6(convolution(result), inplace=True)
        result = last(result)
        return result + feats if self.has_skip else result
