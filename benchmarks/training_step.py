"""A training step of the library against a plain transcription of the method (`reference_step.py`), side by side.

    python benchmarks/training_step.py [--phase 1 2] [--width 16] [--size 128] [--batch 8] [--vgg] [-P NAME=VALUE ...]

Both start from the same weights and take steps on the same batch in one process, in turn; -P reaches the library's
alone (train.precision=bf16-mixed). Printed are: the largest relative difference of the loss terms in the first step
and in the last; images per second of processor time (threads above one: of wall time) and their ratio, each as
minimum, median and maximum over the rounds; the peak memory of each in a process of its own, above the libraries.
Denormals are flushed for both. The library steps through its Trainer, with the paper's plain Adam: no averaging, no
clipping. --vgg adds the perceptual loss, with random weights of VGG-16's shapes.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import alone, options, spread
from reference_step import PlainNetwork, PlainVGG, phase1_terms, phase2_terms
from torch import nn

from ndpnet.config import Params, load_params
from ndpnet.inference.speed import peak_mib
from ndpnet.model import NDPNet
from ndpnet.model.denormals import denormals_flushed
from ndpnet.model.weights import make_network
from ndpnet.perceptual import IMAGENET_MEAN, IMAGENET_STD, VGGFeatures
from ndpnet.synthesis.compose import Batch, DefectComposer
from ndpnet.synthesis.perlin import blob_masks
from ndpnet.training.checkpoint import Checkpoint
from ndpnet.training.loop import PhasePlan, Trainer, make_fabric
from ndpnet.training.tasks import Phase1, Phase2

METHOD = ("model.encoder=own", "train.schedule=constant", "train.gradient_clip=0", "train.ema_decay=0")
METHOD += ("train.num_validations=0",)
NAMES = ("plain", "ndpnet")

Step = Callable[[], dict[str, torch.Tensor]]


class FixedBatch(NamedTuple):
    """Stands where the Trainer has its composer: the same batch in every step."""

    images: Batch

    def batch(self, step: int, batch_size: int, *, rank: int, num_ranks: int) -> Batch:
        """The batch."""
        return self.images


def main() -> None:
    """Compare the phases asked for."""
    sizes = {"width": 16, "size": 128, "batch": 8}
    arguments = options(__doc__, phase=[2], **sizes, vgg=False, rounds=10, threads=1)
    torch.set_num_threads(arguments.threads)
    for phase in arguments.phase:
        with denormals_flushed(), tempfile.TemporaryDirectory() as folder:
            compare(arguments, phase, Path(folder))


def compare(arguments: argparse.Namespace, phase: int, folder: Path) -> None:
    """Print what two steps of a phase give, need and take."""
    steps = make_steps(arguments, phase, folder)
    first = difference({name: step() for name, step in steps.items()})
    speeds: dict[str, list[float]] = {name: [] for name in NAMES}
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    for _ in range(arguments.rounds):
        terms = {}
        for name, step in steps.items():
            started = clock()
            terms[name] = step()
            speeds[name].append(arguments.batch / (clock() - started))
    sizes = f"width {arguments.width}, {arguments.size} px, batch {arguments.batch}"
    options = f"{arguments.threads} thread(s){', VGG' if arguments.vgg else ''} {' '.join(arguments.overrides)}"
    print(f"phase {phase}, {sizes}, {options}")
    print(f"  losses differ by {first:.1e} in step 1, {difference(terms):.1e} in step {arguments.rounds + 1}")
    for name in NAMES:
        print(f"  {name:7} images/s {spread(speeds[name])}, peak {alone(memory_of, name, arguments, phase):.0f} MiB")
    ratios = [ours / plain for plain, ours in zip(*speeds.values(), strict=True)]
    print(f"  ratio   {spread(ratios)}", flush=True)


def make_steps(
    arguments: argparse.Namespace, phase: int, folder: Path, names: tuple[str, ...] = NAMES
) -> dict[str, Step]:
    """A step of each variant, in the order in which they take turns."""
    sizes = [*width_overrides(arguments.width), f"train.batch_size={arguments.batch}"]
    params = load_params(overrides=[*METHOD, *sizes, *arguments.overrides])
    torch.manual_seed(0)
    network, batch = make_network(params.model), make_batch(arguments.batch, arguments.size)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # the default weights let an untrained network fade out
            nn.init.kaiming_normal_(module.weight)
    vgg = PlainVGG().requires_grad_(False) if arguments.vgg else None
    plain = PlainNetwork(arguments.width, params.model.ffm_channels)
    plain.load_state_dict(network.state_dict())
    makers = {
        "plain": lambda: plain_step(plain, vgg, batch, phase, params),
        "ndpnet": lambda: library_step(network, vgg, batch, phase, params, folder),
    }
    return {name: makers[name]() for name in names}


def width_overrides(base_width: int) -> list[str]:
    """The parameters of a base width, with the paper's hidden channels at its own."""
    return [f"model.base_width={base_width}", *(["model.ffm_channels=64"] if base_width >= 64 else [])]


def plain_step(network: PlainNetwork, vgg: PlainVGG | None, batch: Batch, phase: int, params: Params) -> Step:
    """The transcription's step: a training loop of five lines."""
    trained = [network.encoder, network.decoder]
    if phase == 2:
        network.encoder.eval().requires_grad_(False)
        trained = [network.attention, network.decoder, network.segmentation]
    parameters = [parameter for part in trained for parameter in part.parameters()]
    settings = params.train.phase1 if phase == 1 else params.train.phase2
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=params.train.weight_decay)
    reference = batch.clean[:1]
    focal = {"gamma": params.losses.focal_gamma, "alpha": params.losses.focal_alpha}

    def step() -> dict[str, torch.Tensor]:
        torch.use_deterministic_algorithms(False)  # PyTorch's default, which the Trainer changes
        optimizer.zero_grad()
        if phase == 1:
            terms = phase1_terms(network, vgg, *batch[:3])
        else:
            terms = phase2_terms(network, vgg, *batch[:3], reference=reference, **focal)
        terms["loss"].backward()
        optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    return step


def library_step(network: NDPNet, vgg: PlainVGG | None, batch: Batch, phase: int, params: Params, folder: Path) -> Step:
    """A step of the library's Trainer."""
    if phase == 2:
        network.set_reference(batch.clean[:1])
    trainer = make_trainer(network, library_vgg(vgg), FixedBatch(batch), phase, params, folder)

    def step() -> dict[str, torch.Tensor]:
        torch.use_deterministic_algorithms(params.runtime.deterministic)
        trainer.run_step()
        (_, terms) = trainer.pending.pop()
        return terms

    return step


def make_trainer(
    network: NDPNet,
    vgg: VGGFeatures | None,
    composer: DefectComposer | FixedBatch,
    phase: int,
    params: Params,
    folder: Path,
) -> Trainer:
    """The library's Trainer of a phase, its checkpoints in a folder."""
    fabric = make_fabric(params)
    task = (Phase1 if phase == 1 else Phase2)(network, vgg, params.losses)
    settings = params.train.phase1 if phase == 1 else params.train.phase2
    plan = PhasePlan(f"phase {phase}", params, settings, params.train.batch_size)
    return Trainer(fabric, task, composer, plan, Checkpoint(folder))


def library_vgg(vgg: PlainVGG | None) -> VGGFeatures | None:
    """The library's extractor with the same weights."""
    if vgg is None:
        return None
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    convolutions = [(each.weight.data, each.bias.data) for each in copy.deepcopy(vgg).convolutions]
    return VGGFeatures(convolutions, (torch.diag(1 / std)[:, :, None, None], -mean / std))


def make_batch(count: int, size: int) -> Batch:
    """Smooth random surfaces; half of the defects that a Perlin mask gives are filled with noise."""
    coarse = torch.rand(count, 3, size // 8, size // 8)
    clean = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").clamp(0, 1)
    mask = blob_masks(np.random.default_rng(0), count, size)[:, None].float()
    return Batch(clean, clean * (1 - mask) + torch.rand_like(clean) * mask, mask, torch.arange(len(clean)))


def difference(terms: dict[str, dict[str, torch.Tensor]]) -> float:
    """Largest relative difference between the variants of a loss term."""
    plain, ours = ({name: term.item() for name, term in terms[variant].items()} for variant in NAMES)
    return max(abs(ours[name] - value) / max(abs(value), 1e-12) for name, value in plain.items())


def memory_of(name: str, arguments: argparse.Namespace, phase: int) -> float:
    """Peak memory of three steps of one variant, above the libraries, in MiB."""
    before = peak_mib()
    with denormals_flushed(), tempfile.TemporaryDirectory() as folder:
        step = make_steps(arguments, phase, Path(folder), (name,))[name]
        for _ in range(3):
            step()
    return peak_mib() - before


if __name__ == "__main__":
    main()
