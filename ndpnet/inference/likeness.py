"""Whether a picture is like those a model was calibrated on: size, aspect ratio, brightness, colour, sharpness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ndpnet.data.fitting import MAX_STRETCH
from ndpnet.metrics.properties import MAX_SIDE, middle_properties

SURFACE_QUANTILE = 0.95  # of a good picture's map: where the colours of maps start
MAX_ZOOM = 2.0  # times larger or smaller than any picture of the calibration
MIN_BRIGHTNESS_MARGIN = 12.0  # grey levels beyond the range that was seen, or half of it
MIN_COLOUR_MARGIN = 0.03  # of the light's red or blue share beyond the range that was seen, or half of it
MAX_SHARPNESS_RATIO = 1.5  # times more or less
DIGITS = 6

Ranges = Mapping[str, Any]


def surface_of(looks: Sequence[Mapping[str, float]], levels: Sequence[float]) -> dict[str, Any]:
    """What good pictures look like: {name: [lowest, highest]} of what `measure` gives, and the level of their maps."""
    ranges = {name: [_rounded(bound(look[name] for look in looks)) for bound in (min, max)] for name in looks[0]}
    return ranges | {"map_level": _rounded(float(np.median(levels)))}


def level_of(anomaly_map: np.ndarray) -> float:
    """What the map of a good surface hardly exceeds. (H, W)."""
    step = -(-max(anomaly_map.shape) // MAX_SIDE)
    return float(np.quantile(anomaly_map[::step, ::step], SURFACE_QUANTILE))


def measure(fitted: np.ndarray, size: tuple[int, int]) -> dict[str, float]:
    """Numbers that tell kinds of pictures apart. fitted: uint8 (H, W, 3); size: (width, height) as photographed."""
    width, height = size
    return {"width": width, "height": height, "aspect_ratio": width / height} | middle_properties(fitted)


def unlike(surface: Ranges | None, fitted: np.ndarray, size: tuple[int, int], *, is_tiled: bool) -> list[str]:
    """Sentences on how a picture differs from those of the calibration; none of a model that knows none.

    is_tiled: scans of any size are cut.
    """
    if surface is None:
        return []
    seen = measure(fitted, size)
    return [*([] if is_tiled else _unlike_size(surface, seen)), *_unlike_look(surface, seen)]


def _unlike_size(surface: Ranges, seen: Mapping[str, float]) -> list[str]:
    sentences = []
    (low_width, high_width), (low_height, high_height) = surface["width"], surface["height"]
    larger = max(seen["width"] / high_width, seen["height"] / high_height)
    smaller = max(low_width / seen["width"], low_height / seen["height"])
    if max(larger, smaller) > MAX_ZOOM:
        known = f"{low_width:g}x{low_height:g}" + (
            "" if (low_width, low_height) == (high_width, high_height) else f" to {high_width:g}x{high_height:g}"
        )
        sentences.append(f"{seen['width']}x{seen['height']} pixels, the model knows {known}: another scale")
    low, high = surface["aspect_ratio"]
    if not low / MAX_STRETCH <= seen["aspect_ratio"] <= high * MAX_STRETCH:
        sentences.append(f"aspect ratio {seen['aspect_ratio']:.2g}, the model knows {_span(low, high)}")
    return sentences


def _unlike_look(surface: Ranges, seen: Mapping[str, float]) -> list[str]:
    sentences = []
    low, high = surface["brightness"]
    if _is_beyond(seen["brightness"], low, high, least_margin=MIN_BRIGHTNESS_MARGIN):
        word = "darker" if seen["brightness"] < low else "brighter"
        sentences.append(f"{word}: mean level {seen['brightness']:.0f}, the model knows {low:.0f} to {high:.0f}")
    for colour in ("red", "blue"):
        low, high = surface[colour]
        if _is_beyond(seen[colour], low, high, least_margin=MIN_COLOUR_MARGIN):
            known = _span(low, high)
            sentences.append(f"another colour: {colour} is {seen[colour]:.2g} of the light, the model knows {known}")
    low, high = surface["sharpness"]
    if not low / MAX_SHARPNESS_RATIO <= seen["sharpness"] <= high * MAX_SHARPNESS_RATIO:
        word = "blurred" if seen["sharpness"] < low else "sharper or noisier"
        sentences.append(f"{word}: sharpness {seen['sharpness']:.2g}, the model knows {_span(low, high)}")
    return sentences


def _is_beyond(value: float, low: float, high: float, *, least_margin: float) -> bool:
    margin = max(least_margin, (high - low) / 2)
    return not low - margin <= value <= high + margin


def _span(low: float, high: float) -> str:
    shown = f"{low:.2g}", f"{high:.2g}"
    return shown[0] if shown[0] == shown[1] else " to ".join(shown)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
