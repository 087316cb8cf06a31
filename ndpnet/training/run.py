"""One run of a phase: from prepared folder and bank to phase 1's weights, and from these to the model package."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ndpnet.config import Params, PhaseConfig
from ndpnet.data.prepared import PreparedData
from ndpnet.files import hash_of, read_json_lines, write_json
from ndpnet.folders import atomic_folder, check_output
from ndpnet.inference.calibration import calibrate_on_prepared
from ndpnet.inference.package import REFERENCE, write_training
from ndpnet.lineage import code_hash, folder_hash, identity_params, phase1_params
from ndpnet.model import NDPNet, Network, PretrainedNDPNet
from ndpnet.model.backbone import load_backbone
from ndpnet.model.denormals import denormals_flushed
from ndpnet.model.weights import make_network, read_weights, write_weights
from ndpnet.perceptual import VGGFeatures, load_vgg
from ndpnet.synthesis.bank import BANK_FILES, DefectBank
from ndpnet.synthesis.compose import DefectComposer, to_unit
from ndpnet.training.checkpoint import HISTORY, Checkpoint, only_process
from ndpnet.training.checks import check_parts
from ndpnet.training.loop import PhasePlan, Trainer, Validate, make_fabric
from ndpnet.training.pretrained import fit_bank, fit_scales, group_numbers
from ndpnet.training.processes import is_first_process
from ndpnet.training.reference import choose_references
from ndpnet.training.tasks import Phase1, Phase2, PhaseTask, PretrainedPhase1, PretrainedPhase2
from ndpnet.training.validation import PHASE_ID, SyntheticValidation

logger = logging.getLogger(__name__)

PREPARED_FILES = ("manifest.json", "prepared.json")  # the arrays are a function of these
NUM_AVERAGED = 64  # training pictures, for the mean one
PHASE1, PHASE1_WEIGHTS = "phase1.json", "weights.safetensors"
FINAL_WEIGHTS = "final.safetensors"


@dataclass(frozen=True)
class PhaseInputs:
    """What a phase trains on; number: 1 or 2."""

    number: int
    prepared: PreparedData
    bank: DefectBank
    params: Params
    work_dir: Path  # its checkpoint folder
    watch_dir: Path | None  # where it shows itself while it runs

    @property
    def phase(self) -> PhaseConfig:
        """The phase's own parameters."""
        return self.params.train.phase1 if self.number == 1 else self.params.train.phase2

    def composer(self, device: torch.device, *, stream: int) -> DefectComposer:
        """Artificial defects on the pictures to train on; stream: of random draws."""
        return DefectComposer(
            self.prepared.images("train"),
            self.bank,
            self.params.synthesis,
            defect_free_share=self.phase.defect_free_share,
            seed=self.params.seed,
            phase=stream,
            device=device,
        )

    def validation(self, device: torch.device) -> SyntheticValidation | None:
        """The synthetic validation set; None where no image is held out for it."""
        images = self.prepared.images("validation")
        return SyntheticValidation(images, self.bank, self.params, device=device) if len(images) else None


def run_phase1(
    prepared: Path, bank: Path, out: Path, params: Params, work_dir: Path, watch_dir: Path | None = None
) -> dict[str, float]:
    """Train encoder and decoder, as `steps.train_phase1` says."""
    check_output(out, marker=PHASE1)
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), folder_hash(bank, BANK_FILES)])
    identity = phase1_params(params)
    inputs = _open_inputs(1, prepared, bank, params, work_dir, identity=[inputs_hash, identity], watch_dir=watch_dir)
    with _output(out, PHASE1, inputs.work_dir) as folder:
        network, speed = _train_encoder(inputs)
        if folder is None:
            return {}
        prefixes = ("encoder.", "decoder.", "banks.", "colours.", "colour_bank.", "shade_bank.")
        write_weights(network, folder / PHASE1_WEIGHTS, prefixes=prefixes)
        write_json(folder / PHASE1, {"params": identity, "inputs": inputs_hash})
        return _copy_history(inputs.work_dir, folder / HISTORY) | speed


def run_phase2(
    prepared: Path,
    bank: Path,
    phase1: Path,
    out: Path,
    params: Params,
    work_dir: Path,
    watch_dir: Path | None = None,
) -> dict[str, float]:
    """Train attention, decoder and segmentation, and write the model package, as `steps.train_phase2` says."""
    check_output(out, marker=REFERENCE)
    inputs_of_model = {
        "bank_hash": folder_hash(bank, BANK_FILES),
        "phase1_hash": folder_hash(phase1, (PHASE1_WEIGHTS, HISTORY, PHASE1)),  # its own parameters, too
    }
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), inputs_of_model])
    identity = [inputs_hash, identity_params(params)]
    inputs = _open_inputs(2, prepared, bank, params, work_dir, identity=identity, watch_dir=watch_dir)
    with _output(out, REFERENCE, inputs.work_dir) as folder:
        network, references, speed = _train_detector(inputs, Path(phase1) / PHASE1_WEIGHTS)
        if folder is None:
            return {}
        shutil.copyfile(Path(phase1) / HISTORY, folder / "history_phase1.jsonl")
        logger.info("checking what each part does, then fitting the threshold")
        checks = _checks(inputs, network)
        write_training(folder, network, inputs.prepared, references, params, inputs_of_model, checks)
        threshold = calibrate_on_prepared(folder, inputs.prepared, params)
        losses = _copy_history(inputs.work_dir, folder / "history_phase2.jsonl")
        return losses | speed | ({"threshold": threshold["value"]} if threshold else {})


def _open_inputs(
    number: int,
    prepared: Path,
    bank: Path,
    params: Params,
    work_dir: Path,
    *,
    identity: list[Any],
    watch_dir: Path | None,
) -> PhaseInputs:
    """Open a phase's inputs; its checkpoint folder is named by the hash of their identity with the code's.

    watch_dir: gets a link to the history that the phase writes, and pictures of the validation.
    ValueError names a parameter that an input was made with another value of.
    """
    prepared_data, defect_bank = PreparedData.load(prepared), DefectBank.load(bank)
    _check_made_with(prepared, prepared_data.settings, params, "prepare", "data")
    sizes = {"num_masks": len(defect_bank.masks), "num_sources": len(defect_bank.sources)}
    _check_made_with(bank, sizes | {"patch_size": defect_bank.patch_size}, params, "synthesize", "synthesis")
    name = f"phase{number}"
    key = hash_of([name, *identity, params.runtime.devices, code_hash()])
    folder = Path(work_dir) / f"{name}-{key[:16]}"
    if watch_dir is not None:
        link = watch_dir / HISTORY
        link.unlink(missing_ok=True)
        link.symlink_to((folder / HISTORY).resolve())
    return PhaseInputs(number, prepared_data, defect_bank, params, folder, watch_dir)


def _check_made_with(folder: Path, made_with: dict[str, Any], params: Params, verb: str, section: str) -> None:
    """Refuse an input made with other parameters than the model would claim."""
    current = getattr(params, section).model_dump()
    for name in sorted(made_with.keys() & current.keys()):
        if made_with[name] != current[name]:
            raise ValueError(
                f"{folder} was made with {section}.{name} {made_with[name]!r}, not {current[name]!r} "
                f"(run `ndpnet {verb}` again, or pass -P '{section}.{name}={json.dumps(made_with[name])}')"
            )


@contextmanager
def _output(out: Path, marker: str, work_dir: Path) -> Iterator[Path | None]:
    """The folder that becomes `out`, None in torchrun's other processes; once it is there the checkpoints go."""
    if not is_first_process():
        yield None
        return
    with only_process(work_dir):
        with atomic_folder(out, marker=marker) as folder:  # before it trains: nobody else trains for it meanwhile
            yield folder
        shutil.rmtree(work_dir)


@denormals_flushed()
def _train_encoder(inputs: PhaseInputs) -> tuple[Network, dict[str, float]]:
    """Phase 1: encoder and decoder (Eq. 12-14). -> the network on the CPU, speed."""
    params = inputs.params
    fabric = make_fabric(params)  # first: it decides how this process computes
    torch.manual_seed(params.seed)
    network = make_network(params.model)
    if isinstance(network, NDPNet):
        return _launch(fabric, inputs, Phase1, network, _load_vgg(params))
    logger.info("phase 1 trains the decoder alone: the encoder %s is frozen", params.model.encoder)
    load_backbone(network.encoder, params.model.encoder_weights)
    vgg = None if params.losses.perceptual_weights == "none" else _load_vgg(params)
    images = inputs.prepared.images("train")
    if len(images) == 1 and not len(inputs.prepared.images("validation")):
        raise ValueError("one picture to train on, and none held out: how good ones differ is not known (add some)")
    fit_bank(network, images, inputs.prepared.row_groups("train"), seed=params.seed)
    return _launch(fabric, inputs, PretrainedPhase1, network, vgg)


@denormals_flushed()
def _train_detector(inputs: PhaseInputs, encoder_weights: Path) -> tuple[Network, list[int], dict[str, float]]:
    """Phase 2: all behind phase 1's frozen encoder (Eq. 15-17). -> the network on the CPU, references, speed."""
    params = inputs.params
    fabric = make_fabric(params)  # first: it decides how this process computes
    torch.manual_seed(params.seed)
    network = make_network(params.model)
    read_weights(encoder_weights, network)
    images = inputs.prepared.images("train")
    chosen = choose_references(images, network, method=params.model.reference, count=params.model.num_references)
    network.set_reference(to_unit(torch.from_numpy(np.array(images[chosen]))))
    if isinstance(network, PretrainedNDPNet):
        network.picture_groups = group_numbers(inputs.prepared.row_groups("train"))
        trained, speed = _launch(fabric, inputs, PretrainedPhase2, network, None)
    else:
        trained, speed = _launch(fabric, inputs, Phase2, network, _load_vgg(params))
    return trained, chosen, speed


def _load_vgg(params: Params) -> VGGFeatures | None:
    return load_vgg(params.losses.perceptual_weights, params.losses.perceptual_maps)


def _launch(
    fabric: Fabric, inputs: PhaseInputs, task: type[PhaseTask], network: Network, vgg: VGGFeatures | None
) -> tuple[Network, dict[str, float]]:
    """Train on as many processes as `runtime.devices` says; the network is trained in the first one's result alone."""
    # the network is an argument of its own: Fabric gives every process its copy of arguments alone
    speed = fabric.launch(partial(train_in_process, inputs=inputs, task=task, vgg=vgg), network)
    if is_first_process():
        # by way of a file: a process that has ended cannot hand over its memory
        read_weights(inputs.work_dir / FINAL_WEIGHTS, network)
    return network.cpu().eval(), speed


@denormals_flushed()  # here too: Fabric may have started another process
def train_in_process(
    fabric: Fabric, network: Network, inputs: PhaseInputs, task: type[PhaseTask], vgg: VGGFeatures | None
) -> dict[str, float]:
    """Run one phase in this process; the first one writes the network to FINAL_WEIGHTS. -> the speed."""
    params, number = inputs.params, inputs.number
    composer, images = inputs.composer(fabric.device, stream=number), inputs.prepared.images("train")
    plan = PhasePlan(f"phase {number}", params, inputs.phase, len(images))
    trainer = Trainer(fabric, task(network, vgg, params.losses), composer, plan, Checkpoint(inputs.work_dir))
    speed = trainer.run(_validation(inputs, trainer))
    if fabric.is_global_zero:
        network = trainer.final_network()
        if isinstance(network, PretrainedNDPNet) and number == 2:
            fit_scales(network, inputs.prepared.images("validation"), images, inputs.prepared.row_groups("train"))
        write_weights(network, inputs.work_dir / FINAL_WEIGHTS)
    return speed


def _validation(inputs: PhaseInputs, trainer: Trainer) -> Validate | None:
    """The phase's look at the synthetic validation set; None where no image is held out for it."""
    validation = inputs.validation(trainer.fabric.device)
    if validation is None:
        logger.info("no validation image: the training is not watched on held-out images")
        return None
    if inputs.number == 1:
        return validation.phase1

    def validate(network: Network) -> dict[str, float]:
        if inputs.watch_dir is not None:
            validation.write_picture(network, inputs.watch_dir / "pictures" / f"step_{trainer.step:06d}.png")
        return validation.phase2(network)

    return validate


def _checks(inputs: PhaseInputs, network: Network) -> dict[str, Any] | None:
    """What the parts of a trained network do, with a warning for an idle one; None without validation images."""
    device = next(network.parameters()).device
    validation = inputs.validation(device)
    if validation is None:
        return None
    mean_picture = inputs.composer(device, stream=PHASE_ID).batch(0, NUM_AVERAGED).clean.mean(dim=0)
    checks = check_parts(network, validation.batches, mean_picture)
    for sentence in checks["idle"]:
        logger.warning(sentence)
    return checks


def _copy_history(work_dir: Path, path: Path) -> dict[str, float]:
    """Copy a phase's history into its output. -> the last losses."""
    shutil.copyfile(work_dir / HISTORY, path)
    return [row for row in read_json_lines(path) if "loss" in row][-1]
