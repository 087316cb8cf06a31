"""The steps of the pipeline: each a function of paths and parameters that writes one folder and returns its metrics."""

import logging
import shutil
from pathlib import Path
from typing import Any

from ndpnet.config import Params, parse_params
from ndpnet.files import atomic_folder, hash_of, write_json
from ndpnet.lineage import code_hash, folder_hash, identity_params

logger = logging.getLogger(__name__)

PREPARED_FILES = ("manifest.json", "prepared.json")  # the arrays are a function of these
BANK_FILES = ("bank.json", "masks.npy", "sources.npy")
PHASE1_WEIGHTS = "weights.safetensors"

ParamsLike = Params | str


def prepare(data_dir: Path, category: str, out: Path, params: ParamsLike) -> dict[str, Any]:
    """Decode one category into arrays and a manifest. -> counts and the data hash. ValueError names what is wrong."""
    from ndpnet.data import prepared

    return prepared.prepare(data_dir, category, out, **parse_params(params).data.model_dump())


def synthesize(out: Path, params: ParamsLike) -> dict[str, int]:
    """Make the defect bank: masks and natural-image sources, one for all categories. -> counts."""
    from ndpnet.synthesis.bank import make_bank

    params = parse_params(params)
    settings = params.synthesis
    return make_bank(
        out,
        patch_size=settings.patch_size,
        num_masks=settings.num_masks,
        line_share=settings.line_share,
        sources=settings.sources,
        num_sources=settings.num_sources,
        seed=params.seed,
    )


def train_phase1(prepared: Path, bank: Path, out: Path, params: ParamsLike, work_dir: Path) -> dict[str, float]:
    """Train encoder and decoder (Eq. 12-14); resumes from `work_dir`. -> last losses, seconds, images/s."""
    from ndpnet.inference.package import write_weights
    from ndpnet.training.run import train_encoder

    params = parse_params(params)
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), folder_hash(bank, BANK_FILES)])
    inputs = _phase_inputs("phase1", prepared, bank, params, work_dir, inputs_hash)
    result = train_encoder(inputs)
    with atomic_folder(out) as folder:
        write_weights(result.network, folder / PHASE1_WEIGHTS, prefixes=("encoder.", "decoder."))
        write_json(folder / "phase1.json", {"params": identity_params(params), "inputs": inputs_hash})
        return _finish(inputs.work_dir, folder, "history.jsonl", result.speed)


def train_phase2(
    prepared: Path, bank: Path, phase1: Path, out: Path, params: ParamsLike, work_dir: Path
) -> dict[str, float]:
    """Train attention, decoder and segmentation (Eq. 15-17), fit the threshold, write the model package.

    Resumes from `work_dir`. -> last losses, seconds, images/s, threshold.
    """
    from ndpnet.inference.calibration import calibrate_on_prepared
    from ndpnet.inference.package import write_training
    from ndpnet.training.run import train_detector

    params = parse_params(params)
    phase1_hash = folder_hash(phase1, (PHASE1_WEIGHTS,))
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), folder_hash(bank, BANK_FILES), phase1_hash])
    inputs = _phase_inputs("phase2", prepared, bank, params, work_dir, inputs_hash)
    result = train_detector(inputs, Path(phase1) / PHASE1_WEIGHTS)
    with atomic_folder(out) as folder:
        shutil.copyfile(Path(phase1) / "history.jsonl", folder / "history_phase1.jsonl")
        write_training(folder, result.network, inputs.prepared, result.reference_indices, params)
        threshold = calibrate_on_prepared(folder, inputs.prepared, params)
        metrics = _finish(inputs.work_dir, folder, "history_phase2.jsonl", result.speed)
    return metrics | ({"threshold": threshold["value"]} if threshold else {})


def evaluate(
    prepared: Path, model: Path, out: Path, params: ParamsLike, run_identity: dict[str, str] | None = None
) -> dict[str, Any]:
    """Judge the test images; write metrics, curves, predictions, table, report and overlays. -> metrics."""
    from ndpnet.evaluation.evaluate import evaluate_package

    return evaluate_package(prepared, model, out, parse_params(params), run_identity or {})


def _phase_inputs(name: str, prepared: Path, bank: Path, params: Params, work_dir: Path, inputs_hash: str) -> Any:
    """Open a phase's inputs; its checkpoint folder is named by the hash of inputs, parameters and code."""
    from ndpnet.data.prepared import PreparedData
    from ndpnet.synthesis.bank import DefectBank
    from ndpnet.training.run import PhaseInputs

    key = hash_of([name, inputs_hash, identity_params(params), params.runtime.devices, code_hash()])
    folder = Path(work_dir) / f"{name}-{key[:16]}"
    return PhaseInputs(PreparedData.load(prepared), DefectBank.load(bank), params, folder)


def _finish(work_dir: Path, folder: Path, history_name: str, speed: dict[str, float]) -> dict[str, float]:
    """Move the history into the step's folder, drop its checkpoints. -> last losses and speed."""
    from ndpnet.training.loop import history_of

    shutil.copyfile(work_dir / "history.jsonl", folder / history_name)
    losses = [row for row in history_of(folder / history_name) if "loss" in row][-1]
    shutil.rmtree(work_dir)
    return losses | speed
