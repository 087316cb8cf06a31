"""Whether an engine says what torch says: maps, scores and verdicts on training and synthetic validation images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ndpnet.config import SynthesisConfig
from ndpnet.data.arrays import spread_rows
from ndpnet.data.fitting import continue_surface
from ndpnet.data.prepared import PreparedData
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import ModelPackage
from ndpnet.metrics.exact import Planes, aurocs
from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import DefectComposer

MAX_DIFFERENCE = 1e-4  # of fp32, in map and score
# behind a bank: where two patches are as near as each other to the last bit, each engine may take another one
MAX_BANK_SCORE_DIFFERENCE = 0.01
MAX_AUROC_DIFFERENCE = 0.002  # of bf16 and int8, image and pixel
PHASE_ID = 4  # of its random draws; 1 to 3 are those of training and its validation
NUM_TRAINING, NUM_VALIDATION = 16, 256  # of 64 images bf16 moves image ROCAUC by up to 0.8 points either way, by chance
MAX_NAMED = 20  # differing verdicts that are listed


@dataclass(frozen=True)
class ParityImages:
    """What both engines are shown. Both: uint8 (N, H, W, 3); masks: bool (N, H, W), of the validation images."""

    training: np.ndarray
    training_names: list[str]
    validation: np.ndarray
    masks: np.ndarray
    is_held_out: bool  # whether the validation images come from the validation split, or else from training


def choose_images(prepared: PreparedData, bank: DefectBank, package: ModelPackage) -> ParityImages:
    """Training images spread over the split, and good images of the validation split with artificial defects.

    All of the size that the graph takes.
    """
    training, held_out, names = prepared.images("train"), prepared.images("validation"), prepared.row_names("train")
    rows = spread_rows(len(training), NUM_TRAINING)
    surfaces = held_out if len(held_out) else training
    filled = [continue_surface(surfaces[row], package.graph_size) for row in spread_rows(len(surfaces), NUM_VALIDATION)]
    validation, masks = with_defects(filled, bank, package.config["params"])
    shown = np.stack([continue_surface(training[row], package.graph_size) for row in rows])
    return ParityImages(shown, [names[row] for row in rows], validation, masks, len(held_out) > 0)


def with_defects(images: Planes, bank: DefectBank, params: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Artificial defects on every second of NUM_VALIDATION images: a function of images, bank and seed.

    images: uint8 (N, H, W, 3). Where the bank's patches are smaller, the defect lies in one patch of the image; its
    surface stays as it is, so that the patch has no border. Where images are few they come again, turned, mirrored,
    lighter or darker: copies with one score would decide a ROCAUC by a few pairs. -> uint8 (M, H, W, 3), bool (M, H, W)
    """
    (height, width), patch, seed = images[0].shape[:2], bank.patch_size, params["seed"]
    rng, jitter = np.random.default_rng([seed, PHASE_ID]), params["synthesis"]["surface_jitter"]
    gains = 1 + jitter * rng.uniform(-1, 1, NUM_VALIDATION)
    pictures = np.stack([_variant(images, index, gains[index]) for index in range(NUM_VALIDATION)])
    corners = rng.integers(0, [height - patch + 1, width - patch + 1], (NUM_VALIDATION, 2))
    windows = [(slice(top, top + patch), slice(left, left + patch)) for top, left in corners]
    crops = np.stack([picture[window] for picture, window in zip(pictures, windows, strict=True)])
    still = {"surface_jitter": 0.0, "sources": ""}  # the bank has pixels of these
    synthesis = SynthesisConfig.model_validate(params["synthesis"] | still)
    composer = DefectComposer(crops, bank, synthesis, seed=seed, phase=PHASE_ID, device=torch.device("cpu"))
    masks = np.zeros(pictures.shape[:3], dtype=bool)
    for index, window in enumerate(windows):
        draw = composer.draw(0, NUM_VALIDATION, index)
        draw.image, draw.is_defect_free = index, index % 2 == 1
        batch = composer.compose([draw])
        pictures[index][window] = (batch.defective[0] * 255).round().byte().permute(1, 2, 0).numpy()
        masks[index][window] = batch.mask[0, 0].numpy() > 0
    return pictures, masks


def _variant(images: Planes, index: int, gain: float) -> np.ndarray:
    """Images in turn: first as they are, then in another of their symmetries each round, times `gain`."""
    number, row = divmod(index, len(images))
    if number == 0:
        return np.asarray(images[row])
    height, width = images[row].shape[:2]
    # a square has 8 symmetries, another rectangle 4
    turned = np.rot90(images[row], number % 4 if height == width else 2 * (number % 2))
    mirrored = turned[:, ::-1] if number % 8 >= 4 else turned
    return (mirrored * gain).round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Answers:
    """What one engine says of some images. maps: float32 (N, H, W), scores: float64 (N,)."""

    maps: np.ndarray
    scores: np.ndarray


Thresholds = tuple[float | None, float | None]  # torch's and the engine's own


def ask(inspector: Inspector, package: ModelPackage, images: ParityImages) -> dict[str, Answers]:
    """Answers to training and validation images, the region of interest aside: a graph is compared as a whole."""
    bare = Inspector.of(package, inspector.engine)
    return {
        split: answers_of(bare, tqdm(of_split, f"{inspector.engine_name} {split}", disable=None))
        for split, of_split in (("training", images.training), ("validation", images.validation))
    }


def answers_of(inspector: Inspector, images: Iterable[np.ndarray]) -> Answers:
    """Predict images one by one, uint8 (H, W, 3) each."""
    predictions = [inspector.predict(image) for image in images]
    maps, scores = zip(*((prediction.anomaly_map, prediction.score) for prediction in predictions), strict=True)
    return Answers(np.stack(maps), np.array(scores))


def compare(
    expected: Mapping[str, Answers], answers: Mapping[str, Answers], images: ParityImages, *, thresholds: Thresholds
) -> dict[str, Any]:
    """The numbers of parity.json. expected: torch's, answers: the engine's."""
    names = {
        "training": images.training_names,
        "validation": [f"validation {index}" for index in range(len(images.validation))],
    }
    parity: dict[str, Any] = {"thresholds": {"torch": thresholds[0], "engine": thresholds[1]}}
    parity |= {split: _differences(names[split], expected[split], answers[split], thresholds) for split in names}
    num_defective = int(images.masks.any(axis=(1, 2)).sum())
    parity["validation"] |= {"are_held_out": images.is_held_out, "num_defective": num_defective}
    of_torch, of_engine = (
        aurocs(given["validation"].maps, given["validation"].scores, images.masks) for given in (expected, answers)
    )
    for name, value in of_torch.items():
        difference = of_engine[name] - value
        parity["validation"][name] = {"torch": value, "engine": of_engine[name], "difference": difference}
    return parity


def _differences(names: Sequence[str], expected: Answers, answers: Answers, thresholds: Thresholds) -> dict[str, Any]:
    """Of the maps, scores and verdicts of some images."""
    gap = np.abs(expected.maps - answers.maps)
    result = {
        "num_images": len(names),
        "largest_map_difference": float(gap.max()),
        "mean_map_difference": float(gap.mean(dtype=np.float64)),
        "largest_score_difference": float(np.abs(expected.scores - answers.scores).max()),
    }
    if None in thresholds:
        return result | {"num_differing_verdicts": None, "differing_verdicts": []}
    rows = np.flatnonzero((expected.scores > thresholds[0]) != (answers.scores > thresholds[1]))
    listed = [
        {"image": names[row], "torch": expected.scores[row], "engine": answers.scores[row]} for row in rows[:MAX_NAMED]
    ]
    return result | {"num_differing_verdicts": len(rows), "differing_verdicts": listed}


def bounds_of(precision: str, *, has_bank: bool) -> dict[str, float]:
    """What the gate asks of a precision, by the names of what it bounds."""
    if precision == "fp32" and not has_bank:
        return {"map_difference": MAX_DIFFERENCE, "score_difference": MAX_DIFFERENCE}
    bounds = {"image_auroc_difference": MAX_AUROC_DIFFERENCE, "pixel_auroc_difference": MAX_AUROC_DIFFERENCE}
    if precision == "fp32":
        bounds |= {"mean_map_difference": MAX_DIFFERENCE, "score_difference": MAX_BANK_SCORE_DIFFERENCE}
    return bounds


def excesses(parity: dict[str, Any], bounds: dict[str, float]) -> list[str]:
    """What of a comparison lies beyond the bounds, in words; empty: the engine may be used."""

    def largest(name: str) -> float:
        # numpy's maximum of anything and NaN is NaN, which no bound admits
        return float(np.max([parity[split][name] for split in ("training", "validation")]))

    measured = {
        "map_difference": largest("largest_map_difference"),
        "mean_map_difference": largest("mean_map_difference"),
        "score_difference": largest("largest_score_difference"),
        "image_auroc_difference": abs(parity["validation"]["image_auroc"]["difference"]),
        "pixel_auroc_difference": abs(parity["validation"]["pixel_auroc"]["difference"]),
    }
    return [
        f"{name.replace('_', ' ')} {measured[name]:.2g} above {bound:g}"
        for name, bound in bounds.items()
        if not measured[name] <= bound
    ]
