"""What each trained part does, on artificial defects of held-out good pictures: a part that does nothing is named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ndpnet.losses import resize_mask
from ndpnet.metrics import exact as metrics
from ndpnet.model import NDPNet, Network
from ndpnet.synthesis.compose import Batch

# of the error without a part: what leaves more does nothing
IDLE_SHARES = {"reconstruction": 0.95, "repair": 0.95, "map": 0.99}
IDLE = {
    "reconstruction": "The reconstruction is no better than the mean picture: squared errors {with:.4g} and "
    "{without:.4g} (train longer: train.phase1.min_steps, train.phase2.min_steps).",
    "repair": "The repair is no better than the input: inside defects its features are {with:.3g} from the clean ones, "
    "the input's {without:.3g}, in variances (train longer: train.phase2.min_steps, or raise model.softmax_scale).",
    "map": "The map marks artificial defects about as well without its comparison with good surface: 1 - pixel ROCAUC "
    "is {with:.4g}, without it {without:.4g}.",
}


@torch.no_grad()
def check_parts(network: Network, batches: Sequence[Batch], mean_picture: torch.Tensor) -> dict[str, Any]:
    """Errors with and without each part; `idle`: a sentence for each that does nothing. mean_picture: (3, P, P).

    Behind a frozen encoder of the reconstruction alone: artificial defects do not tell what comparing with good patches
    is worth on real ones.
    """
    network.eval()
    pictures = [(network(batch.defective).reconstruction, batch.clean) for batch in batches]
    gaps = {"reconstruction": [_mean_square(pictures), _mean_square([(mean_picture, clean) for _, clean in pictures])]}
    if isinstance(network, NDPNet):
        masks = np.concatenate([(batch.mask[:, 0] > 0).cpu().numpy() for batch in batches])
        maps = zip(*(_maps(network, batch) for batch in batches), strict=True)
        gaps["map"] = [1 - (metrics.pixel_auroc(np.concatenate(scores), masks) or 0.0) for scores in maps]
        if network.attention[0].repairs:  # else RBAM is left out on purpose
            gaps["repair"] = np.mean([_repair_gaps(network, batch) for batch in batches], axis=0).tolist()
    values = {name: {"with": both[0], "without": both[1]} for name, both in gaps.items()}
    is_idle = {name: errors["with"] > IDLE_SHARES[name] * errors["without"] for name, errors in values.items()}
    idle = [IDLE[name].format(**errors) for name, errors in values.items() if is_idle[name]]
    return {"values": values, "idle": idle}


def _mean_square(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    return float(np.mean([(picture - clean).square().mean().item() for picture, clean in pairs]))


def _maps(network: NDPNet, batch: Batch) -> list[np.ndarray]:
    """With and without the repair. -> two of (B, H, W)."""
    maps = [network.predict(batch.defective, reconstruction=each)[0] for each in (None, batch.defective)]
    return [plane[:, 0].float().cpu().numpy() for plane in maps]


def _repair_gaps(network: NDPNet, batch: Batch) -> list[float]:
    """How far from clean what is repaired and what came in are inside defects, summed over levels."""
    clean, defective = network.encoder(batch.clean), network.encoder(batch.defective)
    output = network(batch.defective, features=defective)
    return [
        sum(_gap_inside(*pair, batch.mask) for pair in zip(features, network.repairable(clean), strict=True))
        for features in (output.repaired, network.repairable(defective))
    ]


def _gap_inside(feats: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean squared distance inside defects, in variances of the clean features. (B, C, h, w) twice, (B, 1, H, W)."""
    inside = resize_mask(mask, feats.shape[-2:])
    distance = (feats - clean).square().mean(dim=1, keepdim=True)
    return ((distance * inside).sum() / inside.sum().clamp(min=1) / clean.var().clamp(min=1e-12)).item()
