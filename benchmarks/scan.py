"""What a large scan costs: memory above the loaded model and ms per megapixel, and what tiling changes in the map.

    python benchmarks/scan.py [--model DIR [--engine openvino --precision bf16]] [--size 2000x2600 ...] [--width 16]

Every size runs in a process of its own on one thread. Without --model the network is an untrained one of base width
--width: as fast, and as large, as a trained one. The picture is scikit-image's gravel, tiled by reflection. Memory is
the peak of the resident set above what it is once the model is loaded and has inspected one tile; beside it stand the
bytes of the picture and its map, which no way of inspection can do without. The last line compares the maps of tiles
with the map of one pass over the whole picture of 1024x1024 pixels; it says something of a trained --model alone.
"""

import argparse
import time

import numpy as np
import psutil
import torch
from measuring import alone, options
from skimage.data import gravel

from ndpnet.data.tiling import Tiling
from ndpnet.inference import Inspector
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.speed import peak_mib
from ndpnet.model import NDPNet
from ndpnet.model.folding import fold_batch_norms
from ndpnet.synthesis.compose import to_unit

SIDE, TILE_SIDE = 256, 512  # trained on and inspected, where there is no --model
MEBIBYTE = 1 << 20
UNTILED_SIDE = 1024


def main() -> None:
    """Print a line for each size, and one of the comparison."""
    arguments = options(__doc__, model=None, engine="torch", precision=None, size=["2000x2600", "8000x8000"], width=16)
    for size in arguments.size:
        row = alone(measure, arguments, size)
        print(
            f"{size}: {row['seconds']:.1f} s, {row['processor_seconds']:.1f} s of the processor, which is "
            f"{row['ms_per_megapixel']:.0f} ms per megapixel; "
            f"peak {row['peak_mib']:.0f} MiB above the model, picture + map {row['needed_mib']:.0f} MiB, "
            f"all else {row['peak_mib'] - row['needed_mib']:.0f} MiB",
            flush=True,
        )
    if arguments.engine != "torch":
        return  # other engines know tiles alone
    row = alone(compare, arguments)
    print(
        f"tiles against one pass over {UNTILED_SIDE}x{UNTILED_SIDE}: mean difference {row['mean']:.2g}, largest "
        f"{row['largest']:.2g}, where the map spreads by {row['spread']:.2g} (standard deviation); scores "
        f"{row['tiled_score']:.5f} and {row['untiled_score']:.5f}; mean jump across tile borders "
        f"{row['seam']:.3f} times that elsewhere"
    )


def measure(arguments: argparse.Namespace, size: str) -> dict[str, float]:
    """Seconds and peak memory of inspecting one picture."""
    inspector = load(arguments)
    height, width = (int(side) for side in size.split("x"))
    side = min(inspector.input_size)
    inspector.inspect(picture(side, 4 * side))  # libraries allocate their buffers on first use
    before = psutil.Process().memory_info().rss / MEBIBYTE
    scan = picture(height, width)
    started, started_processor = time.perf_counter(), time.process_time()
    verdict = inspector.inspect(scan)
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - started_processor
    needed = (scan.nbytes + verdict.anomaly_map.nbytes) / MEBIBYTE
    return {
        "seconds": seconds,
        "processor_seconds": processor_seconds,  # other work on the machine does not count
        "ms_per_megapixel": 1e9 * processor_seconds / (height * width),
        "peak_mib": peak_mib() - before,
        "needed_mib": needed,
    }


def compare(arguments: argparse.Namespace) -> dict[str, float]:
    """The map of tiles against that of one pass over the whole picture, and its jumps at the tiles' borders."""
    inspector = load(arguments)
    scan = picture(UNTILED_SIDE, UNTILED_SIDE)
    tiled = inspector.predict(scan)
    whole = Inspector(inspector.engine, input_size=(UNTILED_SIDE, UNTILED_SIDE), threshold=None)
    untiled = whole.predict(scan)
    difference = np.abs(tiled.anomaly_map - untiled.anomaly_map)
    return {
        "mean": float(difference.mean()),
        "largest": float(difference.max()),
        "spread": float(untiled.anomaly_map.std()),
        "tiled_score": tiled.score,
        "untiled_score": untiled.score,
        "seam": seam_ratio(tiled.anomaly_map, inspector.tiling),
    }


def seam_ratio(anomaly_map: np.ndarray, tiling: Tiling) -> float:
    """Mean jump between neighbouring columns at tile borders over that between all others. (H, W)."""
    width = anomaly_map.shape[1]
    offsets = tiling.offsets(width)
    borders = {edge for offset in offsets for edge in (offset, offset + tiling.side) if 0 < edge < width}
    jumps = np.abs(np.diff(anomaly_map, axis=1)).mean(axis=0)
    is_border = np.isin(np.arange(1, width), sorted(borders))
    return float(jumps[is_border].mean() / jumps[~is_border].mean())


def reflected(count: int, length: int) -> np.ndarray:
    """Indices into an axis that goes on as its mirror image, however short. -> (count,)."""
    index = np.arange(count) % (2 * (length - 1))
    return np.minimum(index, 2 * (length - 1) - index)


def load(arguments: argparse.Namespace) -> Inspector:
    """The inspector of --model, or of an untrained package of the wanted size."""
    if arguments.model:
        return Inspector.load(arguments.model, engine=arguments.engine, precision=arguments.precision)
    torch.manual_seed(0)
    network = NDPNet(base_width=arguments.width, ffm_channels=16).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    network.set_reference(to_unit(torch.from_numpy(picture(SIDE, SIDE)[None])))
    engine = TorchEngine(fold_batch_norms(network), torch.device("cpu"), has_filters=False)
    return Inspector(engine, input_size=(SIDE, SIDE), threshold=None, tiling=Tiling(TILE_SIDE))


def picture(height: int, width: int) -> np.ndarray:
    """The photograph, reflected as far as it takes. -> uint8 (height, width, 3)."""
    photograph = gravel()
    scan = np.empty((height, width, 3), dtype=np.uint8)
    columns = reflected(width, photograph.shape[1])
    for row, source in enumerate(reflected(height, photograph.shape[0])):  # no second copy of the picture
        scan[row] = photograph[source, columns, None]
    return scan


if __name__ == "__main__":
    main()
