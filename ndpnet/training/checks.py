"""What each trained part does, on artificial defects of held-out good pictures: a part that does nothing is named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ndpnet.losses import resize_mask
from ndpnet.metrics import exact as metrics
from ndpnet.model import Network
from ndpnet.synthesis.compose import Batch

# of the error without a part: what leaves more does nothing
IDLE_SHARES = {"reconstruction": 0.95, "repair": 0.95, "map": 0.99}
MIN_MAP_ERROR = 0.02  # without a part: a smaller one leaves nothing to improve, and tells nothing of real defects
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
    """Errors with and without each part; `idle`: a sentence for each that does nothing. mean_picture: (3, P, P)."""
    network.eval()
    errors = [_errors(network, batch, mean_picture) for batch in batches]
    gaps = {name: np.mean([error[name] for error in errors], axis=0).tolist() for name in ("reconstruction", "repair")}
    masks = np.concatenate([(batch.mask[:, 0] > 0).cpu().numpy() for batch in batches])
    maps = [np.concatenate([error["maps"][index] for error in errors]) for index in (0, 1)]
    gaps["map"] = [1 - (metrics.pixel_auroc(scores, masks) or 0.0) for scores in maps]
    if not network.has_repair:  # left out on purpose
        del gaps["repair"]
    values = {name: {"with": both[0], "without": both[1]} for name, both in gaps.items()}
    idle = [IDLE[name].format(**facts) for name, facts in values.items() if _is_idle(name, **facts)]
    return {"values": values, "idle": idle}


def _is_idle(name: str, **error: float) -> bool:
    has_room = name != "map" or error["without"] > MIN_MAP_ERROR
    return has_room and error["with"] > IDLE_SHARES[name] * error["without"]


def _errors(network: Network, batch: Batch, mean_picture: torch.Tensor) -> dict[str, Any]:
    clean, defective = network.encoder(batch.clean), network.encoder(batch.defective)
    output = network(batch.defective, features=defective)
    maps = [network.mark(batch.defective), network.predict_unrepaired(batch.defective)]
    return {
        "reconstruction": [
            (picture - batch.clean).square().mean().item() for picture in (output.reconstruction, mean_picture)
        ],
        "repair": [
            sum(_gap_inside(*pair, batch.mask) for pair in zip(features, network.repairable(clean), strict=True))
            for features in (output.repaired, network.repairable(defective))
        ],
        "maps": [plane[:, 0].float().cpu().numpy() for plane in maps],
    }


def _gap_inside(feats: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean squared distance inside defects, in variances of the clean features. (B, C, h, w) twice, (B, 1, H, W)."""
    inside = resize_mask(mask, feats.shape[-2:])
    distance = (feats - clean).square().mean(dim=1, keepdim=True)
    return ((distance * inside).sum() / inside.sum().clamp(min=1) / clean.var().clamp(min=1e-12)).item()
