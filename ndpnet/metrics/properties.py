"""Plain properties of a picture, that say what a change of the line is: lamp, focus, material."""

import math

import numpy as np

PROPERTIES = ("brightness", "contrast", "sharpness", "red", "blue")
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
MAX_SIDE = 1024  # pixels of a middle
BLOCK_PIXELS = 1 << 20  # at once: a scan in floating point would take twelve times its memory


def picture_properties(pixels: np.ndarray) -> dict[str, float]:
    """Properties by the names of PROPERTIES. pixels: uint8 (H, W, 3).

    brightness: mean grey level, 0-255; contrast: spread of grey levels over their mean; sharpness: mean step between
    neighbours over the spread; red, blue: share of the mean colour. Only the first depends on the lamp's power.
    """
    height, width, _ = pixels.shape
    colours, total, squares, across, down = np.zeros(3), 0.0, 0.0, 0.0, 0.0
    num_rows = max(1, BLOCK_PIXELS // width)
    for top in range(0, height, num_rows):
        block = pixels[top : top + num_rows + 1]  # and the next row, for the steps to it
        grey = block @ LUMA  # (H, W)
        own = grey[:num_rows]
        colours += block[:num_rows].sum(axis=0, dtype=np.uint32).sum(axis=0)  # both axes at once take 20 times as long
        total += own.sum(dtype=np.float64)
        squares += np.square(own, dtype=np.float64).sum()
        across += np.abs(np.diff(own, axis=1)).sum(dtype=np.float64)
        down += np.abs(np.diff(grey, axis=0)).sum(dtype=np.float64)
    mean = total / (height * width)
    spread = math.sqrt(max(squares / (height * width) - mean**2, 0.0))
    steps = across / max(height * (width - 1), 1) + down / max((height - 1) * width, 1)
    shares = colours / (colours.sum() or 1.0)
    values = (mean, spread / (mean or 1.0), steps / (spread or 1.0), shares[0], shares[2])
    return {name: round(float(value), 6) for name, value in zip(PROPERTIES, values, strict=True)}


def middle_properties(pixels: np.ndarray) -> dict[str, float]:
    """Brightness, mean of all channels, and sharpness, second differences over the spread, of a picture's middle.

    What a first look takes: blur lowers second differences more than steps, and the whole of a large scan in single
    precision would take more memory than the model. pixels: uint8 (H, W, 3).
    """
    middle = tuple(slice(max(0, (side - MAX_SIDE) // 2), (side + MAX_SIDE + 1) // 2) for side in pixels.shape[:2])
    grey = pixels[middle].mean(axis=2, dtype=np.float32)
    edges = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    return {"brightness": float(grey.mean()), "sharpness": float(edges.mean() / (grey.std() + 1))}
