"""How new pictures of a category look beside the old ones: a hint to look at lamp, camera and material."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

MIN_COMPARED = 5  # pictures of each side
LARGE_EFFECT = 0.8  # of the old pictures' standard deviation
LEAST_SPREAD = 0.5  # grey levels: pictures that differ less among themselves count as differing by this
NUM_BLOCKS = 8  # along each side, for the evenness of the light
# statistic -> title, words for lower and higher
STATISTICS = {
    "brightness": ("Brightness", "darker", "brighter"),
    "contrast": ("Contrast", "of lower contrast", "of higher contrast"),
    "texture": ("Texture", "smoother or blurred", "rougher or sharper"),
    "unevenness": ("Uneven light", "more evenly lit", "less evenly lit"),
}


@dataclass(frozen=True)
class Look:
    """How a picture looks, in grey levels, and its size in pixels.

    brightness: mean; contrast: standard deviation; texture: mean difference of neighbours; unevenness: standard
    deviation over NUM_BLOCKS x NUM_BLOCKS blocks.
    """

    brightness: float
    contrast: float
    texture: float
    unevenness: float
    width: int
    height: int


def measure(image: np.ndarray) -> Look:
    """How a picture looks; uint8 (H, W, 3)."""
    grey = np.asarray(Image.fromarray(image).convert("L"))
    height, width = grey.shape
    steps = [np.abs(np.diff(grey.astype(np.int16), axis=axis)).mean() for axis in (0, 1)]
    blocks = Image.fromarray(grey).resize((NUM_BLOCKS, NUM_BLOCKS), Image.Resampling.BOX)
    unevenness = np.asarray(blocks, dtype=np.float64).std()
    return Look(float(grey.mean()), float(grey.std()), float(np.mean(steps)), float(unevenness), width, height)


def compare_looks(old: Sequence[Look], new: Sequence[Look]) -> list[str]:
    """Say whether new pictures look like the old ones, then how they differ, one statistic a line."""
    if min(len(old), len(new)) < MIN_COMPARED:
        return [f"Too few pictures to say whether they look like the old ones ({len(old)} old, {len(new)} new)."]
    comparisons = {name: _compare(name, old, new) for name in STATISTICS}
    different = [STATISTICS[name][0].lower() for name, (is_different, _) in comparisons.items() if is_different]
    verdict = "The new pictures look like the old ones."
    if different:
        verdict = f"The new pictures look different ({', '.join(different)}): check light, camera and material."
    lines = sorted(comparisons.values(), key=lambda comparison: not comparison[0])
    return [verdict, *_new_sizes(old, new), *(f"  {sentence}" for _, sentence in lines)]


def _compare(name: str, old_looks: Sequence[Look], new_looks: Sequence[Look]) -> tuple[bool, str]:
    """Compare one statistic. -> is different, a sentence. Different: a large effect that is not likely by chance."""
    old, new = (np.array([getattr(look, name) for look in looks]) for looks in (old_looks, new_looks))
    difference, spread = new.mean() - old.mean(), max(old.std(ddof=1), LEAST_SPREAD)
    standard_error = math.sqrt(spread**2 / len(old) + new.var(ddof=1) / len(new))
    effect = abs(difference) / spread
    title, lower, higher = STATISTICS[name]
    means = f"mean {new.mean():.1f} against {old.mean():.1f}"
    if effect < LARGE_EFFECT or abs(difference) <= 2 * standard_error:
        return False, f"{title}: as before ({means})."
    direction = lower if difference < 0 else higher
    return True, f"{title}: the new pictures are {direction} ({means}, {effect:.1f} times the usual spread)."


def _new_sizes(old: Sequence[Look], new: Sequence[Look]) -> list[str]:
    sizes = {(look.width, look.height) for look in new} - {(look.width, look.height) for look in old}
    names = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
    return [f"  Sizes not seen before: {names} pixels."] if names else []
