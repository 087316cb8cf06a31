"""Plain properties of a picture, that say what a change of the line is: lamp, focus, material."""

import numpy as np

PROPERTIES = ("brightness", "contrast", "sharpness", "red", "blue")
LUMA = np.array([0.299, 0.587, 0.114])


def picture_properties(pixels: np.ndarray) -> dict[str, float]:
    """Properties by the names of PROPERTIES. pixels: uint8 (H, W, 3).

    brightness: mean grey level, 0-255; contrast: spread of grey levels over their mean; sharpness: mean step between
    neighbours over the spread; red, blue: share of the mean colour. Only the first depends on the lamp's power.
    """
    means = pixels.reshape(-1, 3).mean(axis=0)
    grey = pixels @ LUMA.astype(np.float32)  # (H, W)
    mean, spread = float(grey.mean(dtype=np.float64)), float(grey.std(dtype=np.float64))
    steps = [np.abs(np.diff(grey, axis=axis)).mean(dtype=np.float64) if grey.shape[axis] > 1 else 0 for axis in (0, 1)]
    total = float(means.sum()) or 1.0
    values = (mean, spread / (mean or 1.0), float(sum(steps)) / (spread or 1.0), means[0] / total, means[2] / total)
    return {name: round(float(value), 6) for name, value in zip(PROPERTIES, values, strict=True)}
