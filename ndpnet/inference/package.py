"""The model package: all that a prediction needs, in one folder, without pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ndpnet.config import ModelConfig, Params
from ndpnet.data.images import read_image
from ndpnet.data.manifest import Manifest
from ndpnet.data.prepared import PreparedData
from ndpnet.data.roi import ROI, read_roi, write_roi
from ndpnet.data.tiling import Tiling
from ndpnet.files import hash_of, sha256_of, write_json
from ndpnet.inference.identity import package_hash, read_sealed, sealed
from ndpnet.inference.rules import RULES, Rules
from ndpnet.lineage import code_hash, identity_params, library_versions, params_hash, processor

if TYPE_CHECKING:
    import torch

    from ndpnet.model import Network

FORMAT_VERSION = 15
WEIGHTS, REFERENCE, MANIFEST, CONFIG = "weights.safetensors", "reference.png", "manifest.json", "config.json"
HASHED_FILES = (WEIGHTS, REFERENCE, MANIFEST)
OPTIONAL_FILES = {ROI: "--roi", RULES: "--rules"}  # and what makes them


@dataclass(frozen=True)
class ModelPackage:
    """A package that was read and checked."""

    folder: Path
    config: dict[str, Any]

    @property
    def threshold(self) -> dict[str, Any] | None:
        """The threshold record; None where there was no calibration image."""
        return self.config["threshold"]

    @property
    def surface(self) -> dict[str, Any] | None:
        """What the calibration images look like (`likeness`); None where there was none."""
        return self.config["surface"]

    @property
    def is_recalibrated(self) -> bool:
        """Whether other pictures than the training's own calibration split have set its threshold."""
        return self.manifest().data_hash != self.config["lineage"]["training_data_hash"]

    @property
    def package_hash(self) -> str:
        """Of all its files: the name that registry, report and station have for it."""
        return package_hash(self.folder)

    @property
    def model_hash(self) -> str:
        """Of weights, references, training manifest and region: what is judged, but for the threshold."""
        return hash_of(self.config["files"])

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels; of scans those of a training tile."""
        height, width = self.config["input_size"]
        return height, width

    @property
    def graph_size(self) -> tuple[int, int]:
        """(height, width) of what the network is given at inspection; of scans those of a tile."""
        return self.input_size if self.tiling is None else (self.tiling.side, self.tiling.side)

    @property
    def aspect_ratio(self) -> float:
        """Width / height of a picture that fills the network's input."""
        return self.config["aspect_ratio"]

    @property
    def score_pixels(self) -> int:
        """How many of a map's highest pixels a score is the mean of."""
        return self.config["params"]["model"]["score_pixels"]

    @property
    def has_bank(self) -> bool:
        """Whether it compares with a bank of good patches, behind a frozen encoder."""
        return self.config["params"]["model"]["encoder"] != "own"

    @property
    def tiling(self) -> Tiling | None:
        """How scans are cut; None of a model that sees whole pictures."""
        data = self.config["params"]["data"]
        if data["mode"] != "tile":
            return None
        return Tiling(data["tile_side"], data["scale"], has_filters=not self.has_bank)

    @property
    def lacks_perceptual_loss(self) -> bool:
        """Whether it was trained without a loss that the paper's encoder has; behind a frozen one it decides no map."""
        return not self.has_bank and self.config["params"]["losses"]["perceptual_weights"] == "none"

    def use_its_threads(self) -> None:
        """Compute with as many threads as its training did, in this process: the bits of a score depend on it."""
        import torch

        torch.set_num_threads(self.config["params"]["train"]["num_threads"])

    def roi(self) -> np.ndarray | None:
        """The region of interest as it was drawn; None: all is inspected. -> bool (H, W)."""
        return read_roi(self.folder / ROI)

    def load_network(self, device: "torch.device") -> "Network":
        """The trained network in eval mode with its reference set."""
        import torch
        from safetensors.torch import load_file

        from ndpnet.model.weights import make_network
        from ndpnet.synthesis.compose import to_unit

        network = make_network(ModelConfig.model_validate(self.config["params"]["model"]), is_trained=True)
        network.load_state_dict(load_file(self.folder / WEIGHTS))
        network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        network.set_reference(to_unit(torch.from_numpy(self.references())).to(device))
        return network

    def manifest(self) -> Manifest:
        """The good images the model was trained, watched and calibrated on."""
        return Manifest.load(self.folder / MANIFEST)

    def rules(self) -> Rules | None:
        """What counts as a defect, where a person has said so."""
        path = self.folder / RULES
        return Rules.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None

    def references(self) -> np.ndarray:
        """The reference images. -> uint8 (R, H, W, 3)."""
        return read_image(self.folder / REFERENCE).reshape(-1, *self.input_size, 3).copy()


def write_references(references: np.ndarray, path: Path) -> None:
    """Save reference images as one PNG, one below the other. references: uint8 (R, H, W, 3)."""
    Image.fromarray(references.reshape(-1, *references.shape[2:])).save(path)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Finish a package: `config` plus format version and the hashes of the files beside it."""
    names = (*HASHED_FILES, *(name for name in OPTIONAL_FILES if (folder / name).exists()))
    files = {name: sha256_of(folder / name) for name in names}
    write_json(folder / CONFIG, sealed(config | {"format_version": FORMAT_VERSION, "files": files}))


def read_package(folder: Path) -> ModelPackage:
    """Open a package. ValueError in one line: not a package, of another version, or with a damaged file."""
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"no model package in {folder} (it has no {CONFIG}; run `ndpnet train-phase2`)")
    fix = "retrain, or install the ndpnet that wrote it"
    config = read_sealed(path, FORMAT_VERSION, fix, fix_damage="copy the package again")
    for name, option in OPTIONAL_FILES.items():
        if name not in config["files"] and (folder / name).exists():
            raise ValueError(
                f"{folder / name} is no part of this model (remove it; `ndpnet calibrate {option}` makes one)"
            )
    return ModelPackage(folder, config)


def write_training(
    folder: Path,
    network: "Network",
    prepared: PreparedData,
    reference_indices: list[int],
    params: Params,
    inputs: dict[str, str],
    checks: dict[str, Any] | None,
) -> None:
    """Write everything of a package but its threshold; `inputs` are the hashes of what else it was made of.

    checks: what `ndpnet.training.checks` found.
    """
    from ndpnet.model.weights import write_weights

    names = prepared.row_names("train")
    write_weights(network, folder / WEIGHTS)
    write_references(np.array(prepared.images("train")[reference_indices]), folder / REFERENCE)
    roi = prepared.roi()
    if roi is not None:
        write_roi(folder / ROI, roi)
    files = tuple(record for record in prepared.manifest.files if record.split != "test")
    manifest = Manifest(prepared.manifest.category, files)
    manifest.save(folder / MANIFEST)
    config = {
        "category": manifest.category,
        "input_size": prepared.input_size,
        "aspect_ratio": prepared.aspect_ratio,
        "params": identity_params(params),
        "references": [names[index] for index in reference_indices],
        "lineage": {
            "training_data_hash": manifest.data_hash,
            "is_data_pinned": prepared.is_pinned,
            "params_hash": params_hash(params),
            "code_hash": code_hash(),
            "versions": library_versions(),
            "processor": processor(),
            **inputs,
        },
        "checks": checks,
        "threshold": None,
        "surface": None,
    }
    write_config(folder, config)
