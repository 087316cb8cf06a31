"""Sizes: pictures and regions to what the network takes, and its maps back to what was photographed."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

MIN_SIDE = 64
SIDE_STEP = 64  # pixels: sides of the network's input are multiples of it
MAX_ASPECT = 4  # of the network's input: where most pictures are longer, all are squeezed alike
MAX_STRETCH = 1.25  # times another aspect ratio is no cause for a warning
FILL_TOLERANCE = 0.05  # of the aspect ratio: a picture that differs less fills the input
MIN_COVERED = 32  # pixels of the input that a picture covers at least, along each side
STRIP = 12  # pixels, of what a continuation has to match


def median_aspect_ratio(sizes: Iterable[tuple[int, int]]) -> float:
    """Width / height, the median of (width, height)."""
    return float(np.median([width / height for width, height in sizes]))


def input_size_of(aspect_ratio: float, side: int) -> tuple[int, int]:
    """The network's input: its shorter side, the other by width / height. -> (height, width)."""
    longer = SIDE_STEP * round(side * min(max(aspect_ratio, 1 / aspect_ratio), MAX_ASPECT) / SIDE_STEP)
    return (side, longer) if aspect_ratio > 1 else (longer, side)


def covered_size(size: tuple[int, int], input_size: tuple[int, int], aspect_ratio: float) -> tuple[int, int]:
    """What of the network's input a picture covers, so that all are scaled alike in both directions.

    All of it at `aspect_ratio` (width / height), to which the input belongs. All sizes (height, width).
    """
    (height, width), (input_height, input_width) = size, input_size
    relative = width / height / aspect_ratio
    if max(relative, 1 / relative) <= 1 + FILL_TOLERANCE:
        return input_size
    if relative > 1:
        return max(MIN_COVERED, round(input_height / relative)), input_width
    return input_height, max(MIN_COVERED, round(input_width * relative))


def continue_surface(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fill (height, width) with more of a picture's surface, at the right or below; itself if it fits.

    A mirror image would turn a weave's diagonals, and each seam would look like a defect. uint8 (H, W, 3).
    """
    if image.shape[:2] == size:
        return image
    wider = _continue_rows(image.swapaxes(0, 1), size[1]).swapaxes(0, 1)
    return np.ascontiguousarray(_continue_rows(wider, size[0]))


def _continue_rows(image: np.ndarray, num_rows: int) -> np.ndarray:
    """Go on after the last rows as after those that are most like them, over and over. -> (num_rows, W, 3)."""
    H = len(image)
    if num_rows == H:
        return image
    values, strip = image.astype(np.int32), max(1, min(STRIP, H // 3))
    ends = range(strip, H - strip + 1)
    best = min(ends, key=lambda end: int(np.square(values[end - strip : end] - values[-strip:]).sum()), default=0)
    return np.concatenate([image, image[best + np.arange(num_rows - H) % (H - best)]])


def fit_image(image: np.ndarray | Image.Image, size: tuple[int, int], *, name: str = "the image") -> np.ndarray:
    """Resize a picture to (height, width), unchanged if it fits. ValueError: a side below MIN_SIDE.

    uint8 (H, W, 3), or PIL's of mode RGB or L -> uint8 (height, width, 3)
    """
    if isinstance(image, np.ndarray):
        _check_sides(image.shape[:2], name, "pixels")
        return resize(image, size)
    _check_sides((image.height, image.width), name, "pixels")
    return np.array(image.resize(size[::-1], Image.Resampling.BILINEAR).convert("RGB"))


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Size of a scan after scaling. -> (height, width)."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def scale_scan(scan: np.ndarray, scale: float, *, name: str = "the image") -> np.ndarray:
    """Scale a scan. uint8 (H, W, 3) -> uint8 (H', W', 3). ValueError: a side below MIN_SIDE then."""
    size = scaled_size(scan.shape[0], scan.shape[1], scale)
    _check_sides(size, name, f"pixels at scale {scale:g}")
    return resize(scan, size)


def _check_sides(size: tuple[int, int], name: str, unit: str) -> None:
    if min(size) < MIN_SIDE:
        raise ValueError(f"{name} has {size[1]}x{size[0]} {unit}, a side below {MIN_SIDE} (use larger pictures)")


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bilinear weights; itself if it fits. uint8 (H, W, 3) or float32 (H, W) -> of (height, width)."""
    if values.shape[:2] == size:
        return values
    return np.array(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))


def scale_plane(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a mask to (height, width): true where half the area is; what would vanish keeps every pixel it touches.

    bool (H, W) -> bool (height, width)
    """
    if plane.shape == size:
        return plane
    area = np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX))
    half = area >= 0.5 - 1e-6  # the weights are rounded: exactly a half may come out as 0.49999997
    return half if half.any() else area > 0


def scale_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale what was marked in a map: nearest when there will be more pixels, any of several when fewer.

    bool (H, W) -> bool of (height, width)
    """
    if mask.shape == size:
        return mask
    return np.ascontiguousarray(_scale_rows(_scale_rows(mask, size[0]).T, size[1]).T)


def _scale_rows(mask: np.ndarray, num_rows: int) -> np.ndarray:
    """Bool (H, W) -> (num_rows, W)."""
    H = len(mask)
    if num_rows >= H:
        return mask[(2 * np.arange(num_rows) + 1) * H // (2 * num_rows)]
    # a resize would lose regions between its samples: defective, and nothing to show
    return np.logical_or.reduceat(mask, np.arange(num_rows) * H // num_rows, axis=0)


def box_around(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of what is true, and a margin as far as there is one. bool (H, W), some of it true."""
    spans = (np.flatnonzero(mask.any(axis=axis))[[0, -1]].tolist() for axis in (1, 0))
    rows, columns = (slice(max(0, first - margin), last + 1 + margin) for first, last in spans)
    return rows, columns
