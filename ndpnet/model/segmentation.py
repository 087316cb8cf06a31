"""Multi-scale defect segmentation (MSDSM): what differs between input and reconstruction, at three scales."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.encoder import layer_channels
from ndpnet.model.layers import conv_block, local_mean

NUM_SCALES = 3
SCALE_WEIGHTS = (0.2, 0.2, 0.6)
COMPARED_WIDTHS = {"concat": 2, "concat_difference": 3, "product": 1}  # channels of a head's input, times C
FILTER_SIZE = 5
FILTER_REACH = 2 * (FILTER_SIZE // 2)  # pixels around it that a filtered pixel depends on


class MultiScaleSegmentation(nn.Module):
    """Three sub-networks DSM_i, each one conv block and a 1x1 convolution to a logit; `compared_as`: see `compare`."""

    def __init__(self, *, base_width: int, norm: str = "batch", compared_as: str = "concat") -> None:
        super().__init__()
        self.compared_as = compared_as
        channels, times = layer_channels(base_width)[:NUM_SCALES], COMPARED_WIDTHS[compared_as]
        self.heads = nn.ModuleList(
            nn.Sequential(conv_block(times * width, width, norm), nn.Conv2d(width, 1, 1)) for width in channels
        )

    def forward(
        self, input_features: Sequence[torch.Tensor], reconstruction_features: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Logits of AM_1..AM_3. Both: layers 1-3, (B, C_i, H/2^(i-1), ...) -> [(B, 1, H/2^(i-1), W/2^(i-1))]."""
        pairs = zip(self.heads, input_features[:NUM_SCALES], reconstruction_features[:NUM_SCALES], strict=True)
        return [self._logit(head, seen, rebuilt) for head, seen, rebuilt in pairs]

    def _logit(self, head: nn.Module, seen: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        """One head. (B, C_i, h, w) twice -> (B, 1, h, w)."""
        if self.compared_as != "concat" or seen.requires_grad or not rebuilt.requires_grad:
            return head(compare(seen, rebuilt, self.compared_as))
        # the first convolution in two halves: the gradient of the input's features is never asked for
        assert isinstance(head, nn.Sequential)
        block, to_logit = head
        assert isinstance(block, nn.Sequential)
        first, *others = block
        assert isinstance(first, nn.Conv2d)
        of_seen, of_rebuilt = first.weight.chunk(2, dim=1)
        feats = F.conv2d(seen, of_seen, padding=1) + F.conv2d(rebuilt, of_rebuilt, padding=1)
        for layer in others:
            feats = layer(feats)
        return to_logit(feats)


def compare(seen: torch.Tensor, rebuilt: torch.Tensor, compared_as: str) -> torch.Tensor:
    """What a head sees: both, both with their absolute difference, or the product of both at unit length.

    (B, C, h, w) twice -> (B, COMPARED_WIDTHS * C, h, w).
    """
    if compared_as == "product":
        return F.normalize(seen, dim=1) * F.normalize(rebuilt, dim=1)
    difference = [(seen - rebuilt).abs()] if compared_as == "concat_difference" else []
    return torch.cat([seen, rebuilt, *difference], dim=1)


def blend_scales(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """AM_final = 0.2 AM_1 + 0.2 up(AM_2) + 0.6 up(AM_3) (Eq. 11). logits: [(B, 1, H/2^(i-1), ...)] -> (B, 1, H, W)."""
    size = logits[0].shape[-2:]
    maps = [torch.sigmoid(logit.float()) for logit in logits]
    blended = SCALE_WEIGHTS[0] * maps[0]
    for weight, anomaly_map in zip(SCALE_WEIGHTS[1:], maps[1:], strict=True):
        upsampled = F.interpolate(anomaly_map, size=size, mode="bilinear", align_corners=False)
        blended = blended + weight * upsampled
    return blended


def filter_map(anomaly_map: torch.Tensor) -> torch.Tensor:
    """5x5 mean, then 5x5 median, borders replicated. (B, 1, H, W) -> (B, 1, H, W)."""
    (height, width), shifts = anomaly_map.shape[-2:], range(FILTER_SIZE)
    padded = F.pad(local_mean(anomaly_map, FILTER_SIZE), (FILTER_SIZE // 2,) * 4, mode="replicate")
    return median_of([padded[..., top : top + height, left : left + width] for top in shifts for left in shifts])


def median_of(values: list[torch.Tensor]) -> torch.Tensor:
    """Elementwise median of an odd number of tensors, by minima and maxima alone (forgetful selection).

    `torch.median` is slower on a CPU and refuses deterministic mode on a GPU.
    """
    rest, waiting = values[: len(values) // 2 + 2], values[len(values) // 2 + 2 :]
    while len(rest) > 1:
        for index in range(1, len(rest)):  # the smallest goes to the front
            rest[0], rest[index] = torch.minimum(rest[0], rest[index]), torch.maximum(rest[0], rest[index])
        for index in range(1, len(rest) - 1):  # the largest of the others to the end
            rest[index], rest[-1] = torch.minimum(rest[index], rest[-1]), torch.maximum(rest[index], rest[-1])
        rest = rest[1:-1] + waiting[:1]  # neither of the two can be the median
        waiting = waiting[1:]
    return rest[0]
