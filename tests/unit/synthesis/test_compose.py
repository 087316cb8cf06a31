"""Eq. 1 pixel by pixel, and draws that are a function of their address."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import synthesis_config
from scipy import ndimage

from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import Batch, DefectComposer, SampleDraw

PAPER = {
    "beta_max": 0.0,
    "plain_share": 0.0,
    "plain_contrast": 0.0,
    "surface_share": 0.0,
    "edge_softness": 0.0,
    "surface_jitter": 0.0,
}
SIZE = 64


def make_bank(num_cracks: int = 0) -> DefectBank:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, SIZE, SIZE), dtype=np.uint8)
    for index, mask in enumerate(masks):
        mask[5 + index : 20 + 3 * index, 8 : 40 - 2 * index] = 1
    sources = rng.integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    return DefectBank(np.packbits(masks, axis=-1), sources, num_cracks=num_cracks)


def make_images(size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (10, size, size, 3), dtype=np.uint8)


def make_composer(
    images: np.ndarray | None = None,
    *,
    seed: int = 0,
    phase: int = 1,
    num_cracks: int = 0,
    defect_free_share: float = 0.0,
    **changes: Any,
) -> DefectComposer:
    surfaces = make_images() if images is None else images
    draws = {"defect_free_share": defect_free_share, "seed": seed, "phase": phase, "device": torch.device("cpu")}
    return DefectComposer(surfaces, make_bank(num_cracks), synthesis_config(**PAPER | changes), **draws)


def assert_same(first: Batch, second: Batch) -> None:
    for name in Batch._fields:
        assert torch.equal(getattr(first, name), getattr(second, name))


def turned(array: np.ndarray, symmetry: int) -> np.ndarray:
    """A square (P, P, ...) mirrored, flipped and transposed as the bits of `symmetry` say."""
    array = array[:, ::-1] if symmetry & 1 else array
    array = array[::-1] if symmetry & 2 else array
    return array.swapaxes(0, 1) if symmetry & 4 else array


def composed_by_hand(composer: DefectComposer, draw: SampleDraw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean and defective image (P, P, 3) and mask (P, P) of a draw, every pixel computed, in float64."""
    bank = make_bank()
    clean = np.clip(draw.surface_gain * composer.images[draw.image].numpy() / 255, 0, 1)
    mask = turned(np.unpackbits(bank.masks[draw.mask], axis=-1) * (1.0 - draw.is_defect_free), draw.mask_symmetry)
    filling = np.clip(
        draw.source_gain * turned(bank.sources[draw.source] / 255, draw.source_symmetry) + draw.source_bias, 0, 1
    )
    if draw.is_grey:
        filling = np.broadcast_to(filling.mean(axis=2, keepdims=True), filling.shape)
    if draw.is_plain:
        level = clean.mean() + draw.plain_contrast * ((0.0 if draw.is_dark else 1.0) - clean.mean())
        filling = np.full_like(clean, level)
    filling = (1 - draw.beta) * filling + draw.beta * clean
    sums, counts = (ndimage.convolve(each, np.ones((3, 3)), mode="constant") for each in (mask, np.ones_like(mask)))
    alpha = ((1 - draw.softness) * mask + draw.softness * sums / counts)[..., None]
    return clean, clean * (1 - alpha) + filling * alpha, mask


def test_a_batch_is_what_every_pixel_gives_by_hand() -> None:
    recipe = {"defect_free_share": 0.3, "beta_max": 0.8, "plain_share": 0.5, "edge_softness": 1.0}
    composer = make_composer(**recipe, surface_jitter=0.1)
    draws = [composer.draw(2, 32, sample) for sample in range(32)]
    batch = composer.compose(draws)
    for index, draw in enumerate(draws):
        clean, defective, mask = composed_by_hand(composer, draw)
        np.testing.assert_array_equal(batch.mask[index, 0].numpy(), mask)
        np.testing.assert_allclose(batch.clean[index].numpy().transpose(1, 2, 0), clean, atol=1e-6)
        np.testing.assert_allclose(batch.defective[index].numpy().transpose(1, 2, 0), defective, atol=1e-6)


def test_a_crack_takes_a_share_of_the_light_less_and_less_to_one_side() -> None:
    composer = make_composer(num_cracks=1)  # the last mask
    draw = dataclasses.replace(composer.draw(0, 1, 0), mask=5, mask_symmetry=0, crack_depth=0.5)
    surface = composer.images[draw.image].numpy().transpose(2, 0, 1) / 255
    mask = np.unpackbits(make_bank().masks[5], axis=-1)
    blurred = ndimage.uniform_filter(ndimage.uniform_filter(mask.astype(float), 3), 3)
    across = np.linspace(-0.5, 0.5, SIZE)
    for angle, ramp in ((0.0, across[None, :]), (np.pi / 2, across[:, None]), (np.pi, -across[None, :])):
        batch = composer.compose([dataclasses.replace(draw, crack_angle=angle)])
        strength = np.clip(0.6 + ramp, 0.3, 1)
        expected = surface * (1 - 0.5 * strength * blurred)
        np.testing.assert_allclose(batch.defective[0].numpy(), expected, atol=1e-6)
        np.testing.assert_array_equal(batch.mask[0, 0].numpy(), mask)


def test_only_the_masks_of_cracks_become_cracks() -> None:
    settings = {"plain_share": 0.5, "beta_max": 0.8, "defect_free_share": 0.3, "edge_softness": 0.5}
    without, with_cracks = make_composer(**settings), make_composer(num_cracks=2, **settings)
    draws = [without.draw(0, 64, sample) for sample in range(64)]
    assert draws == [with_cracks.draw(0, 64, sample) for sample in range(64)]
    assert 0.15 <= min(draw.crack_depth for draw in draws) < 0.2
    assert 0.65 < max(draw.crack_depth for draw in draws) <= 0.7
    before, after = without.compose(draws), with_cracks.compose(draws)
    is_crack = torch.tensor([draw.mask >= 4 and not draw.is_defect_free for draw in draws])
    assert 8 < is_crack.sum() < 40
    assert torch.equal(after.defective[~is_crack], before.defective[~is_crack])
    assert (after.defective[is_crack] != before.defective[is_crack]).flatten(1).any(dim=1).all()
    assert (after.defective[is_crack] <= after.clean[is_crack]).all()


def test_draws_are_a_function_of_their_address() -> None:
    settings = {"beta_max": 0.8, "plain_share": 0.5, "edge_softness": 1.0, "surface_jitter": 0.1}
    first, second = make_composer(**settings), make_composer(**settings)
    for step in (5, 0, 17):  # another history of calls
        second.batch(step, 8)
    for step in (3, 40):
        assert_same(first.batch(step, 8), second.batch(step, 8))
    draw = first.draw(3, 8, 2)
    others = [first.draw(4, 8, 2), first.draw(3, 8, 3)]
    others += [make_composer(seed=1, **settings).draw(3, 8, 2), make_composer(phase=2, **settings).draw(3, 8, 2)]
    assert len({each.top for each in (draw, *others)}) == 5
    assert len({each.source_gain for each in (draw, *others)}) == 5


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_the_batch_of_one_process(num_ranks: int) -> None:
    settings = {"defect_free_share": 0.3, "plain_share": 0.5, "edge_softness": 1.0, "surface_jitter": 0.1}
    whole = make_composer(**settings).batch(6, 8)
    for rank in range(num_ranks):
        part = make_composer(**settings).batch(6, 8, rank=rank, num_ranks=num_ranks)
        assert len(part.clean) == 8 // num_ranks
        chosen = slice(rank, None, num_ranks)
        assert_same(part, Batch(*(values[chosen] for values in whole)))


def test_several_steps_at_once_give_the_batches_of_each() -> None:
    """As on a GPU; in whatever order they are asked for, and from whichever step on."""
    settings = {"defect_free_share": 0.3, "plain_share": 0.5, "edge_softness": 1.0, "surface_jitter": 0.1}
    one, several, later = (make_composer(num_cracks=2, **settings) for _ in range(3))
    several.samples_at_once = later.samples_at_once = 27  # three steps of eight
    for step in (0, 1, 2, 3, 7, 6, 2):
        assert_same(one.batch(step, 8), several.batch(step, 8))
    for step in (4, 5, 6):
        assert_same(one.batch(step, 8), later.batch(step, 8))
    assert_same(one.batch(6, 4), later.batch(6, 4))
    assert_same(one.batch(6, 8, rank=1, num_ranks=2), later.batch(6, 8, rank=1, num_ranks=2))


def test_every_epoch_visits_every_image_once() -> None:
    composer = make_composer()  # ten images, batches of four: epochs begin within a batch
    visited = [composer.draw(step, 4, sample).image for step in range(15) for sample in range(4)]
    epochs = [visited[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_crops_are_random_and_stay_inside() -> None:
    size = 96
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    ramp = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)[None]
    composer = make_composer(ramp)
    batch = composer.batch(0, 64)
    corners = (batch.clean[:, :2, 0, 0] * 255).round().long()
    assert corners.min() >= 0
    assert corners.max() <= size - SIZE
    assert len(corners.unique(dim=0)) > 40
    assert (corners.amax(dim=0) > 25).all()
    for corner, clean in zip(corners.tolist(), batch.clean, strict=True):
        crop = ramp[0, corner[0] : corner[0] + SIZE, corner[1] : corner[1] + SIZE]
        np.testing.assert_allclose(clean.numpy().transpose(1, 2, 0), crop / 255, atol=1e-6)
    far = dataclasses.replace(composer.draw(0, 1, 0), top=1 - 1e-12, left=1 - 1e-12)
    last = composer.compose([far]).clean[0, :2, -1, -1]
    assert (last * 255).round().tolist() == [size - 1, size - 1]


def test_grey_surfaces_get_grey_defects() -> None:
    grey = np.repeat(make_images()[..., :1], 3, axis=-1)
    batch = make_composer(grey).batch(0, 16)
    assert torch.allclose(batch.defective[:, 0], batch.defective[:, 2], atol=1e-6)
    coloured = make_composer().batch(0, 16)
    inside = coloured.mask[:, 0] > 0
    assert (coloured.defective[:, 0] - coloured.defective[:, 2]).abs()[inside].mean() > 0.1


def test_shares_and_ranges_of_the_recipe() -> None:
    shares = {"plain_share": 0.5, "beta_max": 0.8, "edge_softness": 0.7}
    composer = make_composer(**shares, surface_jitter=0.1)
    draws = [composer.draw(step, 1, 0) for step in range(600)]
    betas = [draw.beta for draw in draws]
    assert 0 <= min(betas) < 0.05
    assert 0.75 < max(betas) <= 0.8
    assert max(draw.softness for draw in draws) <= 0.7
    assert np.mean([draw.is_plain for draw in draws]) == pytest.approx(0.5, abs=0.08)
    assert {draw.mask for draw in draws} == set(range(6))
    assert {draw.source for draw in draws} == set(range(5))
    assert all(0.9 <= draw.surface_gain <= 1.1 for draw in draws)
    assert {draw.mask_symmetry for draw in draws} == {draw.source_symmetry for draw in draws} == set(range(8))


def test_mapped_pictures_are_used_where_they_lie(tmp_path: Path) -> None:
    images = make_images()
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    composer = make_composer(mapped, surface_jitter=0.1)
    assert composer.images.data_ptr() == mapped.ctypes.data
    assert_same(composer.batch(3, 4), make_composer(images, surface_jitter=0.1).batch(3, 4))
    assert (np.load(tmp_path / "images.npy") == images).all()
