"""Both phases from prepared folder and bank to weights: put parts together, resume, hand the network back."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ndpnet.config import Params, PhaseConfig
from ndpnet.data.prepared import PreparedData
from ndpnet.inference.package import make_network, read_weights, write_weights
from ndpnet.model import NDPNet
from ndpnet.model.backbone import load_backbone
from ndpnet.model.denormals import denormals_flushed
from ndpnet.model.pretrained import PretrainedNDPNet
from ndpnet.perceptual import VGGFeatures, load_vgg
from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import DefectComposer, Recipe, to_unit
from ndpnet.training.checkpoint import Checkpoint
from ndpnet.training.loop import PhasePlan, Trainer, Validate, make_fabric
from ndpnet.training.phase1 import Phase1
from ndpnet.training.phase2 import Phase2
from ndpnet.training.pretrained import PretrainedPhase1, PretrainedPhase2, fit_bank, fit_scales, group_numbers
from ndpnet.training.processes import is_first_process
from ndpnet.training.reference import choose_references
from ndpnet.training.validation import SyntheticValidation

logger = logging.getLogger(__name__)

FINAL_WEIGHTS = "final.safetensors"


@dataclass(frozen=True)
class PhaseInputs:
    """What a phase trains on."""

    prepared: PreparedData
    bank: DefectBank
    params: Params
    work_dir: Path  # its checkpoint folder
    pictures_dir: Path | None = None  # for pictures of the validation


@dataclass(frozen=True)
class PhaseResult:
    """A trained network on the CPU, its references (phase 2), and how fast it went."""

    network: NDPNet
    reference_indices: list[int]
    speed: dict[str, float]


def recipe_of(params: Params, phase: PhaseConfig) -> Recipe:
    """How defects are composed in a phase."""
    kept = params.synthesis.model_dump(include={field.name for field in fields(Recipe)})
    return Recipe(defect_free_share=phase.defect_free_share, **kept)


@denormals_flushed()
def train_encoder(inputs: PhaseInputs) -> PhaseResult:
    """Phase 1: encoder and decoder (Eq. 12-14)."""
    fabric = make_fabric(inputs.params)  # first: it decides how this process computes
    torch.manual_seed(inputs.params.seed)
    params = inputs.params
    network = make_network(params.model)
    if isinstance(network, NDPNet):
        return _run(fabric, inputs, Phase1, network, _load_vgg(params), [])
    logger.info("phase 1 trains the decoder alone: the encoder %s is frozen", params.model.encoder)
    load_backbone(network.encoder, params.model.encoder_weights)
    vgg = None if params.losses.perceptual_weights == "none" else _load_vgg(params)
    fit_bank(network, inputs.prepared.images("train"), inputs.prepared.row_groups("train"), seed=params.seed)
    return _run(fabric, inputs, PretrainedPhase1, network, vgg, [])


@denormals_flushed()
def train_detector(inputs: PhaseInputs, encoder_weights: Path) -> PhaseResult:
    """Phase 2: attention, decoder and segmentation behind the frozen encoder of phase 1 (Eq. 15-17)."""
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
        return _run(fabric, inputs, PretrainedPhase2, network, None, chosen)
    return _run(fabric, inputs, Phase2, network, _load_vgg(params), chosen)


def _load_vgg(params: Params) -> VGGFeatures | None:
    return load_vgg(params.losses.perceptual_weights, params.losses.perceptual_maps)


def _run(
    fabric: Fabric,
    inputs: PhaseInputs,
    task: type[nn.Module],
    network: NDPNet,
    vgg: VGGFeatures | None,
    references: list[int],
) -> PhaseResult:
    """Train on as many processes as `runtime.devices` says; the network is trained in the first one's result alone."""
    # the network is an argument of its own: Fabric gives every process its copy of arguments alone
    train = partial(_train, inputs=inputs, task=task, vgg=vgg)
    speed = fabric.launch(train, network)
    if is_first_process():
        # by way of a file: a process that has ended cannot hand over its memory
        read_weights(inputs.work_dir / FINAL_WEIGHTS, network)
    return PhaseResult(network.cpu().eval(), references, speed)


@denormals_flushed()  # here too: Fabric may have started another process
def _train(
    fabric: Fabric, network: NDPNet, inputs: PhaseInputs, task: type[nn.Module], vgg: VGGFeatures | None
) -> dict[str, float]:
    """Run one phase in this process; the first one writes the network to keep. -> the speed."""
    params, number = inputs.params, task.number
    phase = params.train.phase1 if number == 1 else params.train.phase2
    images = inputs.prepared.images("train")
    recipe = recipe_of(params, phase)
    composer = DefectComposer(images, inputs.bank, recipe, seed=params.seed, phase=number, device=fabric.device)
    plan = PhasePlan(f"phase {number}", params, phase, len(images))
    trainer = Trainer(fabric, task(network, vgg, params.losses), composer, plan, Checkpoint(inputs.work_dir))
    speed = trainer.run(_validation(inputs, number, recipe, fabric.device, step=lambda: trainer.step))
    if fabric.is_global_zero:
        network = trainer.final_network()
        if isinstance(network, PretrainedNDPNet) and number == 2:
            fit_scales(network, inputs.prepared.images("validation"), images, inputs.prepared.row_groups("train"))
        write_weights(network, inputs.work_dir / FINAL_WEIGHTS)
    return speed


def _validation(
    inputs: PhaseInputs, number: int, recipe: Recipe, device: torch.device, *, step: Callable[[], int]
) -> Validate | None:
    """The phase's look at the synthetic validation set; None where no image is held out for it."""
    images = inputs.prepared.images("validation")
    if not len(images):
        logger.info("no validation image: the training is not watched on held-out images")
        return None
    settings = {"seed": inputs.params.seed, "device": device, "score_pixels": inputs.params.model.score_pixels}
    validation = SyntheticValidation(images, inputs.bank, recipe, **settings)
    if number == 1:
        return validation.phase1
    if inputs.pictures_dir is None:
        return validation.phase2

    def validate(network: NDPNet) -> dict[str, float]:
        validation.write_picture(network, inputs.pictures_dir / f"step_{step():06d}.png")
        return validation.phase2(network)

    return validate
