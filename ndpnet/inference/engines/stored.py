"""An engine as it lies in a model package: `engines/NAME/` with its graph, the parity it showed and its threshold."""

import json
from pathlib import Path
from typing import Any

from ndpnet.files import hash_of, sha256_of, write_json
from ndpnet.inference.engines import ENGINES, ENGINES_DIR, engine_name
from ndpnet.inference.engines.runtimes import GRAPH_FILES, GraphEngine, open_graph
from ndpnet.inference.identity import read_sealed, sealed
from ndpnet.inference.package import REFERENCE, WEIGHTS, ModelPackage

ENGINE, PARITY = "engine.json", "parity.json"
FORMAT_VERSION = 2


def open_graph_of(folder: Path, package: ModelPackage, engine: str, float_type: str) -> GraphEngine:
    """Load the graph in an engine's folder, with as many threads as torch has."""
    import torch

    size, num_threads = package.graph_size, torch.get_num_threads()
    return GraphEngine(open_graph(engine, folder, float_type=float_type, input_size=size, num_threads=num_threads))


def made_from(package: ModelPackage) -> str:
    """Hash of what a graph is a function of: weights, reference and parameters, not the calibration."""
    files = package.config["files"]
    return hash_of([files[WEIGHTS], files[REFERENCE], package.config["params"]])


def engine_names(package: ModelPackage) -> tuple[str, ...]:
    """Engines that a package carries besides torch, sorted. ValueError: a folder that is none."""
    folder = package.folder / ENGINES_DIR
    paths = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in paths if path.is_dir() and not path.name.startswith("."))
    known = {f"{engine}-{precision}" for engine, precisions in ENGINES.items() for precision in precisions}
    for name in names:
        if name not in known:
            raise ValueError(f"{folder / name} is no engine of this ndpnet (remove it)")
    return tuple(names)


def write_engine(folder: Path, package: ModelPackage, record: dict[str, Any]) -> None:
    """Finish an engine's folder, which has graph and parity already, with its record."""
    files = {name: sha256_of(folder / name) for name in (*GRAPH_FILES[record["engine"]], PARITY)}
    whole = record | {"made_from": made_from(package), "files": files, "format_version": FORMAT_VERSION}
    write_json(folder / ENGINE, sealed(whole))


def largest_difference(package: ModelPackage) -> float | None:
    """How far the package's engines are from torch at most, as they were exported; None without engines.

    fp32 without a bank by its scores; others, which have thresholds of their own, by image and pixel ROCAUC.
    """
    gaps = []
    for name in engine_names(package):
        folder, _ = read_engine(package, *name.split("-"))
        parity = json.loads((folder / PARITY).read_text(encoding="utf-8"))
        if "map_difference" in parity["bounds"]:
            gaps += [parity[images]["largest_score_difference"] for images in ("training", "validation")]
        else:
            gaps += [abs(parity["validation"][metric]["difference"]) for metric in ("image_auroc", "pixel_auroc")]
    return max(gaps, default=None)


def replace_threshold(folder: Path, threshold: dict[str, Any]) -> None:
    """Give an engine's folder another threshold record."""
    record = json.loads((folder / ENGINE).read_text(encoding="utf-8"))
    write_json(folder / ENGINE, sealed(record | {"threshold": threshold}))


def read_engine(package: ModelPackage, engine: str, precision: str | None = None) -> tuple[Path, dict[str, Any]]:
    """An engine's folder and its record, checked. ValueError in one line: not there, damaged, or of another model."""
    folder = package.folder / ENGINES_DIR / _choose(package, engine, precision)
    record = read_sealed(folder / ENGINE, FORMAT_VERSION, "export the model again")
    if record["made_from"] != made_from(package):
        raise ValueError(f"{folder} was exported from another model (export this one)")
    return folder, record


def _choose(package: ModelPackage, engine: str, precision: str | None) -> str:
    """Folder of the engine that is asked for; without a precision the finest that the package has."""
    engine_name(engine, precision or "fp32")  # refuses what is none
    names, precisions = engine_names(package), ENGINES[engine] if precision is None else (precision,)
    name = next((name for each in precisions if (name := f"{engine}-{each}") in names), None)
    if name is None:
        has = f"it has {', '.join(names)}" if names else "it has none"
        asked = engine if precision is None else f"{engine}-{precision}"
        raise ValueError(f"no engine {asked} in {package.folder} ({has}; make it with `ndpnet export`)")
    return name
