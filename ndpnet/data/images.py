"""Reading pictures and masks of any kind, and fitting them to the network's size."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 400_000_000
MIN_SIDE = 64


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What decoding a picture tells: pixels, the spread of its levels, and a hash of what is seen."""

    width: int
    height: int
    spread: float  # standard deviation in grey levels of 256, of the channel that varies most
    pixels_sha256: bytes  # equal for two files that show the same pixels, whatever their format and metadata


def read_image(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Decode a picture of any mode, upright by EXIF (the first page of several). -> uint8 (H, W, 3).

    ValueError names the file. Alpha is dropped; 16-bit grey is divided by 257 and rounded; of 16-bit colour PIL
    keeps the high byte.
    """
    name = _name_of(source, name)
    return _to_array(_load_upright(source, name), name)


def read_mask(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Decode a defect mask: defective where any channel but alpha is not zero. -> bool (H, W)."""
    name = _name_of(source, name)
    image = _load_upright(source, name)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return np.asarray(image) != 0
    return np.asarray(_to_rgb(image, name)).any(axis=2)


def num_pixels(source: Path | bytes, *, name: str) -> int:
    """Return a picture's pixels by its header, without decoding it; ValueError names the file."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # as in _load_upright
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            return image.width * image.height
    except Exception as error:  # as in _load_upright
        raise ValueError(f"cannot read {name}: {_reason(error)}") from error


def describe_image(source: Path | bytes, *, name: str | None = None) -> ImageFacts:
    """Decode a picture once, as `read_image` does, for its facts; ValueError names the file."""
    name = _name_of(source, name)
    image = _load_upright(source, name)
    if image.mode not in ("L", "RGB"):  # what most pictures are needs no second copy
        seen = Image.fromarray(_to_array(image, name))
        levels = np.asarray(image) if image.mode.startswith("I;16") else np.asarray(seen)
    else:
        seen, levels = image, np.asarray(image)
    is_grey = levels.ndim == 3 and all((row == row[:, :1]).all() for row in levels)  # row by row: stops early
    if is_grey:
        levels = levels[:, :, 0]  # (H, W, 3) -> (H, W): grey saved as colour is the same picture
    digest = hashlib.sha256(f"{levels.dtype} {levels.shape} ".encode())
    digest.update(np.ascontiguousarray(levels))
    return ImageFacts(image.width, image.height, _spread(seen), digest.digest())


def _spread(image: Image.Image) -> float:
    """Standard deviation of the channel that varies most, from its histogram: no float copy of the picture."""
    histogram = np.array(image.histogram(), dtype=np.float64).reshape(-1, 256)  # (channels, 256)
    shares = histogram / histogram.sum(axis=1, keepdims=True)
    means = shares @ np.arange(256)
    return float(np.sqrt((shares * (np.arange(256) - means[:, None]) ** 2).sum(axis=1)).max())


def fit_image(image: np.ndarray, size: int, *, name: str = "the image") -> np.ndarray:
    """Resize with antialiased bilinear weights; unchanged if it fits. uint8 (H, W, 3) -> uint8 (size, size, 3)."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{name} has {width}x{height} pixels, a side below {MIN_SIDE} (use larger pictures)")
    if (height, width) == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Scale a mask to the network's size, as `scale_plane`. bool (H, W) -> bool (size, size)."""
    return scale_plane(mask, (size, size))


def scale_plane(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a mask to (width, height): true where half the area is; what would vanish keeps every pixel it touches.

    bool (H, W) -> bool (height, width)
    """
    if plane.shape == (size[1], size[0]):
        return plane
    area = np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BOX))
    half = area >= 0.5 - 1e-6  # the weights are rounded: exactly a half may come out as 0.49999997
    return half if half.any() else area > 0


def _name_of(source: Path | bytes, name: str | None) -> str:
    if name is not None:
        return name
    return "the picture" if isinstance(source, bytes) else str(source)


def _load_upright(source: Path | bytes, name: str) -> Image.Image:
    # PIL's own limit is half of ours; ours is checked below, before any pixel is decoded
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    stream = io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        with Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # no copy of what is upright
            return image
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make PIL's decoders raise a dozen of types
        raise ValueError(f"cannot read {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file (check the path)"
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture in {', '.join(FORMATS)} (replace or remove it)"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS // 1_000_000} megapixels (cut it into smaller pictures)"
    if "truncated" in str(error).lower():
        return "truncated image (replace or remove it)"
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"damaged image, {detail} (replace or remove it)"


def _to_array(image: Image.Image, name: str) -> np.ndarray:
    """Return an upright picture of any mode as `read_image` does. -> uint8 (H, W, 3)."""
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        grey = ((levels + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode in ("I", "F"):
        raise ValueError(f"cannot read {name}: 32-bit pixels have no fixed range (save it with 8 or 16 bits)")
    return np.array(_to_rgb(image, name), dtype=np.uint8)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    has_hidden_alpha = "transparency" in image.info or image.mode in ("La", "RGBa", "PA")
    try:
        # by way of RGBA: PIL warns, or keeps the premultiplied colours, when alpha is dropped at once
        return (image.convert("RGBA") if has_hidden_alpha else image).convert("RGB")
    except ValueError as error:
        raise ValueError(f"cannot read {name}: colour mode {image.mode} (save it as RGB or grey)") from error
