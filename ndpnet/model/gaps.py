"""Anomaly maps without a segmentation: how far the reconstruction is from the input, at a pixel or along a line."""

import math

import torch
import torch.nn.functional as F

NUM_DIRECTIONS = 12  # of lines, 15 degrees apart


def pixel_gap(image: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Mean over colours of the squared difference (Table VI). (B, 3, H, W) twice -> (B, 1, H, W)."""
    return (image - reconstruction).square().mean(dim=1, keepdim=True)


def line_gap(image: torch.Tensor, reconstruction: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Difference averaged along a line through the pixel, root mean square over colours, of the direction with most.

    The surface's grain, up and down from pixel to pixel, averages out; a crack, dark all along, does not. What the
    whole image differs by is the lamp's or the decoder's, no defect: each colour's mean is taken off. Beyond the paper.
    (B, 3, H, W) twice, lines: `line_kernels` -> (B, 1, H, W) in [0, 1], borders replicated.
    """
    difference = image - reconstruction
    difference = difference - difference.mean(dim=(2, 3), keepdim=True)
    padded = F.pad(difference, (lines.shape[-1] // 2,) * 4, mode="replicate")
    means = F.conv2d(padded.flatten(0, 1).unsqueeze(1), lines)  # (B, C, H', W') -> (B*C, 1, H', W') -> (B*C, 12, H, W)
    strengths = means.unflatten(0, image.shape[:2]).square().mean(dim=1)  # -> (B, 12, H, W)
    return strengths.amax(dim=1, keepdim=True).sqrt().clamp(max=1)


def line_kernels(length: int) -> torch.Tensor:
    """Lines through the middle, in every direction, each with the sum 1. -> (12, 1, length, length)."""
    middle = length // 2
    kernels = torch.zeros(NUM_DIRECTIONS, 1, length, length)
    for direction, kernel in enumerate(kernels[:, 0]):
        angle = math.pi * direction / NUM_DIRECTIONS
        for step in range(-4 * middle, 4 * middle + 1):  # in quarters of a pixel: a line has no holes
            # rounded first: whether a half goes up or down must not depend on the last bit of a cosine
            row, column = (round(round(step / 4 * part, 6)) for part in (math.sin(angle), math.cos(angle)))
            kernel[middle + row, middle + column] = 1
    return kernels / kernels.sum(dim=(2, 3), keepdim=True)
