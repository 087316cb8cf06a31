"""Reading pictures and masks of any kind, and fitting them to the network's size."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 400_000_000
MIN_SIDE = 64


def read_image(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Decode a picture of any mode, upright by EXIF (the first page of several). -> uint8 (H, W, 3).

    ValueError names the file. Alpha is dropped; 16-bit grey is divided by 257 and rounded; of 16-bit colour PIL
    keeps the high byte.
    """
    name = _name_of(source, name)
    image = _load_upright(source, name)
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        grey = ((levels + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode in ("I", "F"):
        raise ValueError(f"cannot read {name}: 32-bit pixels have no fixed range (save it with 8 or 16 bits)")
    return np.array(_to_rgb(image, name), dtype=np.uint8)


def read_mask(source: Path | bytes, *, name: str | None = None) -> np.ndarray:
    """Decode a defect mask: defective where any channel but alpha is not zero. -> bool (H, W)."""
    name = _name_of(source, name)
    image = _load_upright(source, name)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return np.asarray(image) != 0
    return np.asarray(_to_rgb(image, name)).any(axis=2)


def fit_image(image: np.ndarray, size: int, *, name: str = "the image") -> np.ndarray:
    """Resize with antialiased bilinear weights; unchanged if it fits. uint8 (H, W, 3) -> uint8 (size, size, 3)."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{name} has {width}x{height} pixels, a side below {MIN_SIDE} (use larger pictures)")
    if (height, width) == (size, size):
        return image
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Resize: defective where half the area is; a defect that would vanish keeps every pixel it touches.

    bool (H, W) -> bool (size, size)
    """
    if mask.shape == (size, size):
        return mask
    area = Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX)
    share = np.asarray(area)  # (size, size), share of defective pixels
    half = share >= 0.5 - 1e-6  # the weights are rounded: exactly a half may come out as 0.49999997
    return half if half.any() else share > 0


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
            return ImageOps.exif_transpose(image)
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


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    has_hidden_alpha = "transparency" in image.info or image.mode in ("La", "RGBa", "PA")
    try:
        # by way of RGBA: PIL warns, or keeps the premultiplied colours, when alpha is dropped at once
        return (image.convert("RGBA") if has_hidden_alpha else image).convert("RGB")
    except ValueError as error:
        raise ValueError(f"cannot read {name}: colour mode {image.mode} (save it as RGB or grey)") from error
