"""Binary masks of cracks: jagged lines that keep their direction, become thinner and end."""

import math

import numpy as np
import torch

from ndpnet.synthesis.perlin import LINE_WIDTHS

SLOPE_MEMORY = 0.9  # from one pixel to the next: a crack bends within about 10 pixels
MAX_SLOPE = 0.35  # largest standard deviation of the slope against the mean direction
TIP_WIDTH = 0.4  # of the width at the mouth


def crack_masks(
    rng: np.random.Generator, batch_size: int, size: int, *, widths: tuple[float, float] = LINE_WIDTHS
) -> torch.Tensor:
    """One crack each, in any direction; widths at the mouth, in pixels. -> bool (B, size, size), some of them empty.

    Not in the paper: its blobs are round, and the zero lines of a noise are smooth and have one width.
    """
    u, v = _crack_coordinates(rng, batch_size, size)
    length = _column(rng.uniform(0.3, 1.3, batch_size) * size)
    along = u / length + _column(rng.uniform(0.2, 0.8, batch_size))  # 0 at the mouth, 1 at the tip
    width = _column(rng.uniform(*widths, batch_size)) * (1 - (1 - TIP_WIDTH) * along)
    path = _paths(rng, batch_size, size)  # (B, L)
    index = (u + path.shape[1] / 2).long().flatten(1)  # (B, size*size)
    middle = path.gather(1, index).view_as(v)
    return ((v - middle).abs() < width / 2) & (along > 0) & (along < 1)


def _crack_coordinates(rng: np.random.Generator, batch_size: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels along and across a line through a random point of the middle half. -> two of (B, size, size)."""
    line = torch.arange(size) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    middle_x, middle_y = (_column(rng.uniform(0.25, 0.75, batch_size) * size) for _ in range(2))
    angle = _column(rng.uniform(0, 2 * math.pi, batch_size))
    x, y = x - middle_x, y - middle_y
    return torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x


def _paths(rng: np.random.Generator, batch_size: int, size: int) -> torch.Tensor:
    """Offset across, for every pixel along: sums of a slope that forgets. -> (B, L), 0 in the middle of L."""
    num_points = 2 * math.ceil(math.sqrt(2) * size) + 2  # no pixel of the patch is farther from a point of it
    noise = rng.normal(0, math.sqrt(1 - SLOPE_MEMORY**2), (batch_size, num_points))
    slopes = np.zeros((batch_size, num_points))
    for point in range(1, num_points):
        slopes[:, point] = SLOPE_MEMORY * slopes[:, point - 1] + noise[:, point]
    paths = np.cumsum(slopes * rng.uniform(0, MAX_SLOPE, (batch_size, 1)), axis=1)
    return torch.from_numpy((paths - paths[:, num_points // 2, None]).astype(np.float32))


def _column(values: np.ndarray) -> torch.Tensor:
    """(B,) -> float32 (B, 1, 1)."""
    return torch.from_numpy(values.astype(np.float32))[:, None, None]
