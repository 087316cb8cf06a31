"""Pixel metrics: seconds for 100 maps, and how exact and streamed ones grow with the number of maps.

    python benchmarks/metrics.py [--size 256] [--rounds 5] [--counts 100 1000 10000]

First PROAUC, and both pixel metrics at once, of 100 maps of noise with blob masks (Perlin) and with masks that are
noise pixel by pixel, where nearly every defect pixel is a region of its own; processor time on one thread, minimum,
median and maximum over the rounds. Then, for every count, both ways in a process of its own: peak memory above the
libraries and the time of all, with the differences of the streamed values from the exact ones beside the errors that
they state. A map is made when it is needed: the exact
way must keep them all, so it goes to 2,000; the stream keeps none. `evaluate` is what the step of that name does with
more images than that: the stream, and a few kB per image that intervals are computed from; its time is with intervals.
"""

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
from measuring import alone, in_turn, options, spread

from ndpnet.inference.speed import peak_mib
from ndpnet.metrics import exact
from ndpnet.metrics.streaming import PixelStream, PixelTally
from ndpnet.metrics.summary import ScoredImages, summarise
from ndpnet.synthesis.perlin import blob_masks

NUM_MAPS = 100
MAX_EXACT = 2_000  # maps: 1 GiB for 1,000 of 256x256
NAMES = ("pixel_auroc", "pro_auc")
WAYS = ("exact", "streamed", "evaluate")


def main() -> None:
    """Print both tables."""
    arguments = options(__doc__, size=256, rounds=5, counts=[100, 1_000, 10_000])
    for kind in ("blob", "noise"):
        maps, masks = (np.stack(each) for each in zip(*pictures(NUM_MAPS, arguments.size, kind=kind), strict=True))
        for name in ("pro_auc", "pixel_metrics"):
            seconds = in_turn({name: partial(getattr(exact, name), maps, masks)}, arguments.rounds)[name]
            print(f"{NUM_MAPS} maps, {kind} masks, {name:13} {spread(seconds)} s")
    for count in arguments.counts:
        ways = WAYS if count <= MAX_EXACT else WAYS[1:]
        rows = {way: alone(measure, way, count, arguments.size) for way in ways}
        for way, row in rows.items():
            print(f"{count:6d} maps, {way:8} {row['seconds']:7.2f} s {row['peak_mib']:7.0f} MiB", end="")
            has_both = way == "streamed" and len(rows) == len(WAYS)
            print(f"  {error_of(rows['exact'], row)}" if has_both else "", flush=True)


def pictures(count: int, size: int, *, kind: str = "blob") -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps of noise in [0, 1], higher where the mask is. -> float32 (size, size), bool (size, size)."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        blob = blob_masks(rng, 1, size)[0].numpy()
        mask = blob if kind == "blob" else rng.random((size, size)) < 0.05
        yield 0.7 * rng.beta(2, 8, (size, size)).astype(np.float32) + np.float32(0.25) * mask, mask


def measure(way: str, count: int, size: int) -> dict[str, float]:
    """Seconds, without making the maps, peak memory and values of one way."""
    before = peak_mib()
    if way == "exact":
        maps, masks = (list(each) for each in zip(*pictures(count, size), strict=True))
        started = time.process_time()
        values = dict(zip(NAMES, exact.pixel_metrics(maps, masks), strict=True))
        seconds = time.process_time() - started
    elif way == "evaluate":
        tally, scores, seconds = PixelTally(), [], 0.0
        for anomaly_map, mask in pictures(count, size):
            started = time.process_time()
            is_good = len(scores) % 2 == 1
            tally.add(anomaly_map, mask & (not is_good), "good" if is_good else "blob", is_good=is_good)
            scores.append(float(anomaly_map.max()))
            seconds += time.process_time() - started
        started = time.process_time()
        types, groups = np.array([("blob", "good")[row % 2] for row in range(count)]), np.arange(count).astype(str)
        known = {"groups": groups, "types": types, "scores": np.array(scores)}
        summary = summarise(ScoredImages(**known, threshold_record=None, tally=tally), category="")
        seconds += time.process_time() - started
        values = {name: summary[name]["value"] for name in NAMES}
    else:
        stream, seconds = PixelStream(), 0.0
        for anomaly_map, mask in pictures(count, size):
            started = time.process_time()
            stream.add(anomaly_map, mask)
            seconds += time.process_time() - started
        names = (*NAMES, *(f"{name}_error" for name in NAMES))
        values = dict(zip(names, np.ravel(stream.metrics()).tolist(), strict=True))
    return {"seconds": seconds, "peak_mib": peak_mib() - before} | values


def error_of(exact: dict[str, float], streamed: dict[str, float]) -> str:
    """Differences and the errors stated."""
    parts = [
        f"{name} off by {abs(streamed[name] - exact[name]):.1e} <= {streamed[f'{name}_error']:.1e}" for name in NAMES
    ]
    return ", ".join(parts)


if __name__ == "__main__":
    main()
