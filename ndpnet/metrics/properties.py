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
        colours += _colour_sums(block[:num_rows])
        total += own.sum(dtype=np.float64)
        squares += np.square(own, dtype=np.float64).sum()
        across += np.abs(np.diff(own, axis=1)).sum(dtype=np.float64)
        down += np.abs(np.diff(grey, axis=0)).sum(dtype=np.float64)
    mean = total / (height * width)
    spread = math.sqrt(max(squares / (height * width) - mean**2, 0.0))
    steps = across / max(height * (width - 1), 1) + down / max((height - 1) * width, 1)
    values = (mean, spread / (mean or 1.0), steps / (spread or 1.0), *_red_and_blue(colours))
    return {name: round(float(value), 6) for name, value in zip(PROPERTIES, values, strict=True)}


def middle_properties(pixels: np.ndarray) -> dict[str, float]:
    """Of a picture's middle: brightness, mean of all channels; red and blue, shares of the light; sharpness.

    What a first look takes: second differences over the spread, which blur lowers more than steps, and no more of a
    large scan, whose whole in single precision would take more memory than the model. pixels: uint8 (H, W, 3).
    """
    middle = tuple(slice(max(0, (side - MAX_SIDE) // 2), (side + MAX_SIDE + 1) // 2) for side in pixels.shape[:2])
    grey = pixels[middle].mean(axis=2, dtype=np.float32)
    red, blue = _red_and_blue(_colour_sums(pixels[middle]))
    edges = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    sharpness = float(edges.mean() / (grey.std() + 1))
    return {"brightness": float(grey.mean()), "red": red, "blue": blue, "sharpness": sharpness}


def _colour_sums(pixels: np.ndarray) -> np.ndarray:
    return pixels.sum(axis=0, dtype=np.uint32).sum(axis=0)  # both axes at once take 20 times as long


def _red_and_blue(sums: np.ndarray) -> tuple[float, float]:
    """Shares of the light; a third each where there is none. sums: (3,), over all pixels."""
    shares = sums / sums.sum() if sums.sum() else np.full(3, 1 / 3)
    return float(shares[0]), float(shares[2])
