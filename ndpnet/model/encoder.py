"""The encoder: five layers, the first at full resolution, each next one halved."""

import torch
from torch import nn

from ndpnet.model.layers import ConvBlock, conv_block

NUM_LAYERS = 5
WIDTH_FACTORS = (1, 2, 4, 8, 8)


def layer_channels(base_width: int) -> tuple[int, ...]:
    """Channels C_1..C_5 of the encoder's layers."""
    return tuple(base_width * factor for factor in WIDTH_FACTORS)


class Encoder(nn.Module):
    """Feature pyramid Phi_1..Phi_5 of an image in [0, 1]; layer l has stride 2^(l-1)."""

    is_frozen = False

    def __init__(self, *, base_width: int, norm: str = "batch") -> None:
        super().__init__()
        channels = (3, *layer_channels(base_width))
        self.layers = nn.ModuleList(
            conv_block(channels[index], channels[index + 1], norm) for index in range(NUM_LAYERS)
        )
        self.downsample = nn.MaxPool2d(2)

    def freeze(self) -> None:
        """No gradient and no new BatchNorm statistics from here on, whatever `.train()` says."""
        self.is_frozen = True
        self.requires_grad_(False)
        self.eval()
        for layer in self.layers:
            assert isinstance(layer, ConvBlock)
            layer.is_frozen = True

    def train(self, mode: bool = True) -> "Encoder":
        """Frozen it stays in eval mode."""
        return super().train(mode and not self.is_frozen)

    def forward(self, image: torch.Tensor, num_layers: int = NUM_LAYERS) -> list[torch.Tensor]:
        """The first `num_layers` feature maps. image: (B, 3, H, W) -> [(B, C_l, H/2^(l-1), W/2^(l-1))]."""
        features: list[torch.Tensor] = []
        for index in range(num_layers):
            image = self.layers[index](image if index == 0 else self.downsample(image))
            features.append(image)
        return features
