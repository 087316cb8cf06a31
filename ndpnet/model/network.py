"""NDP-Net: encoder, reference attention, decoder and multi-scale segmentation as one network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ndpnet.model.attention import ReferenceAttention
from ndpnet.model.decoder import Decoder
from ndpnet.model.encoder import Encoder, layer_channels
from ndpnet.model.segmentation import NUM_SCALES, MultiScaleSegmentation, blend_scales, filter_map

FIRST_REPAIRED = 2  # index of layer 3, the first one that RBAM repairs


@dataclass(frozen=True)
class NetworkOutput:
    """Everything phase 2 computes from one image."""

    repaired: list[torch.Tensor]  # F_out of layers 3-5
    reconstruction: torch.Tensor  # (B, 3, H, W) in [0, 1]
    logits: list[torch.Tensor]  # of AM_1..AM_3


class NDPNet(nn.Module):
    """The whole network (Section III of the paper). `set_reference` comes before the first forward."""

    def __init__(
        self,
        *,
        base_width: int = 64,
        softmax_scale: float = 1.0,
        patch_sizes: Sequence[int] = (2, 4),
        ffm_channels: int = 64,
        ffm_kernel: int = 5,
        ffm_norm: bool = False,
        segmentation_input: str = "concat",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(base_width=base_width, norm=norm)
        self.decoder = Decoder(base_width=base_width, norm=norm)
        how: dict[str, Any] = {"patch_sizes": patch_sizes, "softmax_scale": softmax_scale}
        how |= {"hidden_channels": ffm_channels, "kernel_size": ffm_kernel, "norm": norm if ffm_norm else None}
        self.attention = nn.ModuleList(
            ReferenceAttention(num_channels=channels, **how) for channels in layer_channels(base_width)[FIRST_REPAIRED:]
        )
        self.segmentation = MultiScaleSegmentation(base_width=base_width, norm=norm, compared_as=segmentation_input)

    @torch.no_grad()
    def set_reference(self, reference: torch.Tensor) -> None:
        """Fix F_ref from the reference image(s). reference: (R, 3, H, W) in [0, 1], sides multiples of 64."""
        was_training = self.encoder.training
        self.encoder.eval()
        features = self.encoder(reference)
        self.encoder.train(was_training)
        for attention, feats in zip(self.attention, features[FIRST_REPAIRED:], strict=True):
            assert isinstance(attention, ReferenceAttention)
            attention.set_reference(feats)

    def rebuild(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Phase 1's reconstruction: the decoder on untouched features. features: layers 1-5 -> (B, 3, H, W)."""
        return self.decoder(features[FIRST_REPAIRED:])

    def forward(self, image: torch.Tensor, features: Sequence[torch.Tensor] | None = None) -> NetworkOutput:
        """Phase 2's pass (Eq. 3-8). image: (B, 3, H, W), sides multiples of 64; `features`: its encoding, if known."""
        if features is None:
            features = self.encoder(image)
        repaired, reconstruction = self._repair(features)
        rebuilt = self.encoder(reconstruction, num_layers=NUM_SCALES)
        return NetworkOutput(repaired, reconstruction, self.segmentation(features, rebuilt))

    def _repair(self, features: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """F_out of layers 3-5 and what the decoder makes of them. features: layers 1-5 -> 3 maps, (B, 3, H, W)."""
        pairs = zip(self.attention, features[FIRST_REPAIRED:], strict=True)
        repaired = [attention(feats) for attention, feats in pairs]
        return repaired, self.decoder(repaired)

    def repairable(self, features: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """What of the encoder's features is repaired: layers 3-5."""
        return features[FIRST_REPAIRED:]

    def predict(
        self, image: torch.Tensor, *, has_filters: bool = True, reconstruction: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Anomaly map, and reconstruction. (B, 3, H, W) -> (B, 1, H, W), (B, 3, H, W).

        Without its filters a map is what those of tiles are blended from; `reconstruction`: in the decoder's place.
        """
        features = self.encoder(image)
        reconstruction = self._repair(features)[1] if reconstruction is None else reconstruction
        logits = self.segmentation(features, self.encoder(reconstruction, num_layers=NUM_SCALES))
        anomaly_map = blend_scales(logits)
        return filter_map(anomaly_map) if has_filters else anomaly_map, reconstruction

    def mark(self, image: torch.Tensor, *, has_filters: bool = True) -> torch.Tensor:
        """The map of `predict` alone. (B, 3, H, W) -> (B, 1, H, W)."""
        return self.predict(image, has_filters=has_filters)[0]
