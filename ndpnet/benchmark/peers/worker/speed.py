"""What each peer costs at its published width: `python -m worker.speed [MODEL ...]` prints one JSON line each.

Speed does not depend on weights: networks run at random, and memories are filled with random numbers.
"""

import argparse
import json
import logging
import os
import platform
from typing import TYPE_CHECKING, Any

from worker.settings import LITE0, MODELS, PeerSettings

if TYPE_CHECKING:
    from torch import Tensor

    from worker.peer import Peer

# 10 % of the patches of 253 pictures, the mean of MVTec AD's five textures: 32 x 32 patches of a picture of 256 px
CORE_SET_SHARE, NUM_PICTURES = 0.1, 253


def main() -> None:
    """Measure the models that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[*MODELS, f"padim:{LITE0}", f"patchcore:{LITE0}"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="every model is measured so often, in turn")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    logging.basicConfig(level=logging.WARNING)
    for number in range(arguments.rounds):
        for name in arguments.models:
            model, _, backbone = name.partition(":")
            settings = PeerSettings(
                model=model,
                image_size=arguments.size,
                backbone=backbone or None,
                sources="none" if MODELS[model].needs_sources else None,
                allow_untrained=True,
                device=arguments.device,
            )
            line = {"name": name, "round": number, "machine": platform.processor() or platform.machine()}
            print(json.dumps(line | _measure(settings)), flush=True)


def _measure(settings: PeerSettings) -> dict[str, Any]:
    import numpy as np

    from worker.measuring import measure
    from worker.peer import Inputs
    from worker.run import make_peer

    peer = make_peer(settings)
    size = settings.image_size
    picture = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    image = Inputs(picture, peer.scaling, settings.device)[:1]
    if settings.model in ("padim", "patchcore"):
        _fill(peer, image)
    return measure(peer, image)


def _fill(peer: "Peer", image: "Tensor") -> None:
    """Give a memory the size that it would have; its shape is read off what one picture leaves."""
    import torch

    peer.model.train()
    features = peer.model(image)
    if peer.settings.model == "patchcore":
        num_patches, channels = features.shape
        peer.model.memory_bank = torch.randn(int(CORE_SET_SHARE * NUM_PICTURES * num_patches), channels).to(image)
        return
    _, channels, height, width = features.shape
    peer.model.memory_bank.clear()
    peer.model.gaussian.mean = features[0].reshape(channels, height * width)
    peer.model.gaussian.inv_covariance = torch.eye(channels).to(image).repeat(height * width, 1, 1)


if __name__ == "__main__":
    main()
