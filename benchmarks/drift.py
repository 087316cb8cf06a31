"""How soon a station rings when real pictures change, and how often while they do not.

    python benchmarks/drift.py --prepared DIR --model DIR [--count 48] [--before 200] [--orders 20] [--limit 1000000]

Good test pictures, up to `count` of them, are drawn with replacement: `before` of them as they are, then as many as it
takes with a change, up to 2,000. Printed: in how many of the random orders it rang before anything had changed, and the
median, least and most pictures from the change to the alarm of the others. The watch is the station's, with its
defaults; its alarm comes after `limit` pictures without a change, at the earliest, on average.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from measuring import options
from PIL import Image, ImageFilter

from ndpnet.data.arrays import spread_rows
from ndpnet.data.manifest import GOOD
from ndpnet.data.prepared import PreparedData
from ndpnet.files import read_yaml
from ndpnet.inference import Inspector
from ndpnet.metrics.drift import LineWatch
from ndpnet.metrics.properties import picture_properties
from ndpnet.station.config import DEFAULTS_PATH, DriftConfig
from ndpnet.station.models import Calibration

MAX_AFTER = 2000

Seen = tuple[float, dict[str, float]]  # score and properties


def darker(share: float) -> Callable[[Image.Image], Image.Image]:
    """A lamp that has lost a share of its light."""
    return lambda image: image.point([round((1 - share) * level) for level in range(256)] * 3)


def enlarged(image: Image.Image) -> Image.Image:
    """Another material, whose texture is a twentieth larger."""
    width, height = image.size
    return image.crop((0, 0, round(width / 1.05), round(height / 1.05))).resize(image.size, Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "5 % darker": darker(0.05),
    "10 % darker": darker(0.10),
    "20 % darker": darker(0.20),
    "blur of 0.8 px": lambda image: image.filter(ImageFilter.GaussianBlur(0.8)),
    "blur of 1.5 px": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "5 % larger texture": enlarged,
}


def main() -> None:
    """Look at every picture once with every change, then run the orders."""
    arguments = options(__doc__, prepared=None, model=None, count=48, before=200, orders=20, limit=1_000_000)
    if not (arguments.prepared and arguments.model):
        sys.exit("--prepared and --model are needed")
    prepared, inspector = PreparedData.load(Path(arguments.prepared)), Inspector.load(arguments.model)
    good = [row for row, record in enumerate(prepared.records("test")) if record.defect_type == GOOD]
    rows = [good[index] for index in spread_rows(len(good), arguments.count)]
    pictures = [Image.fromarray(np.asarray(prepared.images("test")[row])) for row in rows]
    seen = {name: [look(inspector, change(picture)) for picture in pictures] for name, change in CHANGES.items()}
    print(f"{len(pictures)} good pictures, an alarm at {arguments.limit:,}, {arguments.orders} orders")
    for name in CHANGES:
        early, delays = run(inspector, seen["none"], seen[name], arguments)
        told = f"{statistics.median(delays):.0f} ({min(delays)} to {max(delays)})" if delays else "-"
        print(f"{name:20} rang before it {early:3}, within {MAX_AFTER} pictures {len(delays):3}, pictures {told}")


def look(inspector: Inspector, picture: Image.Image) -> Seen:
    """What the watch is told of a picture that is fitted."""
    pixels = np.asarray(picture)
    return inspector.predict(pixels).score, picture_properties(pixels)


def run(
    inspector: Inspector, before: Sequence[Seen], after: Sequence[Seen], arguments: argparse.Namespace
) -> tuple[int, list[int]]:
    """Every order. -> in how many it rang too early, and after how many pictures in the others that rang."""
    early, delays = 0, []
    for order in range(arguments.orders):
        rng, watch = np.random.default_rng(order), watch_of(inspector, arguments.limit)
        first = rings_after(watch, before, arguments.before, rng)
        delay = None if first is not None else rings_after(watch, after, MAX_AFTER, rng)
        early += first is not None
        delays += [] if delay is None else [delay]
    return early, delays


def rings_after(watch: LineWatch, seen: Sequence[Seen], number: int, rng: np.random.Generator) -> int | None:
    """Show so many pictures. -> after how many it rang; None: it did not."""
    for count in range(1, number + 1):
        watch.add(watch.num_pictures, *seen[rng.integers(len(seen))])
        if watch.rings:
            return count
    return None


def watch_of(inspector: Inspector, limit: int) -> LineWatch:
    """The station's, of the model's calibration pictures."""
    drift = DriftConfig(**read_yaml(DEFAULTS_PATH)["drift"] | {"pictures_per_false_alarm": limit})
    return Calibration(**inspector.threshold_record["calibration"]).watch(inspector.threshold, drift)


if __name__ == "__main__":
    main()
