"""What every process of a phase does: put loop, task and validation together, run all steps."""

import logging
from pathlib import Path

from lightning_fabric import Fabric

from ndpnet.inference.package import write_weights
from ndpnet.model import Network, PretrainedNDPNet
from ndpnet.model.denormals import denormals_flushed
from ndpnet.perceptual import VGGFeatures
from ndpnet.training.checkpoint import Checkpoint
from ndpnet.training.inputs import PhaseInputs
from ndpnet.training.loop import PhasePlan, Trainer, Validate
from ndpnet.training.pretrained import fit_scales
from ndpnet.training.task import PhaseTask
from ndpnet.training.validation import SyntheticValidation

logger = logging.getLogger(__name__)

FINAL_WEIGHTS = "final.safetensors"


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
    if inputs.pictures_dir is None:
        return validation.phase2
    return _drawing(validation, inputs.pictures_dir, trainer)


def _drawing(validation: SyntheticValidation, folder: Path, trainer: Trainer) -> Validate:
    def validate(network: Network) -> dict[str, float]:
        validation.write_picture(network, folder / f"step_{trainer.step:06d}.png")
        return validation.phase2(network)

    return validate
