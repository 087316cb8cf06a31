"""Maps of differences: hand-made cases, and lines against sums along them."""

import math

import torch

from ndpnet.benchmark.scoring import NUM_DIRECTIONS, line_gap, line_kernels, pixel_gap


def test_pixel_gap_is_the_mean_over_colours_of_squares() -> None:
    image, rebuilt = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    rebuilt[0, :, 0, 1] = torch.tensor([0.1, 0.2, 0.6])
    expected = torch.tensor([[[[0.0, (0.01 + 0.04 + 0.36) / 3], [0.0, 0.0]]]])
    torch.testing.assert_close(pixel_gap(None, image, rebuilt), expected)


def test_a_line_kernel_is_a_line_of_its_direction() -> None:
    kernels = line_kernels()
    assert kernels.shape == (NUM_DIRECTIONS, 1, 15, 15)
    torch.testing.assert_close(kernels.sum(dim=(1, 2, 3)), torch.ones(NUM_DIRECTIONS))
    across, down = torch.zeros(15, 15), torch.zeros(15, 15)
    across[7], down[:, 7] = 1 / 15, 1 / 15
    torch.testing.assert_close(kernels[0, 0], across)
    torch.testing.assert_close(kernels[NUM_DIRECTIONS // 2, 0], down)
    for direction in range(NUM_DIRECTIONS):
        rows, columns = torch.nonzero(kernels[direction, 0], as_tuple=True)
        angle = math.pi * direction / NUM_DIRECTIONS
        off = (columns - 7) * math.sin(angle) - (rows - 7) * math.cos(angle)
        assert off.abs().max() <= math.sqrt(0.5)  # of the line through the middle, to a pixel's half diagonal
        assert torch.equal(kernels[direction, 0], kernels[direction, 0].flip(0, 1))
        assert len(rows) >= 11  # no holes: at 45 degrees a step is 1.4 pixels


def test_line_gap_is_the_mean_of_the_best_direction() -> None:
    image, reconstruction = torch.zeros(2, 3, 31, 40), torch.zeros(2, 3, 31, 40)
    image[1, 0, 15, 10:25] = 0.3  # one colour, 15 pixels across
    image[1, 1, 15, 10:25] = -0.4
    image[1, :, 3, 10:25] -= torch.tensor([0.3, -0.4, 0.0])[:, None]  # so that the mean is 0
    found = line_gap(None, image, reconstruction)
    assert found.shape == (2, 1, 31, 40)
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1, 0, 15, 17], torch.tensor(math.sqrt((0.3**2 + 0.4**2) / 3)))
    torch.testing.assert_close(found[1, 0, 15, 13], found[1, 0, 15, 17] * 11 / 15)  # four pixels beyond the end
    torch.testing.assert_close(found, line_gap(None, reconstruction, image))


def test_another_brightness_of_the_whole_picture_is_no_defect() -> None:
    reconstruction = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([0.1, -0.2, 0.3])[:, None, None]
    found = line_gap(None, reconstruction + offset, reconstruction)
    torch.testing.assert_close(found, torch.zeros(1, 1, 40, 40), atol=1e-6, rtol=0)


def test_a_map_ends_at_one() -> None:
    image = torch.zeros(1, 3, 40, 40)
    image[..., 20, :] = 1
    assert line_gap(None, image, 1 - image).max() == 1  # with the mean taken off, 1.95


def test_borders_are_replicated() -> None:
    image = torch.full((1, 3, 40, 40), 0.2)
    image[..., 20:] = -0.2
    found = line_gap(None, image, torch.zeros_like(image))
    torch.testing.assert_close(found[..., :13], torch.full((1, 1, 40, 13), 0.2))
    torch.testing.assert_close(found, found.flip(3))
