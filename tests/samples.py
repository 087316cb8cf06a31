"""A small surface with defects and the smallest parameters that every step takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from ndpnet.config import PARAMS_PATH, DataConfig, Params, SynthesisConfig, load_params

CATEGORY = "wall"
SIZE = 64  # of the network's input
# by the hashes of their names p00 ... p05 train, p08, p11 and p17 calibrate, p23 validates
GROUPS, NUM_PER_GROUP = ("p00", "p01", "p02", "p03", "p04", "p05", "p08", "p11", "p17", "p23"), 2
NUM_STEPS = 12  # of each phase
FOLDERS = ("prepared", "bank", "phase1", "model")  # that the steps write
TINY: dict[str, Any] = {
    "categories": [CATEGORY],
    "data": {"image_size": SIZE, "group_pattern": "_(p\\d+)_", "calibration_fraction": 0.2, "validation_fraction": 0.1},
    "synthesis": {
        "num_sources": 16,
        "num_masks": 64,
        "patch_size": SIZE,
        "line_share": 0.5,
        "crack_share": 0.0,
        "plain_share": 0.5,
        "surface_share": 0.0,
        "beta_max": 0.8,
    },
    "model": {
        "encoder": "own",
        "anomaly_map": "fused",
        "score_pixels": 1,
        "base_width": 4,
        "ffm_channels": 4,
        "num_references": 1,
    },
    "losses": {"perceptual_weights": "none"},
    "train": {
        "batch_size": 4,
        "schedule": "cosine",
        "gradient_clip": 1.0,
        "ema_decay": 0.9,
        "num_validations": 2,
        "phase1": {"epochs": 4, "min_steps": 0, "learning_rate": 0.001},
        "phase2": {"epochs": 4, "min_steps": 0, "learning_rate": 0.001},
    },
    "evaluation": {"target_false_alarm_rate": 0.01, "num_cases": 6},
    "runtime": {"accelerator": "cpu", "checkpoint_seconds": 0, "log_seconds": 0},
}


@dataclass(frozen=True)
class Pipeline:
    """Folders that the steps wrote, from pictures to a model package."""

    data_dir: Path  # with one folder, CATEGORY
    params_path: Path
    params: Params
    prepared_dir: Path
    bank_dir: Path
    phase1_dir: Path
    model_dir: Path
    metrics: dict[str, dict[str, Any]]  # what each step returned

    @property
    def inputs(self) -> list[str]:
        """The options that name the inputs of training."""
        return ["--prepared", str(self.prepared_dir), "--bank", str(self.bank_dir)]


def pipeline_in(folder: Path, data_dir: Path, metrics: dict[str, dict[str, Any]]) -> Pipeline:
    """What `run_steps` left in a folder."""
    path = folder / "params.yaml"
    return Pipeline(data_dir, path, load_params(path), *(folder / name for name in FOLDERS), metrics)


def run_steps(folder: Path, data_dir: Path, category: str = CATEGORY, **changes: Any) -> Pipeline:
    """Every step up to a trained package, below a folder. changes: of the tiny parameters."""
    from ndpnet import steps

    write_params(folder / "params.yaml", **changes)
    made = pipeline_in(folder, data_dir, {})
    inputs, params, work_dir = (made.prepared_dir, made.bank_dir), made.params, folder / "work"
    made.metrics.update(
        prepare=steps.prepare(data_dir, category, made.prepared_dir, params, allow_unpinned=True),
        synthesize=steps.synthesize(made.bank_dir, params),
        train_phase1=steps.train_phase1(*inputs, made.phase1_dir, params, work_dir),
        train_phase2=steps.train_phase2(*inputs, made.phase1_dir, made.model_dir, params, work_dir),
    )
    return made


def lay_over(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Values with nested changes; an empty table replaces the one that is there."""
    merged = dict(values)
    for name, change in changes.items():
        both_nested = bool(change) and isinstance(change, dict) and isinstance(values.get(name), dict)
        merged[name] = lay_over(values[name], change) if both_nested else change
    return merged


def write_params(path: Path, **changes: Any) -> Path:
    """Write a parameter file: the built-in one with TINY and `changes` laid over it."""
    values = lay_over(lay_over(yaml.safe_load(PARAMS_PATH.read_text()), TINY), changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


def data_config(**changes: Any) -> DataConfig:
    """What `prepare` takes: the built-in parameters with changes."""
    return DataConfig.model_validate(load_params().data.model_dump() | changes)


def synthesis_config(**changes: Any) -> SynthesisConfig:
    """What `make_bank` takes: the built-in parameters with changes."""
    return SynthesisConfig.model_validate(load_params().synthesis.model_dump() | changes)


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """Write uint8 (H, W) or (H, W, 3), or a bool mask. -> the path"""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def write_category(category_dir: Path, photograph: np.ndarray, *, stretch: float = 1.0) -> None:
    """Write a category in MVTec's layout: 64 px training crops, larger test crops, two types of drawn defects.

    stretch: width of a training crop in its heights.
    """
    rng = np.random.default_rng(0)

    def crop(height: int, side: int) -> np.ndarray:
        width = int(stretch * side)
        top, left = rng.integers(0, 512 - height), rng.integers(0, 512 - width)
        return photograph[top : top + height, left : left + width].copy()

    for group in GROUPS:
        for shot in range(NUM_PER_GROUP):
            write_picture(category_dir / f"train/good/wall_{group}_{shot}.png", crop(SIZE, SIZE))
    for number in range(6):
        write_picture(category_dir / f"test/good/wall_p{90 + number}_0.png", crop(96, 80))
    for number in range(6):
        defect_type = ("hole", "scratch")[number % 2]
        image = crop(80, 96)
        mask = np.zeros(image.shape[:2], dtype=bool)
        if defect_type == "hole":
            mask[30:50, 20 + number : 44 + number] = True
        else:
            mask[10:70, 60 - number : 64 - number] = True
        image[mask] = 250
        write_picture(category_dir / f"test/{defect_type}/wall_p{80 + number}_1.png", image)
        write_picture(category_dir / f"ground_truth/{defect_type}/wall_p{80 + number}_1_mask.png", mask)
