"""The two training steps: from prepared folder and bank to phase 1's weights, and from these to the model package."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndpnet.config import Params
from ndpnet.data.prepared import PreparedData
from ndpnet.files import atomic_folder, check_output, hash_of, write_json
from ndpnet.inference.calibration import calibrate_on_prepared
from ndpnet.inference.package import REFERENCE, write_training, write_weights
from ndpnet.lineage import code_hash, folder_hash, identity_params, phase1_params
from ndpnet.model import NDPNet
from ndpnet.synthesis.bank import BANK_FILES, DefectBank
from ndpnet.synthesis.compose import DefectComposer
from ndpnet.training.checkpoint import only_process
from ndpnet.training.checks import check_parts
from ndpnet.training.history import history_of
from ndpnet.training.processes import is_first_process
from ndpnet.training.run import PhaseInputs, recipe_of, train_detector, train_encoder
from ndpnet.training.validation import PHASE_ID, SyntheticValidation

logger = logging.getLogger(__name__)

PREPARED_FILES = ("manifest.json", "prepared.json")  # the arrays are a function of these
NUM_AVERAGED = 64  # training pictures, for the mean one
PHASE1, PHASE1_WEIGHTS, HISTORY = "phase1.json", "weights.safetensors", "history.jsonl"


def train_phase1(prepared: Path, bank: Path, out: Path, params: Params, work_dir: Path) -> dict[str, float]:
    """Train encoder and decoder (Eq. 12-14); resumes from `work_dir`. -> last losses, seconds, images/s.

    In the other processes that torchrun started: their part of the training alone, and no metrics.
    """
    check_output(out, marker=PHASE1)
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), folder_hash(bank, BANK_FILES)])
    identity = phase1_params(params)
    inputs = _phase_inputs("phase1", prepared, bank, params, work_dir, [inputs_hash, identity])
    if not is_first_process():
        train_encoder(inputs)
        return {}
    with only_process(inputs.work_dir):
        with atomic_folder(out, marker=PHASE1) as folder:  # before it trains: nobody else trains for it meanwhile
            result = train_encoder(inputs)
            write_weights(result.network, folder / PHASE1_WEIGHTS, prefixes=("encoder.", "decoder.", "banks."))
            write_json(folder / PHASE1, {"params": identity, "inputs": inputs_hash})
            losses = _keep_history(inputs.work_dir, folder / HISTORY)
        shutil.rmtree(inputs.work_dir)
    return losses | result.speed


def train_phase2(
    prepared: Path,
    bank: Path,
    phase1: Path,
    out: Path,
    params: Params,
    work_dir: Path,
    *,
    pictures_dir: Path | None = None,
) -> dict[str, float]:
    """Train attention, decoder and segmentation (Eq. 15-17), fit the threshold, write the model package.

    Resumes from `work_dir`. Pictures of the validation go to `pictures_dir`, if given: they are no part of the model.
    -> last losses, seconds, images/s, threshold; torchrun's other processes as in `train_phase1`.
    """
    check_output(out, marker=REFERENCE)
    inputs_of_model = {
        "bank_hash": folder_hash(bank, BANK_FILES),
        "phase1_hash": folder_hash(phase1, (PHASE1_WEIGHTS, HISTORY, PHASE1)),  # its own parameters, too
    }
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), inputs_of_model])
    identity = [inputs_hash, identity_params(params)]
    inputs = _phase_inputs("phase2", prepared, bank, params, work_dir, identity)
    inputs = replace(inputs, pictures_dir=pictures_dir)
    if not is_first_process():
        train_detector(inputs, Path(phase1) / PHASE1_WEIGHTS)
        return {}
    with only_process(inputs.work_dir):
        with atomic_folder(out, marker=REFERENCE) as folder:  # before it trains: nobody else trains for it meanwhile
            result = train_detector(inputs, Path(phase1) / PHASE1_WEIGHTS)
            shutil.copyfile(Path(phase1) / HISTORY, folder / "history_phase1.jsonl")
            logger.info("checking what each part does, then fitting the threshold")
            references, checks = result.reference_indices, _checks(inputs, result.network)
            write_training(folder, result.network, inputs.prepared, references, params, inputs_of_model, checks)
            threshold = calibrate_on_prepared(folder, inputs.prepared, params)
            losses = _keep_history(inputs.work_dir, folder / "history_phase2.jsonl")
        shutil.rmtree(inputs.work_dir)
    return losses | result.speed | ({"threshold": threshold["value"]} if threshold else {})


def _checks(inputs: PhaseInputs, network: NDPNet) -> dict[str, Any] | None:
    """What the parts of a trained network do, with a warning for each that does nothing; None without validation."""
    images = inputs.prepared.images("validation")
    if not len(images):
        return None
    recipe, settings = recipe_of(inputs.params, inputs.params.train.phase2), {"seed": inputs.params.seed}
    settings["device"] = next(network.parameters()).device
    score_pixels = inputs.params.model.score_pixels
    validation = SyntheticValidation(images, inputs.bank, recipe, score_pixels=score_pixels, **settings)
    composer = DefectComposer(inputs.prepared.images("train"), inputs.bank, recipe, phase=PHASE_ID, **settings)
    mean_picture = composer.batch(0, NUM_AVERAGED).clean.mean(dim=0)
    checks = check_parts(network, validation.batches, mean_picture)
    for sentence in checks["idle"]:
        logger.warning(sentence)
    return checks


def _phase_inputs(
    name: str, prepared: Path, bank: Path, params: Params, work_dir: Path, identity: list[Any]
) -> PhaseInputs:
    """Open a phase's inputs; its checkpoint folder is named by the hash of their identity with the code's."""
    prepared_data, defect_bank = PreparedData.load(prepared), DefectBank.load(bank)
    _check_made_with(prepared, prepared_data.settings, params, "prepare", "data")
    sizes = {"num_masks": len(defect_bank.masks), "num_sources": len(defect_bank.sources)}
    _check_made_with(bank, sizes | {"patch_size": defect_bank.patch_size}, params, "synthesize", "synthesis")
    key = hash_of([name, *identity, params.runtime.devices, code_hash()])
    folder = Path(work_dir) / f"{name}-{key[:16]}"
    return PhaseInputs(prepared_data, defect_bank, params, folder)


def _check_made_with(folder: Path, made_with: dict[str, Any], params: Params, verb: str, section: str) -> None:
    """Refuse an input made with other parameters than the model would claim."""
    wanted = getattr(params, section).model_dump()
    for name in sorted(made_with.keys() & wanted.keys()):
        if made_with[name] != wanted[name]:
            raise ValueError(
                f"{folder} was made with {section}.{name} {made_with[name]!r}, not {wanted[name]!r} "
                f"(run `ndpnet {verb}` again, or pass -P '{section}.{name}={json.dumps(made_with[name])}')"
            )


def _keep_history(work_dir: Path, path: Path) -> dict[str, float]:
    """Copy a phase's history into its output. -> the last losses."""
    shutil.copyfile(work_dir / HISTORY, path)
    return [row for row in history_of(path) if "loss" in row][-1]
