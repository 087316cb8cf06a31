"""Artificial defects per second of one core: masks, and images composed from a bank.

    python benchmarks/synthesis.py [--size 256] [--rounds 7]

Masks per second of processor time on one thread, in turn with a plain numpy transcription of the same noise that
computes one mask after the other; images per second that `DefectComposer` composes in batches of 8, draws included,
with the settings of `params.yaml` and with the paper's. Minimum, median and maximum over the rounds. What composing
takes of a training step: benchmarks/gpu.py.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from measuring import in_turn, options, spread

from ndpnet.config import load_params
from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import DefectComposer
from ndpnet.synthesis.perlin import blob_masks, line_masks

COUNT, BATCH = 16, 8


def main() -> None:
    """Print every figure."""
    arguments = options(__doc__, size=256, rounds=7)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    size = arguments.size
    makers = {
        "masks, plain": lambda: [plain_mask(rng, size) for _ in range(COUNT)],
        "masks, ndpnet": lambda: blob_masks(rng, COUNT, size),
        "lines, ndpnet": lambda: line_masks(rng, COUNT, size),
    }
    for profile in ("demo", "paper"):
        composer = make_composer(profile, size)
        makers[f"images, {profile}"] = lambda composer=composer: [composer.batch(step, BATCH) for step in (0, 1)]
    report(makers, arguments.rounds)


def report(makers: dict[str, Callable[[], object]], rounds: int) -> None:
    """Time what makes 16 of a thing, all in turn."""
    speeds = {name: [COUNT / each for each in seconds] for name, seconds in in_turn(makers, rounds).items()}
    for name, values in speeds.items():
        print(f"{name:14} {spread(values)} a second", flush=True)
    ratios = [ours / plain for plain, ours in zip(speeds["masks, plain"], speeds["masks, ndpnet"], strict=True)]
    print(f"{'masks, ratio':14} {spread(ratios)}")


def plain_mask(rng: np.random.Generator, size: int) -> np.ndarray:
    """Perlin noise above 0.5, as the method's words have it. -> bool (size, size)."""
    cells, angle, offset = 2 ** rng.integers(0, 6, 2), rng.uniform(0, 2 * math.pi), rng.uniform(0, 1, 2)
    angles = rng.uniform(0, 2 * math.pi, (60, 60))
    y, x = (np.indices((size, size)) + 0.5) / size - 0.5
    u = (math.cos(angle) * x - math.sin(angle) * y + math.sqrt(0.5)) * cells[0] + offset[0]
    v = (math.sin(angle) * x + math.cos(angle) * y + math.sqrt(0.5)) * cells[1] + offset[1]
    noise = np.zeros((size, size))
    for step_v, step_u in ((0, 0), (0, 1), (1, 0), (1, 1)):
        j, i = v.astype(int) + step_v, u.astype(int) + step_u
        ramp = np.cos(angles[j, i]) * (u - i) + np.sin(angles[j, i]) * (v - j)
        noise += ramp * falloff(np.abs(u - i)) * falloff(np.abs(v - j))
    return math.sqrt(2) * noise > 0.5


def falloff(distance: np.ndarray) -> np.ndarray:
    """Weight of a corner, by Perlin's quintic."""
    return 1 - (6 * distance**5 - 15 * distance**4 + 10 * distance**3)


def make_composer(profile: str, size: int, device: str = "cpu") -> DefectComposer:
    """Over noise, with a small bank of the profile's mix."""
    rng, params = np.random.default_rng(0), load_params(profile=profile)
    num_lines = round(64 * params.synthesis.line_share)
    masks = np.concatenate([blob_masks(rng, 64 - num_lines, size).numpy(), line_masks(rng, num_lines, size).numpy()])
    images, sources = rng.integers(0, 256, (2, 64, size, size, 3), dtype=np.uint8)
    bank, share = DefectBank(np.packbits(masks, axis=-1), sources), params.train.phase2.defect_free_share
    known = {"defect_free_share": share, "seed": 0, "phase": 2, "device": torch.device(device)}
    return DefectComposer(images, bank, params.synthesis, **known)


if __name__ == "__main__":
    main()
