"""`ndpnet export`: a copy of a model package with one more engine, if that engine says what torch says."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ndpnet.data.arrays import spread_rows
from ndpnet.data.fitting import continue_surface
from ndpnet.data.manifest import content_hash
from ndpnet.data.prepared import PreparedData
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, check_apart
from ndpnet.inference.calibration import measure_prepared
from ndpnet.inference.engines import ENGINES_DIR, engine_name
from ndpnet.inference.engines.graph import write_onnx
from ndpnet.inference.engines.parity import (
    MAX_AUROC_DIFFERENCE,
    Answers,
    ParityImages,
    answers_of,
    ask,
    bounds_of,
    choose_images,
    compare,
    excesses,
)
from ndpnet.inference.engines.quantise import quantise
from ndpnet.inference.engines.rounding import save_graph
from ndpnet.inference.engines.runtimes import (
    ONNX_GRAPH,
    OPENVINO_GRAPH,
    RUNTIME_MODULES,
    GraphEngine,
    RunGraph,
    float_type_here,
    load_module,
)
from ndpnet.inference.engines.stored import PARITY, engine_names, open_graph_of, read_engine, write_engine
from ndpnet.inference.identity import copy_package, hash_without_engines
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import REFERENCE, ModelPackage, read_package
from ndpnet.lineage import folder_hash
from ndpnet.metrics.exact import aurocs
from ndpnet.synthesis.bank import BANK_FILES, DefectBank

NUM_QUANTISING = 128  # training images that int8 takes the ranges of activations from

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportInputs:
    """The model and the images that an export goes by."""

    package: ModelPackage
    prepared: PreparedData
    images: ParityImages
    inspector: Inspector  # with torch
    answers: dict[str, Answers]  # torch's


def export(model: Path, out: Path, *, prepared: Path, bank: Path, engine: str, precision: str) -> dict[str, Any]:
    """Copy a package and add an engine to it; to `out` itself, if that is the same model. -> its parity.

    ValueError in one line, and nothing written: data or bank of another model, an engine beyond the bounds of parity, a
    missing runtime, or a processor without what it computes in.
    """
    name = engine_name(engine, precision)
    if engine == "torch":
        raise ValueError("every model has the engine torch (export onnx or openvino)")
    load_module(RUNTIME_MODULES[engine])
    float_type = float_type_here(engine, precision)
    check_apart(out, model, prepared, bank)
    with atomic_folder(out, marker=REFERENCE) as folder:  # from the start: nobody else exports into it meanwhile
        inputs = _open_inputs(model, prepared, bank)
        if (out / REFERENCE).is_file() and hash_without_engines(out) == hash_without_engines(inputs.package.folder):
            inputs = replace(inputs, package=read_package(out))  # the engines that it has are kept
        copy_package(inputs.package.folder, folder)
        engine_dir = folder / ENGINES_DIR / name
        shutil.rmtree(engine_dir, ignore_errors=True)
        engine_dir.mkdir(parents=True)
        _write_graph(engine_dir, inputs, engine, precision)
        return _finish(engine_dir, inputs, engine, precision, float_type)


def _open_inputs(model: Path, prepared_dir: Path, bank_dir: Path) -> ExportInputs:
    package, prepared, bank = read_package(model), PreparedData.load(prepared_dir), DefectBank.load(bank_dir)
    lineage = package.config["lineage"]
    known = {record.sha256 for record in package.manifest().records("train")}
    if known != {record.sha256 for record in prepared.records("train")} or package.input_size != prepared.input_size:
        raise ValueError(f"{prepared_dir} is not what {model} was trained on (pass that prepared folder)")
    if folder_hash(bank_dir, BANK_FILES) != lineage["bank_hash"]:
        raise ValueError(f"{bank_dir} is not the bank that {model} was trained with (pass that one)")
    if package.threshold and content_hash(prepared.records("calibration")) != package.threshold["data_hash"]:
        raise ValueError(
            f"the model was calibrated on other images than those of {prepared_dir} (export the model as it was "
            "trained, then `ndpnet calibrate` the export: that refits its engines, too)"
        )
    images = choose_images(prepared, bank, package)
    inspector = Inspector.load(model)
    return ExportInputs(package, prepared, images, inspector, ask(inspector, package, images))


def _write_graph(folder: Path, inputs: ExportInputs, engine: str, precision: str) -> None:
    """Write the graph's files of an engine into its folder."""
    with tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
        traced = _trace(inputs.package, Path(scratch))
        if engine == "onnx":
            shutil.copyfile(traced, folder / ONNX_GRAPH)
            return
        model = load_module("openvino").Core().read_model(traced)
        if precision == "int8":
            logger.info("quantising, and looking for layers that lose too much: some minutes")
            model = _quantised(model, inputs)
        is_rounded = precision != "fp32" and inputs.package.has_bank
        save_graph(model, folder / OPENVINO_GRAPH, is_rounded=is_rounded)


def _trace(package: ModelPackage, scratch: Path) -> Path:
    """The traced graph; that of an exported fp32 engine is the same, and spares the half minute."""
    if "onnx-fp32" in engine_names(package):
        return read_engine(package, "onnx", "fp32")[0] / ONNX_GRAPH
    logger.info("tracing the network: half a minute")
    network = package.load_network(torch.device("cpu"))
    has_filters, path = package.tiling is None, scratch / ONNX_GRAPH
    size, score_pixels = package.graph_size, package.score_pixels
    write_onnx(network, path, input_size=size, has_filters=has_filters, score_pixels=score_pixels)
    return path


def _quantised(model: Any, inputs: ExportInputs) -> Any:
    images, expected = inputs.images, inputs.answers["validation"]
    of_torch = aurocs(expected.maps, expected.scores, images.masks)

    def judge(run: RunGraph, rows: Sequence[int]) -> tuple[float, list[float]]:
        answers = answers_of(Inspector.of(inputs.package, GraphEngine(run)), images.validation[list(rows)])
        costs = np.abs(answers.scores - expected.scores[list(rows)]).tolist()
        if len(costs) < len(images.validation):  # a ranking of layers asks for some of the images
            return float(np.mean(costs)), costs
        quantised = aurocs(answers.maps, answers.scores, images.masks)
        return max(abs(of_torch[name] - quantised[name]) for name in of_torch), costs

    training = inputs.prepared.images("train")
    rows, size = spread_rows(len(training), NUM_QUANTISING), inputs.package.graph_size
    shown = [continue_surface(training[row], size) for row in rows]
    return quantise(model, shown, images.validation, judge, max_loss=MAX_AUROC_DIFFERENCE)


def _finish(folder: Path, inputs: ExportInputs, engine: str, precision: str, float_type: str) -> dict[str, Any]:
    """Load what was written, fit its threshold, compare it with torch and write both down. ValueError: not the same."""
    package, torch_inspector = inputs.package, inputs.inspector
    opened = open_graph_of(folder, package, engine, float_type)
    inspector = Inspector.of(package, opened, roi=package.roi(), rules=package.rules())
    inspector.engine_name = folder.name
    threshold = _fit_threshold(inspector, inputs)
    thresholds = (torch_inspector.threshold, None if threshold is None else threshold["value"])
    parity = compare(inputs.answers, ask(inspector, package, inputs.images), inputs.images, thresholds=thresholds)
    kind = {"engine": engine, "precision": precision, "float_type": float_type}
    parity |= kind
    parity["bounds"] = bounds_of(precision, has_bank=package.has_bank)
    beyond = excesses(parity, parity["bounds"])
    if beyond:
        fix = "use another engine" if precision == "fp32" else "use a finer precision"
        raise ValueError(
            f"the engine {folder.name} is not written: it differs from torch by more than it may ({'; '.join(beyond)}: "
            f"{fix})"
        )
    write_json(folder / PARITY, parity)
    names = ("torch", "onnx", RUNTIME_MODULES[engine], *(("nncf",) if precision == "int8" else ()))
    versions = {name: version(name) for name in names}
    write_engine(folder, package, kind | {"versions": versions, "threshold": threshold})
    return parity


def _fit_threshold(inspector: Inspector, inputs: ExportInputs) -> dict[str, Any] | None:
    """The engine's own threshold, of the same calibration images as the package's; None where there are none."""
    record = inputs.package.threshold
    if record is None:
        return None
    review_rate = record["review"]["review_rate"] if "review" in record else None
    return measure_prepared(inspector, inputs.prepared).thresholds(record["target_rate"], review_rate)[0]
