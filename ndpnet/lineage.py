"""What a result was made with: hashes of code and parameters, content only."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ndpnet.config import Params
from ndpnet.files import hash_of, sha256_of
from ndpnet.pretrained_weights import weights_path

PACKAGE_DIR = Path(__file__).parent
ADAPTERS = ("components", "pipelines", "benchmark")  # links; they call the library, no result is made of them
# a change here may change a model: its pictures, what a training step computes, the scores that set its threshold
TRAINING_CODE = (
    *("config.py", "lineage.py", "losses.py", "perceptual.py", "model", "synthesis", "training"),
    *(f"data/{name}.py" for name in ("arrays", "fitting", "images", "levels", "manifest", "masks", "png", "prepared")),
    *(f"data/{name}.py" for name in ("preparing", "roi", "split", "tiling")),
    *(f"inference/{name}.py" for name in ("calibration", "inspector", "likeness", "package", "rules", "scanning")),
    "inference/engines/engine.py",
    *(f"metrics/{name}.py" for name in ("exact", "properties", "threshold")),
)
# encoder and decoder are trained without what these decide
OF_PHASE2 = {
    "model": (
        *("softmax_scale", "patch_sizes", "ffm_channels", "ffm_kernel", "ffm_norm", "segmentation_input"),
        *("reference", "num_references", "anomaly_map", "head_channels"),
    ),
    "losses": (
        *("feature_repair_weight", "feature_repair_relative"),
        *("segmentation_weight", "focal_gamma", "focal_alpha"),
    ),
}


def code_hash(names: Sequence[str] = TRAINING_CODE) -> str:
    """Hash of the named sources, files or folders of this package: those that decide what a model package is."""
    paths: list[Path] = []
    for name in names:
        path = PACKAGE_DIR / name
        paths += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return _hash_of_sources(paths)


def sources_hash() -> str:
    """Hash of the whole library, adapters apart: what a step computes is a function of it, parameters and inputs."""
    paths = sorted(PACKAGE_DIR.rglob("*.py"))
    return _hash_of_sources([path for path in paths if path.relative_to(PACKAGE_DIR).parts[0] not in ADAPTERS])


def _hash_of_sources(paths: Sequence[Path]) -> str:
    return hash_of([[path.relative_to(PACKAGE_DIR).as_posix(), sha256_of(path)] for path in paths])


def params_hash(params: Params) -> str:
    """Hash of the parameters that decide what is computed."""
    return hash_of(identity_params(params))


def identity_params(params: Params) -> dict[str, Any]:
    """The parameters that belong to a model's identity: a file counts by its content, not by where it lies."""
    elsewhere: dict[str, Any] = {
        "runtime": True,
        "categories": True,
        "promotion": True,
        "cluster": True,
        "synthesis": {"sources"},
    }  # the bank's hash stands for its sources
    values = params.model_dump(mode="json", exclude=elsewhere)
    weights = Path(params.losses.perceptual_weights)
    if weights.is_file():
        values["losses"]["perceptual_weights"] = f"sha256:{sha256_of(weights)}"
    if params.model.encoder != "own":
        values["model"]["encoder_weights"] = f"sha256:{sha256_of(weights_path(params.model.encoder_weights))}"
    return values


def phase1_params(params: Params) -> dict[str, Any]:
    """Of these the parameters that phase 1 depends on: many a phase 2 may follow the same phase 1."""
    values = identity_params(params)
    del values["evaluation"], values["train"]["phase2"]
    for section, names in OF_PHASE2.items():
        for name in names:
            del values[section][name]
    return values


def folder_hash(folder: Path, names: tuple[str, ...]) -> str:
    """Hash of the named files of a step's output. ValueError names a missing one."""
    missing = [name for name in names if not (Path(folder) / name).is_file()]
    if missing:
        raise ValueError(f"{folder} has no {missing[0]} (run the step that makes it again)")
    return hash_of([[name, sha256_of(Path(folder) / name)] for name in names])


def processor() -> str:
    """The instructions that torch computes with here, as AVX512: the same data and code give other bits with others."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide a model's numbers."""
    return {name: version(name) for name in ("torch", "numpy", "pillow", "lightning-fabric")}
