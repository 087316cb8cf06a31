"""Batched Perlin noise and the binary defect masks made of it."""

import math
from typing import NamedTuple

import numpy as np
import torch

MAX_LOG2_GRID = 5
LINE_LOG2_GRID = 3  # a coarser grid gives fewer, longer lines
LINE_WIDTHS = (1.0, 4.0)  # pixels, of the mouths of cracks, too
NOISE_THRESHOLD = 0.5
FIELDS_AT_ONCE = 2  # their arrays stay in a core's cache
# cells that a rotated unit square can touch at the finest grid, and the lattice points around them
LATTICE_SIZE = math.ceil(math.sqrt(2) * 2**MAX_LOG2_GRID) + 3


class NoiseDraw(NamedTuple):
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


def perlin_noise(draw: NoiseDraw, size: int) -> torch.Tensor:
    """Gradient noise scaled by sqrt(2) to about [-1, 1]. -> (B, size, size)."""
    parts = zip(*(drawn.split(FIELDS_AT_ONCE) for drawn in draw), strict=True)
    return torch.cat([_noise(NoiseDraw(*part), size) for part in parts])


def _noise(draw: NoiseDraw, size: int) -> torch.Tensor:
    """The noise of a few fields: on the way every array is written over as soon as it has served."""
    u, v = _lattice_coordinates(draw, size)
    column, row = u.floor(), v.floor()
    u -= column
    v -= row
    index = column.add_(row, alpha=LATTICE_SIZE).long().flatten(1)  # (B, size*size)
    gradients = [math.sqrt(2) * along(draw.angles).flatten(1) for along in (torch.cos, torch.sin)]

    def corner(step_u: int, step_v: int, to_u: torch.Tensor, to_v: torch.Tensor) -> torch.Tensor:
        first = step_v * LATTICE_SIZE + step_u
        along_u, along_v = (gradient[:, first:].gather(1, index).view_as(u) for gradient in gradients)
        return along_u.mul_(to_u).addcmul_(along_v, to_v)

    past_u, past_v = u - 1, v - 1
    corners = corner(0, 0, u, v), corner(1, 0, past_u, v), corner(0, 1, u, past_v), corner(1, 1, past_u, past_v)
    fade_u, fade_v = _fade(u), _fade(v)
    top, bottom = corners[0].lerp_(corners[1], fade_u), corners[2].lerp_(corners[3], fade_u)
    return top.lerp_(bottom, fade_v)


def _lattice_coordinates(draw: NoiseDraw, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotated pixel positions in lattice cells, from 0: a part by column, one by row. -> two of (B, size, size)."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    cos, sin = torch.cos(draw.rotation)[:, None], torch.sin(draw.rotation)[:, None]
    half_diagonal = math.sqrt(0.5)
    coordinates = []
    for axis, (of_column, of_row) in enumerate(((cos, -sin), (sin, cos))):
        cells, offset = draw.cells[:, axis, None], draw.offset[:, axis, None]
        by_column = (of_column * line + half_diagonal) * cells + offset
        coordinates.append(by_column[:, None, :] + (of_row * line * cells)[:, :, None])
    return coordinates[0], coordinates[1]


def _fade(t: torch.Tensor) -> torch.Tensor:
    """6 t^5 - 15 t^4 + 10 t^3."""
    return (t * 6).sub_(15).mul_(t).add_(10).mul_(t).mul_(t).mul_(t)


def blob_masks(rng: np.random.Generator, batch_size: int, size: int) -> torch.Tensor:
    """The paper's masks: Perlin noise above 0.5, as in DRAEM. -> bool (B, size, size), some of them empty."""
    return perlin_noise(draw_noise(rng, batch_size), size) > NOISE_THRESHOLD


def line_masks(rng: np.random.Generator, batch_size: int, size: int) -> torch.Tensor:
    """Thin curved lines: zero lines of one noise, cut by another. -> bool (B, size, size).

    Not in the paper, whose blobs hold nothing like a crack or a scratch.
    """
    noise = perlin_noise(draw_noise(rng, batch_size, LINE_LOG2_GRID), size)
    width = torch.from_numpy(rng.uniform(*LINE_WIDTHS, (batch_size, 1, 1)).astype(np.float32))
    window = perlin_noise(draw_noise(rng, batch_size, max_log2_grid=2), size)
    cut = torch.from_numpy(rng.uniform(0.0, 0.4, (batch_size, 1, 1)).astype(np.float32))
    parts = zip(*(drawn.split(FIELDS_AT_ONCE) for drawn in (noise, width, window, cut)), strict=True)
    return torch.cat([_near_zero(noise, width / 2) & (window > cut) for noise, width, window, cut in parts])


def _near_zero(noise: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Where a zero is nearer than `reach` pixels, to first order. (B, size, size), (B, 1, 1) -> bool."""
    slope_y, slope_x = torch.gradient(noise, dim=(1, 2))
    squared_slope = slope_y.square_().addcmul_(slope_x, slope_x)
    return noise.square() < squared_slope.clamp_(min=1e-12).mul_(reach.square())
