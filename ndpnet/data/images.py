"""Reading pictures of any kind."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ndpnet.data.fitting import fit_image
from ndpnet.data.levels import DEPTHS, Levels, count_levels, table_of
from ndpnet.data.png import encode_png, read_chunks, stream_of

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM", "AVIF", "TGA", "DIB")
UNSIGNED = {"TGA": ".tga", "DIB": ".dib"}  # known by their ending alone: damaged files of others could look like them
SEVERAL = {"PNG": "frames", "WEBP": "frames", "GIF": "frames", "AVIF": "frames", "TIFF": "pages"}
MAX_PIXELS = 400_000_000
# PIL keeps the high bytes of 16-bit colour; these raw modes make it read the low ones instead
LOW_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA", "RGBX") for order, other in ("BL", "LB", "NB")
} | {"LA;16B": "RGBA"}  # grey with alpha, as four single bytes
NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # chunks of a PNG that may say how it is turned
EXIF_ORIENTATION, TURNED = 274, (5, 6, 7, 8)  # by a quarter
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLE_FORMAT = 258, 262, 339
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_TIFF = "a TIFF that is damaged, or of a kind that is not read (save it as PNG, with unsigned 8 or 16 bits)"
NO_RANGE = "samples without a fixed range, as signed and float ones (save it with unsigned 8 or 16 bits)"
RANGELESS = (2, 3, 5, 6)  # of TIFF_SAMPLE_FORMAT: signed, float, complex


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What decoding a picture tells: pixels, the spread of its levels, and a hash of what is seen."""

    width: int
    height: int
    spread: float  # standard deviation in grey levels of 256 (of its file's bits), of the channel that varies most
    pixels_sha256: bytes  # equal for two files that show the same pixels, whatever their format and metadata
    levels: Levels

    def spread_at(self, bit_depth: int) -> float:
        """Return the spread in grey levels of 256 as the picture is seen in a set of so many bits."""
        return self.spread * 2 ** (16 - bit_depth) if self.levels.stored > 8 else self.spread


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture's header tells; width, height: upright by EXIF, is_wide: more than 8 bits a sample."""

    width: int
    height: int
    is_wide: bool

    @property
    def num_pixels(self) -> int:
        """How many pixels it has."""
        return self.width * self.height


@dataclass(frozen=True)
class OpenedImage:
    """A decoded picture, upright by EXIF."""

    name: str
    image: Image.Image
    levels: Levels
    wide: np.ndarray | None  # uint16 (H, W) or (H, W, 3) of a picture with more than 8 bits a sample
    is_inverted: bool = False  # 0 is white; of wide ones only, PIL inverts the others

    def rgb(self, bit_depth: int | None = None) -> np.ndarray:
        """As `read_image`. -> uint8 (H, W, 3)."""
        if self.wide is None:
            return np.array(_to_rgb(self.image, self.name), dtype=np.uint8)
        table = table_of(self.levels, bit_depth, self.name, is_inverted=self.is_inverted)
        values = table[self.wide]
        return values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)  # (H, W) -> (H, W, 3)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.height, self.image.width

    def fitted(self, size: tuple[int, int], bit_depth: int | None) -> np.ndarray:
        """As `fit_image` of `rgb`, without an array of all pixels where there need be none. -> uint8 (*size, 3)."""
        if self.wide is not None:
            return fit_image(self.rgb(bit_depth), size, name=self.name)
        is_grey = self.image.mode == "L" and "transparency" not in self.image.info
        return fit_image(self.image if is_grey else _to_rgb(self.image, self.name), size, name=self.name)

    def facts(self) -> ImageFacts:
        """Return what it tells, without a copy of most pictures."""
        seen = self.image if self.image.mode in ("L", "RGB") else _to_rgb(self.image, self.name)
        shown = np.asarray(seen) if self.wide is None else self.wide
        if shown.ndim == 3 and all((row == row[:, :1]).all() for row in shown):  # row by row: stops early
            shown = shown[:, :, 0]  # (H, W, 3) -> (H, W): grey saved as colour is the same picture
        shown = 65535 - shown if self.is_inverted else shown
        if shown.dtype == np.uint16 and not any((row % 257).any() for row in shown):  # 8 bits, scaled up
            shown = (shown // 257).astype(np.uint8)
        digest = hashlib.sha256(f"{shown.dtype} {shown.shape} ".encode())
        digest.update(np.ascontiguousarray(shown).data)
        spread = (
            _spread(np.reshape(seen.histogram(), (-1, 256)))
            if self.wide is None
            else _spread(count_levels(self.wide)) / 257
        )
        return ImageFacts(self.image.width, self.image.height, spread, digest.digest(), self.levels)


def read_image(source: Path | bytes, *, name: str | None = None, bit_depth: int | None = None) -> np.ndarray:
    """Decode a picture of any mode, upright by EXIF. -> uint8 (H, W, 3).

    ValueError names the file. Alpha is dropped. Of more than 8 bits a sample the lower `bit_depth` are used, as in its
    set (`depth_of_set`); None: as many as the file says, else 16.
    """
    return open_image(source, name=name).rgb(bit_depth)


def format_of(path: Path) -> str | None:
    """The format of a file whose content begins as a picture does, whatever its name; None of another or unreadable."""
    try:
        with Image.open(path, formats=_formats("")) as image:
            return image.format
    except Exception:  # as in _opened
        return None


def read_header(source: Path | bytes, *, name: str) -> Header:
    """Return what a picture's header tells, without decoding it; ValueError names the file."""
    with _opened(source, name) as image:
        width, height = (image.height, image.width) if _is_turned(image, source) else (image.width, image.height)
        return Header(width, height, _is_wide(image, _raw_mode(image)))


def _is_turned(image: ImageFile.ImageFile, source: Path | bytes) -> bool:
    """Whether decoding turns a picture by a quarter."""
    if image.format == "TIFF":  # PIL turns its size itself
        return False
    exif = image.getexif
    if image.format == "PNG":
        # PIL would decode it for what lies behind the pixels: one pixel that says the same of itself is read at once
        notes = read_chunks(source, NOTES)
        if not notes:
            return False
        exif = Image.open(io.BytesIO(encode_png(np.zeros((1, 1), dtype=bool), notes))).getexif
    return exif().get(EXIF_ORIENTATION) in TURNED


def open_image(source: Path | bytes, *, name: str | None = None) -> OpenedImage:
    """Decode a picture whose samples have a fixed range; ValueError names the file."""
    name = name or ("the picture" if isinstance(source, bytes) else str(source))
    image, raw_mode, declared = _load_upright(source, name)
    _check_samples(image, name)
    if not _is_wide(image, raw_mode):
        if 16 in _tiff_tag(image, TIFF_BITS):  # PIL took bytes for samples, or only the high ones
            raise ValueError(f"cannot read {name}: {OTHER_TIFF}")
        return OpenedImage(name, image, Levels(8, 255, 0.0), None)
    if raw_mode in LOW_BYTES:
        wide = _with_low_bytes(np.asarray(image), np.asarray(_load_upright(source, name, LOW_BYTES)[0]), raw_mode)
    else:
        wide = np.asarray(image).astype(np.uint16, copy=False)
    counts = count_levels(wide).sum(axis=0)
    stored = 12 if raw_mode == "I;12" else 16
    declared = 12 if stored == 12 else _significant_bits(source) if image.format == "PNG" else declared
    highest, mean = int(np.flatnonzero(counts)[-1]), float(counts @ np.arange(counts.size) / counts.sum())
    is_inverted = image.mode.startswith("I;16") and _tiff_tag(image, TIFF_PHOTOMETRIC) == (0,)
    return OpenedImage(name, image, Levels(stored, highest, mean, declared), wide, is_inverted)


def _is_wide(image: Image.Image, raw_mode: str) -> bool:
    return image.mode.startswith("I;16") or raw_mode in LOW_BYTES or _is_pgm_16(image)


def _is_pgm_16(image: Image.Image) -> bool:
    return image.format == "PPM" and image.mode == "I"


def _with_low_bytes(high: np.ndarray, low: np.ndarray, raw_mode: str) -> np.ndarray:
    """Put two readings together. uint8 (H, W, C), (H, W, C) -> uint16 (H, W, 3), or (H, W) of grey with alpha."""
    if raw_mode == "LA;16B":
        return low[:, :, 0].astype(np.uint16) << 8 | low[:, :, 1]
    return high[:, :, :3].astype(np.uint16) << 8 | low[:, :, :3]


def _significant_bits(source: Path | bytes) -> int | None:
    """Return what a PNG's sBIT chunk says of its colours: of one or three, with or without alpha behind."""
    bits = next((content for _, content in read_chunks(source, (b"sBIT",))), b"")
    return max(bits[: 1 if len(bits) < 3 else 3], default=None)


def _check_samples(image: Image.Image, name: str) -> None:
    """Refuse samples whose range nobody knows."""
    is_rangeless = any(kind in RANGELESS for kind in _tiff_tag(image, TIFF_SAMPLE_FORMAT))
    if is_rangeless or image.mode == "F" or (image.mode == "I" and not _is_pgm_16(image)):
        raise ValueError(f"cannot read {name}: {NO_RANGE}")


def _tiff_tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    """Return a TIFF's tag, () if there is none."""
    value = image.tag_v2.get(tag, ()) if isinstance(image, TiffImageFile) else ()
    return value if isinstance(value, tuple) else (value,)


def _spread(histogram: np.ndarray) -> float:
    """Standard deviation of the channel that varies most, in levels: no float copy of the picture."""
    levels = np.arange(histogram.shape[1])
    shares = histogram / histogram.sum(axis=1, keepdims=True)
    means = shares @ levels
    return float(np.sqrt((shares * (levels - means[:, None]) ** 2).sum(axis=1)).max())


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[ImageFile.ImageFile]:
    # PIL's own limit is half of ours; ours is checked below, before any pixel is decoded
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # notes of any length are no damage
    try:
        # a stream, no path: PIL would map the file, and reads the rows of a turned TIFF at the width of the upright one
        with stream_of(source) as stream, Image.open(stream, formats=_formats(name)) as image:
            yield image
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make PIL's decoders raise a dozen of types
        raise ValueError(f"cannot read {name}: {_reason(error, source)}") from error


def _load_upright(
    source: Path | bytes, name: str, raw_modes: Mapping[str, str] = {}
) -> tuple[Image.Image, str, int | None]:
    """Decode a picture, its bytes taken as another raw mode where `raw_modes` has one.

    -> upright, its raw mode, and the bits that a PGM says its samples use.
    """
    with _opened(source, name) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if (num_pictures := _num_pictures(image)) > 1:
            raise _SeveralError(f"it has {num_pictures} {SEVERAL[str(image.format)]}")
        raw_mode = _raw_mode(image)
        if raw_mode in raw_modes:
            image.tile = [_with_raw_mode(tile, raw_modes[raw_mode]) for tile in image.tile]
        declared = _unscaled_pgm(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # no copy of what is upright
        return image, raw_mode, declared


def _num_pictures(image: ImageFile.ImageFile) -> int:
    """How many frames or pages a file has; a TIFF's thumbnails and reduced copies, of other sizes, are none."""
    number = getattr(image, "n_frames", 1) if image.format in SEVERAL else 1
    if number == 1 or image.format != "TIFF":
        return number
    size = image.size
    image.seek(1)
    is_equal = image.size == size
    image.seek(0)
    return number if is_equal else 1


def _unscaled_pgm(image: ImageFile.ImageFile) -> int | None:
    """Have the samples of a PGM of 10, 12 or 14 bits read as they are: PIL scales them to 16. -> its bits."""
    tile = image.tile[0] if _is_pgm_16(image) else None
    if tile is None or tile.codec_name != "ppm" or not isinstance(tile.args, tuple):
        return None
    bits = {2**depth - 1: depth for depth in DEPTHS}.get(tile.args[-1])
    if bits is not None:
        image.tile = [tile._replace(codec_name="raw", args=("I;16B", 0, 1))]
    return bits


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return how the first tile's bytes are laid out, "" if nothing says so."""
    args = image.tile[0].args if getattr(image, "tile", None) else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)


class _SeveralError(Exception):
    """A film or a stack, of which one picture would be judged."""


def _formats(name: str) -> list[str]:
    return [kind for kind in FORMATS if name.lower().endswith(UNSIGNED.get(kind, ""))]


def _reason(error: Exception, source: Path | bytes) -> str:
    if isinstance(error, _SeveralError):
        return f"{error} (save each as a picture)"
    if isinstance(error, FileNotFoundError):
        return "no such file (check the path)"
    if isinstance(error, OSError) and error.errno:
        return f"{error.strerror} (check the file and its permissions)"
    if isinstance(error, UnidentifiedImageError):
        with stream_of(source) as stream:
            is_tiff = stream.read(4) in TIFF_STARTS
        return (
            OTHER_TIFF if is_tiff else "not a picture in PNG, JPEG, TIFF or another known format (replace or remove it)"
        )
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS // 1_000_000} megapixels (cut it into smaller pictures)"
    is_truncated = "truncated" in str(error).lower()
    detail = " ".join(str(error).split()) or type(error).__name__
    return f"{'truncated image' if is_truncated else 'damaged image, ' + detail} (replace or remove it)"


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    has_hidden_alpha = "transparency" in image.info or image.mode in ("La", "RGBa", "PA")
    try:
        # by way of RGBA: PIL warns, or keeps the premultiplied colours, when alpha is dropped at once
        return (image.convert("RGBA") if has_hidden_alpha else image).convert("RGB")
    except ValueError as error:
        raise ValueError(f"cannot read {name}: colour mode {image.mode} (save it as RGB or grey)") from error
