"""The synthetic validation set: held-out good images with artificial defects, the same in every run."""

import logging
from pathlib import Path

import numpy as np
import torch

from ndpnet.config import Params
from ndpnet.files import replace_file
from ndpnet.losses import defect_perception_loss, reconstruction_loss
from ndpnet.metrics import exact
from ndpnet.model import Network
from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import DefectComposer

PHASE_ID = 3  # of its random draws
MAX_IMAGES = 32
CHUNK = 8
NUM_PICTURES = 4

logger = logging.getLogger(__name__)


class SyntheticValidation:
    """Half of the held-out images carry a defect; watched during training, decides nothing."""

    def __init__(self, images: np.ndarray, bank: DefectBank, params: Params, *, device: torch.device) -> None:
        self.score_pixels, self.has_own_encoder = params.model.score_pixels, params.model.encoder == "own"
        composer = DefectComposer(images, bank, params.synthesis, seed=params.seed, phase=PHASE_ID, device=device)
        count = min(MAX_IMAGES, 2 * len(images))
        draws = [composer.draw(0, count, sample) for sample in range(count)]
        for sample, draw in enumerate(draws):
            draw.is_defect_free = sample % 2 == 1
        self.batches = [composer.compose(draws[start : start + CHUNK]) for start in range(0, count, CHUNK)]

    @torch.no_grad()
    def phase1(self, network: Network) -> dict[str, float]:
        """Reconstruction error of the clean images; L_def_per of the defective ones, if the encoder is trained."""
        network.eval()
        terms: dict[str, list[float]] = {"reconstruction": [], "defect_perception": []}
        for batch in self.batches:
            clean = network.encoder(batch.clean)
            terms["reconstruction"].append(reconstruction_loss(network.rebuild(clean), batch.clean).item())
            if self.has_own_encoder:
                seen = defect_perception_loss(clean, network.encoder(batch.defective), batch.mask)
                terms["defect_perception"].append(seen.item())
        return {name: sum(values) / len(values) for name, values in terms.items() if values}

    @torch.no_grad()
    def write_picture(self, network: Network, path: Path) -> None:
        """Draw the first artificial defects with their maps, one below the other. A full disk is no reason to stop."""
        from ndpnet.inference.overlay import encode_png, panel

        network.eval()
        batch = self.batches[0]
        maps, reconstructions = (output.float().cpu() for output in network.predict(batch.defective))
        top = 1.0 if self.has_own_encoder else float(maps.max())
        rows = []
        for index in range(0, min(2 * NUM_PICTURES, len(maps)), 2):  # every second one is free of defects
            surfaces = (_to_pixels(batch.defective[index]), _to_pixels(reconstructions[index]))
            truth = (batch.mask[index, 0] > 0).cpu().numpy()
            rows.append(
                panel(
                    *surfaces, maps[index, 0].numpy(), threshold=None, vmax=top or 1.0, truth=truth, caption=path.stem
                )
            )
        try:
            replace_file(path, encode_png(np.concatenate(rows)))
        except OSError as error:
            logger.warning("no picture of the validation: %s", error)

    @torch.no_grad()
    def phase2(self, network: Network) -> dict[str, float]:
        """Image and pixel ROCAUC of the artificial defects, reconstruction error of the repaired images."""
        network.eval()
        maps, errors = [], []
        for batch in self.batches:
            anomaly_map, reconstruction = network.predict(batch.defective)
            maps.append(anomaly_map.float().cpu())
            errors.append(reconstruction_loss(reconstruction, batch.clean).item())
        planes = torch.cat(maps)[:, 0].numpy()
        scores = np.array([exact.image_score(plane, self.score_pixels) for plane in planes])
        masks = (torch.cat([batch.mask for batch in self.batches]).cpu() > 0)[:, 0].numpy()
        return exact.aurocs(planes, scores, masks) | {"reconstruction": float(np.mean(errors))}


def _to_pixels(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    return (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
