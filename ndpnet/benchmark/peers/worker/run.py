"""A job from pictures to predictions.npz and peer.json."""

import json
import logging
import random
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worker.distilled import EfficientAd, ReverseDistillation, Stfpm
from worker.measuring import measure
from worker.memory import Padim, Patchcore
from worker.peer import Inputs, Peer
from worker.pictures import open_split
from worker.reconstructing import Draem, Ganomaly, SuperSimpleNet
from worker.settings import PeerSettings

PEERS: dict[str, type[Peer]] = {
    "padim": Padim,
    "patchcore": Patchcore,
    "stfpm": Stfpm,
    "reverse_distillation": ReverseDistillation,
    "ganomaly": Ganomaly,
    "draem": Draem,
    "efficient_ad": EfficientAd,
    "supersimplenet": SuperSimpleNet,
}
PREDICTION_BATCH = 8
PACKAGES = ("anomalib", "timm", "torch", "torchvision")

logger = logging.getLogger(__name__)


def run(settings: PeerSettings, *, prepared_dir: Path, out_dir: Path, identity: dict[str, Any]) -> None:
    """Train, predict, measure, write."""
    peer = make_peer(settings)
    inputs = {
        split: Inputs(open_split(prepared_dir, split), peer.scaling, settings.device)
        for split in ("train", "validation", "test")
    }
    started = time.perf_counter()
    num_steps = peer.fit(inputs["train"], inputs["validation"])
    seconds_train = time.perf_counter() - started
    logger.info("trained in %.0f s", seconds_train)
    scores, maps = predict(peer, inputs["test"])
    np.savez(out_dir / "predictions.npz", scores=scores, maps=maps)
    info = {"steps": num_steps, "seconds_train": seconds_train, "num_train": len(inputs["train"])}
    info |= describe(peer) | measure(peer, inputs["test"][:1]) | identity
    (out_dir / "peer.json").write_text(json.dumps(info, sort_keys=True, indent=2, allow_nan=False) + "\n")


def make_peer(settings: PeerSettings) -> Peer:
    """Build a peer; every draw from here on is a function of the seed."""
    random.seed(settings.seed)
    np.random.seed(settings.seed)  # scikit-learn draws from it, for anomalib's random projection
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    return PEERS[settings.model](settings)


def predict(peer: Peer, test: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Judge every picture. -> scores float64 (N,), maps float32 (N, S, S); ValueError: one is not finite."""
    peer.model.eval()
    scores, maps = [], []
    with torch.inference_mode():
        for images in test.batches(PREDICTION_BATCH):
            of_batch = peer.predict(images)
            scores.append(of_batch[0].double().cpu().numpy())
            maps.append(of_batch[1].float().cpu().numpy())
    all_scores, all_maps = np.concatenate(scores), np.concatenate(maps)
    if not (np.isfinite(all_scores).all() and np.isfinite(all_maps).all()):
        raise ValueError(
            f"{peer.settings.model} gives scores or maps that are not finite (train it longer, or shorter)"
        )
    return all_scores, all_maps


def describe(peer: Peer) -> dict[str, Any]:
    """What ran, beside the settings that were asked for."""
    settings = peer.settings
    has_backbone = settings.published.backbone is not None
    return {
        "backbone": settings.used_backbone,
        "untrained": has_backbone and not peer.has_trained_weights,
        "layers": [] if peer.backbone is None else list(peer.backbone.layers),
        "width": settings.used_width,
        "is_published_width": settings.used_width == settings.published.width,
        "batch_size": settings.used_batch_size,
        "map_source": peer.map_source,
        "device": settings.device if settings.device == "cpu" else torch.cuda.get_device_name(settings.device),
        "versions": {name: version(name) for name in PACKAGES},
    }
