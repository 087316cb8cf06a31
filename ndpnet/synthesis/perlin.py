"""Batched Perlin noise and the binary defect masks made of it."""

import math
from dataclasses import dataclass

import numpy as np
import torch

MAX_LOG2_GRID = 5
NOISE_THRESHOLD = 0.5
# cells that a rotated unit square can touch at the finest grid, and the lattice points around them
LATTICE_SIZE = math.ceil(math.sqrt(2) * 2**MAX_LOG2_GRID) + 3


@dataclass(frozen=True)
class NoiseDraw:
    """The random numbers of a batch of noise fields, one row a field."""

    cells: torch.Tensor  # (B, 2) cells along each axis
    rotation: torch.Tensor  # (B,) radians
    offset: torch.Tensor  # (B, 2) in cells
    angles: torch.Tensor  # (B, LATTICE_SIZE, LATTICE_SIZE) of the lattice gradients, radians


def draw_noise(rng: np.random.Generator, batch_size: int, max_log2_grid: int = MAX_LOG2_GRID) -> NoiseDraw:
    """Random numbers for a batch: grid 2^k with k uniform in 0..max_log2_grid on each axis, any rotation."""
    cells = 2.0 ** rng.integers(0, max_log2_grid + 1, (batch_size, 2))
    rotation = rng.uniform(0, 2 * math.pi, batch_size)
    offset = rng.uniform(0, 1, (batch_size, 2))
    angles = rng.uniform(0, 2 * math.pi, (batch_size, LATTICE_SIZE, LATTICE_SIZE))
    return NoiseDraw(*(torch.from_numpy(array.astype(np.float32)) for array in (cells, rotation, offset, angles)))


def _lattice_coordinates(draw: NoiseDraw, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotated pixel positions in lattice cells, from 0. -> two of (B, size, size)."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    cos, sin = torch.cos(draw.rotation)[:, None, None], torch.sin(draw.rotation)[:, None, None]
    half_diagonal = math.sqrt(0.5)
    u = (cos * x - sin * y + half_diagonal) * draw.cells[:, 0, None, None] + draw.offset[:, 0, None, None]
    v = (sin * x + cos * y + half_diagonal) * draw.cells[:, 1, None, None] + draw.offset[:, 1, None, None]
    return u, v


def _fade(t: torch.Tensor) -> torch.Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)


def perlin_noise(draw: NoiseDraw, size: int) -> torch.Tensor:
    """Gradient noise scaled by sqrt(2) to about [-1, 1]. -> (B, size, size)."""
    u, v = _lattice_coordinates(draw, size)
    column, row = u.floor(), v.floor()
    u, v = u - column, v - row
    index = (row.long() * LATTICE_SIZE + column.long()).flatten(1)  # (B, size*size)
    gradient_u, gradient_v = torch.cos(draw.angles).flatten(1), torch.sin(draw.angles).flatten(1)

    def corner(step_u: int, step_v: int) -> torch.Tensor:
        at = index + (step_v * LATTICE_SIZE + step_u)
        along_u, along_v = gradient_u.gather(1, at).view_as(u), gradient_v.gather(1, at).view_as(v)
        return along_u * (u - step_u) + along_v * (v - step_v)

    fade_u, fade_v = _fade(u), _fade(v)
    top = torch.lerp(corner(0, 0), corner(1, 0), fade_u)
    bottom = torch.lerp(corner(0, 1), corner(1, 1), fade_u)
    return math.sqrt(2) * torch.lerp(top, bottom, fade_v)


def blob_masks(rng: np.random.Generator, batch_size: int, size: int) -> torch.Tensor:
    """The paper's masks: Perlin noise above 0.5, as in DRAEM. -> bool (B, size, size), some of them empty."""
    return perlin_noise(draw_noise(rng, batch_size), size) > NOISE_THRESHOLD


def line_masks(
    rng: np.random.Generator,
    batch_size: int,
    size: int,
    *,
    min_width: float = 1.0,
    max_width: float = 4.0,
    max_log2_grid: int = 3,
) -> torch.Tensor:
    """Thin curved lines: zero lines of one noise, cut by another. Widths in pixels. -> bool (B, size, size).

    A coarser grid gives fewer, longer lines. Not in the paper, whose blobs hold nothing like a crack or a scratch.
    """
    noise = perlin_noise(draw_noise(rng, batch_size, max_log2_grid), size)
    slope_y, slope_x = torch.gradient(noise, dim=(1, 2))
    distance = noise.abs() / (slope_x.square() + slope_y.square()).sqrt().clamp(min=1e-6)  # pixels, to first order
    width = torch.from_numpy(rng.uniform(min_width, max_width, (batch_size, 1, 1)).astype(np.float32))
    window = perlin_noise(draw_noise(rng, batch_size, max_log2_grid=2), size)
    cut = torch.from_numpy(rng.uniform(0.0, 0.4, (batch_size, 1, 1)).astype(np.float32))
    return (distance < width / 2) & (window > cut)
