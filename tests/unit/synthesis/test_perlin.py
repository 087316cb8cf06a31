"""Perlin noise against a scalar transcription, and the masks made of it."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from ndpnet.synthesis.perlin import NoiseDraw, blob_masks, draw_noise, line_masks, perlin_noise


def scalar_noise(draw: NoiseDraw, field: int, size: int, row: int, column: int) -> float:
    """One pixel: rotate, find the cell, weigh the four corners' ramps with the quintic fade."""
    angle = draw.rotation[field].item()
    y, x = (row + 0.5) / size - 0.5, (column + 0.5) / size - 0.5
    rotated = (math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y)
    u, v = (
        (along + math.sqrt(2) / 2) * cells + offset
        for along, cells, offset in zip(rotated, draw.cells[field].tolist(), draw.offset[field].tolist(), strict=True)
    )
    value = 0.0
    for j in (math.floor(v), math.floor(v) + 1):
        for i in (math.floor(u), math.floor(u) + 1):
            theta = draw.angles[field, j, i].item()
            ramp = math.cos(theta) * (u - i) + math.sin(theta) * (v - j)
            value += ramp * falloff(abs(u - i)) * falloff(abs(v - j))
    return math.sqrt(2) * value


def falloff(distance: float | np.ndarray) -> float | np.ndarray:
    """1 - (6 t^5 - 15 t^4 + 10 t^3)."""
    return 1 - (6 * distance**5 - 15 * distance**4 + 10 * distance**3)


def test_noise_is_the_scalar_one() -> None:
    draw = draw_noise(np.random.default_rng(0), 6)
    noise = perlin_noise(draw, 64)
    assert noise.shape == (6, 64, 64)
    for field in range(6):
        for row, column in ((0, 0), (63, 0), (0, 63), (63, 63), (17, 40), (31, 32)):
            expected = scalar_noise(draw, field, 64, row, column)
            assert noise[field, row, column].item() == pytest.approx(expected, abs=2e-4)


def test_grids_are_powers_of_two_on_each_axis() -> None:
    draw = draw_noise(np.random.default_rng(2), 2000)
    assert sorted(draw.cells.unique().tolist()) == [1, 2, 4, 8, 16, 32]
    counts = np.unique(draw.cells[:, 0].numpy(), return_counts=True)[1]
    assert counts.min() > 2000 / 6 * 0.8
    assert (draw.cells[:, 0] != draw.cells[:, 1]).float().mean() == pytest.approx(5 / 6, abs=0.05)
    assert draw.rotation.max() > 6.2
    assert draw.rotation.min() < 0.1


def test_the_lattice_is_large_enough_for_any_rotation() -> None:
    angles = draw_noise(np.random.default_rng(3), 8).angles
    turned = torch.arange(8) * math.pi / 4  # every corner of the image comes to every end of the lattice
    extreme = NoiseDraw(torch.full((8, 2), 32.0), turned, torch.full((8, 2), 0.9999), angles)
    noise = perlin_noise(extreme, 256)
    for field in range(8):
        for row, column in ((0, 0), (0, 255), (255, 0), (255, 255)):
            expected = scalar_noise(extreme, field, 256, row, column)
            assert noise[field, row, column].item() == pytest.approx(expected, abs=5e-4)


def test_blobs_are_the_noise_above_one_half() -> None:
    masks = blob_masks(np.random.default_rng(5), 64, 64)
    noise = perlin_noise(draw_noise(np.random.default_rng(5), 64), 64)
    assert torch.equal(masks, noise > 0.5)
    assert masks.dtype == torch.bool
    assert 0.03 < masks.float().mean() < 0.15


def test_lines_are_thin_and_longer_than_wide() -> None:
    masks = line_masks(np.random.default_rng(6), 64, 128).numpy()
    masks = masks[masks.sum(axis=(1, 2)) >= 8]
    assert len(masks) > 50
    half_widths = np.array([ndimage.distance_transform_edt(mask).max() for mask in masks])
    assert np.median(half_widths) <= 2.5
    assert np.quantile(half_widths, 0.9) <= 3.0
    areas = masks.mean(axis=(1, 2))
    assert 0.003 < areas.mean() < 0.08
    spans = [max(np.ptp(axis) for axis in np.nonzero(mask)) for mask in masks]
    assert np.median(spans) > 40
