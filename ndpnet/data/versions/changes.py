"""What changed in a category since its last pin: counts, and how the new pictures look beside the old ones."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from ndpnet.data.images import read_image
from ndpnet.data.manifest import GOOD
from ndpnet.data.versions.version import count_pictures, is_picture
from ndpnet.files import write_text

NUM_COMPARED = 300  # pictures of each side, chosen by their hash
MIN_COMPARED = 5
LARGE_EFFECT = 0.8  # of the old pictures' standard deviation
LEAST_SPREAD = 0.5  # grey levels: pictures that differ less among themselves count as differing by this
NUM_BINS = 24
NUM_BLOCKS = 8  # along each side, for the evenness of the light
NUM_THREADS = 2
RULE = (
    f"New pictures are said to look different when their mean lies at least {LARGE_EFFECT} standard deviations of the "
    "old pictures away from the old mean, and further than twice the standard error of the difference. "
    f"With fewer than {MIN_COMPARED} pictures on a side nothing is said."
)
# statistic -> title, what it is, words for lower and higher
STATISTICS = {
    "brightness": ("Brightness", "mean grey level, 0 to 255", "darker", "brighter"),
    "contrast": ("Contrast", "standard deviation of the grey levels", "of lower contrast", "of higher contrast"),
    "texture": ("Texture", "mean difference of neighbouring pixels", "smoother or blurred", "rougher or sharper"),
    "unevenness": ("Uneven light", f"standard deviation over {NUM_BLOCKS} x {NUM_BLOCKS} blocks", "more evenly lit",
                   "less evenly lit"),
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How a picture looks, in grey levels, and its size in pixels."""

    brightness: float
    contrast: float
    texture: float
    unevenness: float
    width: int
    height: int


@dataclass(frozen=True)
class Comparison:
    """One statistic of old and new pictures. effect: in standard deviations of the old; None: too few to say."""

    name: str
    old: tuple[float, ...]
    new: tuple[float, ...]
    effect: float | None
    is_different: bool

    @property
    def sentence(self) -> str:
        """What is to be seen, in plain words."""
        title, _, lower, higher = STATISTICS[self.name]
        if self.effect is None:
            return f"{title}: too few pictures to compare ({len(self.old)} old, {len(self.new)} new)."
        means = f"mean {np.mean(self.new):.1f} against {np.mean(self.old):.1f}"
        if not self.is_different:
            return f"{title}: as before ({means})."
        direction = lower if self.effect < 0 else higher
        return f"{title}: the new pictures are {direction} ({means}, {abs(self.effect):.1f} times the usual spread)."


@dataclass(frozen=True)
class Changes:
    """A category before and after: places with their numbers of pictures, and the comparison of the new ones."""

    category: str
    place: str
    counts: tuple[tuple[str, int, int], ...]  # place, before, after
    compared_with: str  # the place of the old pictures
    num_old: int
    num_new: int
    comparisons: tuple[Comparison, ...]
    new_sizes: tuple[str, ...]  # that no compared old picture has

    @classmethod
    def between(
        cls,
        data_dir: Path,
        before: Mapping[str, str],
        after: Mapping[str, str],
        category: str,
        place: str,
        known_looks: Mapping[str, Look],
    ) -> "Changes":
        """Compare two versions, given as path -> md5; old pictures are decoded, new ones where not known by md5."""
        counts = [count_pictures(files).get(category, {}) for files in (before, after)]
        places = sorted(counts[0].keys() | counts[1].keys())
        added = {path: md5 for path, md5 in after.items() if path not in before}
        new = _sample(added, f"{category}/{place}/")
        compared_with = place
        old = _sample(before, f"{category}/{place}/")
        if len(old) < MIN_COMPARED:
            compared_with, old = f"train/{GOOD}", _sample(before, f"{category}/train/{GOOD}/")
        old_looks, new_looks = (_look_at(data_dir, files, known_looks) for files in (old, new))
        return cls(
            category,
            place,
            tuple((name, counts[0].get(name, 0), counts[1].get(name, 0)) for name in places),
            compared_with,
            len(old),
            len(new),
            tuple(_compare(name, old_looks, new_looks) for name in STATISTICS),
            _new_sizes(old_looks, new_looks),
        )

    @property
    def sentences(self) -> list[str]:
        """The findings, those that call for a look first."""
        sizes = [f"Sizes not seen before: {', '.join(self.new_sizes)} pixels."] if self.new_sizes else []
        ordered = sorted(self.comparisons, key=lambda comparison: not comparison.is_different)
        return sizes + [comparison.sentence for comparison in ordered]

    @property
    def verdict(self) -> str:
        """The findings in one sentence."""
        if any(comparison.effect is None for comparison in self.comparisons):
            return "Too few pictures to say whether the new ones look like the old ones."
        different = [STATISTICS[each.name][0].lower() for each in self.comparisons if each.is_different]
        if different:
            return f"The new pictures look different ({', '.join(different)}): check light, camera and material."
        return "The new pictures look like the old ones."


def measure(image: np.ndarray) -> Look:
    """How a picture looks; uint8 (H, W, 3)."""
    grey = np.asarray(Image.fromarray(image).convert("L"))
    height, width = grey.shape
    steps = [np.abs(np.diff(grey.astype(np.int16), axis=axis)).mean() for axis in (0, 1)]
    blocks = Image.fromarray(grey).resize((NUM_BLOCKS, NUM_BLOCKS), Image.Resampling.BOX)
    unevenness = np.asarray(blocks, dtype=np.float64).std()
    return Look(float(grey.mean()), float(grey.std()), float(np.mean(steps)), float(unevenness), width, height)


def write_changes(path: Path, changes: Changes) -> None:
    """Write the report as one HTML file, readable offline; equal changes give equal bytes."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("ndpnet.data.versions").joinpath("changes.html.j2").read_text(encoding="utf-8")
    statistics = [
        {
            "title": STATISTICS[comparison.name][0],
            "meaning": STATISTICS[comparison.name][1],
            "sentence": comparison.sentence,
            "is_different": comparison.is_different,
            **histogram(comparison.old, comparison.new),
        }
        for comparison in changes.comparisons
    ]
    values = {"changes": changes, "statistics": statistics, "rule": RULE}
    write_text(path, environment.from_string(source).render(values))


def histogram(old: Sequence[float], new: Sequence[float]) -> dict[str, Any]:
    """Bars of both groups over a common range, heights as shares of the highest. -> {low, high, old, new}"""
    if not old and not new:
        return {"low": 0.0, "high": 1.0, "old": [], "new": []}
    edges = np.histogram_bin_edges(np.concatenate([old, new]), bins=NUM_BINS)
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in (old, new)]
    highest = max(share.max() for share in shares)
    bars = [[round(float(share / highest), 4) for share in group] for group in shares]
    return {"low": float(edges[0]), "high": float(edges[-1]), "old": bars[0], "new": bars[1]}


def _sample(files: Mapping[str, str], below: str) -> dict[str, str]:
    """The pictures below a folder, at most NUM_COMPARED of them: those with the lowest hashes."""
    pictures = {path: md5 for path, md5 in files.items() if path.startswith(below) and is_picture(Path(path).name)}
    chosen = sorted(pictures, key=lambda path: (pictures[path], path))[:NUM_COMPARED]
    return {path: pictures[path] for path in chosen}


def _look_at(data_dir: Path, files: Mapping[str, str], known_looks: Mapping[str, Look]) -> list[Look]:
    def look(path: str) -> Look:
        return known_looks.get(files[path]) or measure(read_image(data_dir / path))

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(look, files))


def _compare(name: str, old_looks: list[Look], new_looks: list[Look]) -> Comparison:
    old, new = (np.array([asdict(look)[name] for look in looks]) for looks in (old_looks, new_looks))
    values = tuple(old.tolist()), tuple(new.tolist())
    if min(len(old), len(new)) < MIN_COMPARED:
        return Comparison(name, *values, effect=None, is_different=False)
    difference, spread = new.mean() - old.mean(), max(old.std(ddof=1), LEAST_SPREAD)
    standard_error = math.sqrt(spread**2 / len(old) + new.var(ddof=1) / len(new))
    effect = float(difference / spread)
    is_different = abs(effect) >= LARGE_EFFECT and abs(difference) > 2 * standard_error
    return Comparison(name, *values, effect=effect, is_different=bool(is_different))


def _new_sizes(old_looks: list[Look], new_looks: list[Look]) -> tuple[str, ...]:
    known = {(look.width, look.height) for look in old_looks}
    new = {(look.width, look.height) for look in new_looks}
    return tuple(f"{width}x{height}" for width, height in sorted(new - known)) if known else ()
