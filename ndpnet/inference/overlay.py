"""Pictures of a verdict: heat map over the image, contours against the truth, side-by-side panels."""

import io
import math
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ndpnet.data.fitting import box_around, resize

if TYPE_CHECKING:
    from ndpnet.inference.verdict import Verdict

DETECTED_COLOUR = (230, 20, 60)  # red and blue: told apart with any kind of colour vision, on light and dark surfaces
TRUTH_COLOUR = (0, 194, 255)
HEAT_COLOURS = "inferno"  # perceptually uniform, readable in grey print
MAX_OPACITY = 0.65
IGNORED_BRIGHTNESS = 0.35  # of what lies outside the region of interest
MIN_TILE_WIDTH = 224  # labels need this much room
GAP = 8
PNG_LEVEL = 1  # zlib's own 6 takes four times as long, and of photographed texture more bytes
JPEG_QUALITY = 90
INK, PAPER, WARNING = (29, 36, 48), (255, 255, 255), (154, 103, 0)
MIN_OVERLAY_WIDTH = 512  # small pictures are enlarged by a whole factor
MAX_OVERLAY_SIDE = 2048  # pixels: one of 8000x8000 would take gigabytes to draw, and JPEG ends at 65500
MAX_TEXT = 40  # pixels


def heat_level(
    anomaly_map: np.ndarray, *, threshold: float | None, vmin: float | None = None, vmax: float | None = None
) -> np.ndarray:
    """Position on the colour scale: vmin 0, threshold 0.5, vmax 1. (H, W) -> (H, W) in [0, 1]."""
    stops = scale_stops(threshold=threshold, vmin=vmin, vmax=vmax)
    return np.interp(anomaly_map, stops, np.linspace(0.0, 1.0, len(stops)))


def scale_stops(*, threshold: float | None, vmin: float | None = None, vmax: float | None = None) -> list[float]:
    """Ends of the colour scale and the threshold between; a limit on its wrong side yields to 0 or 2x threshold."""
    if threshold is None:
        low = 0.0 if vmin is None else float(vmin)
        if vmax is None or vmax <= low:
            raise ValueError(f"no colour scale: vmax is {vmax} and there is no threshold (pass vmax above {low:g})")
        return [low, float(vmax)]
    half = abs(threshold) or 1.0
    low = vmin if vmin is not None and vmin < threshold else threshold - half
    high = vmax if vmax is not None and vmax > threshold else threshold + half
    return [float(low), float(threshold), float(high)]


def overlay(
    image: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    threshold: float | None,
    vmin: float | None = None,
    roi: np.ndarray | None = None,
    contour: float | None = None,
) -> np.ndarray:
    """Image under a heat map, with contours of map > threshold, dimmed outside `roi`.

    The map may have another size than the image; contour: another level for them. (H, W, 3), (h, w) -> uint8 (H, W, 3)
    """
    image, size = dim_ignored(image, roi), image.shape[:2]
    level = heat_level(anomaly_map, threshold=threshold, vmin=vmin)
    shades = resize(np.minimum(level * 256, 255).astype(np.uint8), size)  # as matplotlib counts its 256 colours
    # nothing is said of what is ignored, whatever the scale
    heat = Image.fromarray(shades if roi is None else np.where(roi, shades, np.uint8(0)))
    opacity = heat.point([round(MAX_OPACITY * step) for step in range(256)])  # the surface stays visible
    heat.putpalette(_heat_colours(np.linspace(0.0, 1.0, 256)).tobytes())
    blended = Image.composite(heat.convert("RGB"), Image.fromarray(image), opacity)
    contour = threshold if contour is None else contour
    if contour is None or anomaly_map.max() <= contour:
        return np.asarray(blended)
    enlarged = resize(anomaly_map, size)
    anomaly_map = enlarged if roi is None else np.where(roi, enlarged, 0)
    return draw_contours(np.asarray(blended), anomaly_map, threshold=contour)


def draw_verdict(image: np.ndarray, verdict: "Verdict") -> np.ndarray:
    """The overlay of a picture with score and verdict above it. uint8 (H, W, 3) -> uint8 (H', W', 3)."""
    image, anomaly_map, roi = shrink(image, verdict.network_map, verdict.roi, max_side=MAX_OVERLAY_SIDE)
    zoom = min(MIN_OVERLAY_WIDTH // image.shape[1], MAX_OVERLAY_SIDE // image.shape[0])
    if zoom > 1:
        image = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        roi = None if roi is None else roi.repeat(zoom, axis=0).repeat(zoom, axis=1)
    # as the regions: a picture whose score is good has none, whatever single pixels reach
    contour = {"good": math.inf, "review": verdict.review_threshold}.get(verdict.word)
    drawn = overlay(image, anomaly_map, threshold=verdict.threshold, vmin=verdict.map_level, roi=roi, contour=contour)
    return captioned(drawn, [str(verdict), *verdict.warnings])


def dim_ignored(image: np.ndarray, roi: np.ndarray | None) -> np.ndarray:
    """The image, darker outside the region of interest; itself without one. uint8 (H, W, 3) -> uint8 (H, W, 3)."""
    if roi is None:
        return image
    dark = np.rint(image * IGNORED_BRIGHTNESS).astype(np.uint8)
    return np.where(roi[..., None], image, dark)


def shrink(
    image: np.ndarray, anomaly_map: np.ndarray, plane: np.ndarray | None, *, max_side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A scan at a size to look at, each reduced by a whole factor: means of the image, maxima of the map.

    (H, W, 3), (h, w), bool (H, W) -> the same at sides of at most `max_side`
    """
    factor = _reduction(image, max_side)
    small = image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))
    small_map = block_maxima(anomaly_map, max_side)
    return small, small_map, None if plane is None else block_maxima(plane, max_side)


def _reduction(plane: np.ndarray, max_side: int) -> int:
    return -(-max(plane.shape[:2]) // max_side)


def block_maxima(plane: np.ndarray, max_side: int) -> np.ndarray:
    """Maxima of square blocks, as large as `max_side` asks. (H, W) -> (H / factor, W / factor), rounded up."""
    factor, (height, width) = _reduction(plane, max_side), plane.shape
    if factor == 1:
        return plane
    by_rows = np.maximum.reduceat(plane, np.arange(0, height, factor), axis=0)
    return np.maximum.reduceat(by_rows, np.arange(0, width, factor), axis=1)


def draw_contours(
    image: np.ndarray, anomaly_map: np.ndarray, *, threshold: float | None, truth: np.ndarray | None = None
) -> np.ndarray:
    """Contours just outside map > threshold and truth on a copy of the image. uint8 (H, W, 3) -> uint8 (H, W, 3)."""
    drawn = image.copy()
    thickness = max(1, round(min(image.shape[:2]) / 160))
    if truth is not None:
        # thicker and below: still visible where both contours coincide
        drawn[outline(np.asarray(truth) > 0, thickness=thickness + (thickness + 1) // 2)] = TRUTH_COLOUR
    if threshold is not None:
        drawn[outline(anomaly_map > threshold, thickness=thickness)] = DETECTED_COLOUR
    return drawn


def outline(mask: np.ndarray, *, thickness: int) -> np.ndarray:
    """Ring around the regions, closed along the image's border. bool (H, W), pixels -> bool (H, W)."""
    ring = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return ring
    near = box_around(mask, thickness)
    grown = _grown(mask[near], thickness)
    frame = np.ones(mask.shape, dtype=bool)
    frame[thickness:-thickness, thickness:-thickness] = False
    ring[near] = (grown & ~mask[near]) | (mask & frame)[near]  # outside the region: a thin crack is not painted over
    return ring


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """All within `reach` pixels of the mask, along both sides, in a third of a maximum filter's time. bool (H, W)."""
    padded, (height, width), shifts = np.pad(mask, reach), mask.shape, range(2 * reach + 1)
    down = reduce(np.logical_or, (padded[shift : shift + height] for shift in shifts))
    return reduce(np.logical_or, (down[:, shift : shift + width] for shift in shifts))


def panel(
    image: np.ndarray,
    reconstruction: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    threshold: float | None,
    vmax: float | None,
    vmin: float | None = None,
    truth: np.ndarray | None = None,
    roi: np.ndarray | None = None,
    is_detected: bool = True,
    caption: str = "",
    num_columns: int = 4,
) -> np.ndarray:
    """Input, reconstruction, anomaly map, contours, labelled. uint8 (H, W, 3) x 2, (H, W) -> uint8 (H', W', 3).

    is_detected: whether its score is above the threshold; only then has it contours.
    """
    limits = {"threshold": threshold, "vmin": vmin, "vmax": vmax}
    heat, contour = _heat_colours(heat_level(anomaly_map, **limits)), threshold if is_detected else None
    tiles = {
        "input": image,
        "reconstruction": reconstruction,
        "anomaly map": heat,
        "detection": draw_contours(dim_ignored(image, roi), anomaly_map, threshold=contour, truth=truth),
    }
    zoom = -(-MIN_TILE_WIDTH // image.shape[1])
    zoomed = {label: tile.repeat(zoom, axis=0).repeat(zoom, axis=1) for label, tile in tiles.items()}
    legend = [(DETECTED_COLOUR, "detected")] if contour is not None else []
    legend += [(TRUTH_COLOUR, "true defect")] if truth is not None else []
    return _compose(zoomed, stops=scale_stops(**limits), legend=legend, caption=caption, num_columns=num_columns)


def captioned(image: np.ndarray, lines: list[str]) -> np.ndarray:
    """A picture with lines of text above it. uint8 (H, W, 3) -> uint8 (H', W', 3)."""
    width = image.shape[1]
    sizes = range(min(MAX_TEXT, max(18, width // 28)), 9, -1)
    fitting = (size for size in sizes if max(map(_font(size).getlength, lines)) <= width - 8)
    size = next(fitting, sizes[-1])
    row = round(1.5 * size)
    needed = math.ceil(max(map(_font(size).getlength, lines))) + 8  # of a narrow picture the text is wider
    image = np.pad(image, ((0, 0), (0, max(0, needed - width)), (0, 0)), constant_values=PAPER[0])
    strip = Image.new("RGB", (image.shape[1], row * len(lines) + 4), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((4, 2 + number * row), line, fill=INK if number == 0 else WARNING, font=_font(size))
    return np.concatenate([np.asarray(strip), image])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def encode_png(array: np.ndarray) -> bytes:
    """PNG file of a picture or mask. uint8 (H, W, 3) | uint8 (H, W) | bool (H, W) -> bytes."""
    pixels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def encode_jpeg(picture: Image.Image, **options: int) -> bytes:
    """JPEG file of a picture; options: quality, subsampling."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", **options)
    return buffer.getvalue()


def write_jpeg(path: Path, array: np.ndarray) -> None:
    """Write a picture to look at as JPEG. uint8 (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # colours at full resolution: contours stay sharp
    path.write_bytes(encode_jpeg(Image.fromarray(array), quality=JPEG_QUALITY, subsampling=0))


def _heat_colours(level: np.ndarray) -> np.ndarray:
    return matplotlib.colormaps[HEAT_COLOURS](level, bytes=True)[..., :3]  # (H, W) -> uint8 (H, W, 3)


def _compose(
    tiles: dict[str, np.ndarray],
    *,
    stops: list[float],
    legend: list[tuple[tuple[int, int, int], str]],
    caption: str,
    num_columns: int,
) -> np.ndarray:
    """Rows of labelled tiles; the colours' meaning below the last two."""
    height, width, _ = next(iter(tiles.values())).shape
    text_size = max(12, width // (20 if num_columns == len(tiles) else 14))
    row = round(1.6 * text_size)
    top, pitch = row * (2 if caption else 1), height + row
    num_rows = -(-len(tiles) // num_columns)
    canvas = Image.new("RGB", ((width + GAP) * num_columns - GAP, top + num_rows * pitch), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.font = _font(text_size)
    if caption:
        draw.text((0, 0), caption, fill=INK)
    lefts = [(index % num_columns) * (width + GAP) for index in range(len(tiles))]
    for index, (label, tile) in enumerate(tiles.items()):
        at = top + index // num_columns * pitch
        draw.text((lefts[index], at - row), label, fill=INK)
        canvas.paste(Image.fromarray(tile), (lefts[index], at))
    foot = top + (num_rows - 1) * pitch + height + row // 6
    _draw_colour_bar(canvas, draw, (lefts[-2], foot), width=width, row=row, stops=stops)
    _draw_legend(draw, (lefts[-1], foot), row=row, legend=legend)
    return np.asarray(canvas)


def _draw_colour_bar(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], *, width: int, row: int, stops: list[float]
) -> None:
    left, top = corner
    thickness = max(4, row // 5)
    bar = np.broadcast_to(_heat_colours(np.linspace(0.0, 1.0, width)), (thickness, width, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top))
    for position, stop in zip(np.linspace(0.0, 1.0, len(stops)), stops, strict=True):
        label = f"threshold {stop:.3g}" if position == 0.5 else f"{stop:.3g}"
        anchor = "la" if position == 0.0 else "ra" if position == 1.0 else "ma"
        draw.text((left + position * (width - 1), top + thickness), label, fill=INK, anchor=anchor)


def _draw_legend(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], *, row: int, legend: list[tuple[tuple[int, int, int], str]]
) -> None:
    left, top = corner
    side, middle = row // 2, top + row // 3
    for colour, label in legend:
        draw.rectangle((left, middle - side // 4, left + side, middle + side // 4), fill=colour)
        draw.text((left + side + 4, middle), label, fill=INK, anchor="lm")
        left += side + 4 + round(draw.textlength(label)) + side
