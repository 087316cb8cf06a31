"""One image through every engine: milliseconds, share of the machine's peak, ratio to eager PyTorch.

    python benchmarks/inference.py [--profile line] [--size 256] [--rounds 7] [--only openvino-bf16 ...]
                                   [--peers efficient_ad ...] [-P model.encoder=own -P model.base_width=64 ...]

One thread, one image at a time, all engines in one process and in turn, so what else the machine does meets all alike.
Processor time of the process stands beside the time that passed: on a machine that others use it is the one to read,
and the ratios and shares are of its medians. `eager` is the network as training leaves it, `torch-fp32` what the
Inspector runs (batch norms folded), both channels-last. The network is an untrained one: as fast as a trained one, and
int8 here is plain quantisation without accuracy control. Peak: the best of square matrix products of each precision,
in between the rounds. GMAC: multiply-accumulates of convolutions and matrix products, counted by torch. Of a frozen
encoder's profile each part of `torch-fp32` stands below, and reading a picture of 1024 px. Peers run at their published
width in their own environment (`make peers`), a process per round: the median of its pictures counts;
`patchcore:efficientnet-lite0:4096` is one with another encoder and so many patches.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import in_turn, middle, options
from PIL import Image
from skimage.data import brick
from torch.utils.flop_counter import FlopCounterMode

from ndpnet.config import Params, load_params
from ndpnet.data.images import open_image
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.engines.graph import write_onnx
from ndpnet.inference.engines.quantise import quantise
from ndpnet.inference.engines.rounding import save_graph
from ndpnet.inference.engines.runtimes import (
    ONNX_GRAPH,
    OPENVINO_GRAPH,
    GraphEngine,
    float_type_here,
    load_module,
    open_graph,
)
from ndpnet.model import Network
from ndpnet.model.denormals import denormals_flushed
from ndpnet.model.folding import fold_batch_norms
from ndpnet.model.pretrained import PretrainedNDPNet
from ndpnet.model.weights import make_network as make_network_of
from ndpnet.synthesis.compose import to_unit

PEER_TIMES = ("processor_seconds_per_image", "seconds_per_image")
MATRIX_SIDE = 1536
READ_SIDE = 1024
NUM_CALIBRATION = 8
PEER_WORKER = Path(__file__).parent / "suite/peer_worker.py"
PEERS_PYTHON = Path(__file__).parents[1] / ".venv-peers/bin/python"
EXPORTED = ["onnx-fp32", "openvino-fp32", "openvino-bf16", "openvino-int8"]

Run = Callable[[np.ndarray], object]


def main() -> None:
    """Build every engine, time them in turn, print the table."""
    arguments = options(__doc__, profile="line", size=256, rounds=7, only=EXPORTED, peers=())
    torch.set_num_threads(1)
    images, cpu = pictures(arguments.size), torch.device("cpu")
    network = make_network(arguments, images[0])
    engines: dict[str, Run] = {"eager": TorchEngine(network, cpu).predict}
    folded = fold_batch_norms(deepcopy(network))
    engines["torch-fp32"] = TorchEngine(folded, cpu).predict
    with tempfile.TemporaryDirectory() as scratch:
        engines |= exported(arguments, deepcopy(network), images, Path(scratch))
    report(arguments, network, engines, images[0])
    if isinstance(folded, PretrainedNDPNet):
        report_parts(folded, images[0], arguments.rounds)


def pictures(side: int) -> list[np.ndarray]:
    """Cuts of a brick wall. -> uint8 (side, side, 3) each"""
    texture, rng = np.repeat(brick()[..., None], 3, axis=2), np.random.default_rng(0)
    corners = rng.integers(0, len(texture) - side + 1, (NUM_CALIBRATION, 2))
    return [texture[top : top + side, left : left + side].copy() for top, left in corners]


def make_network(arguments: argparse.Namespace, reference: np.ndarray) -> Network:
    """The untrained network of a profile."""
    torch.manual_seed(0)
    network = make_network_of(params_of(arguments).model).eval().requires_grad_(False)
    for bank in getattr(network, "banks", ()):
        torch.nn.init.normal_(bank.patches)
    network.set_reference(to_unit(torch.from_numpy(reference[None])))
    return network.to(memory_format=torch.channels_last)


def params_of(arguments: argparse.Namespace) -> Params:
    """The parameters asked for."""
    return load_params(profile=arguments.profile, overrides=arguments.overrides)


def exported(arguments: argparse.Namespace, network: Network, images: list[np.ndarray], folder: Path) -> dict[str, Run]:
    """The other engines that are asked for, loaded."""
    openvino = load_module("openvino")
    path, params, size = folder / ONNX_GRAPH, params_of(arguments), (arguments.size, arguments.size)
    write_onnx(network, path, input_size=size, has_filters=True, score_pixels=params.model.score_pixels)
    runs = {}
    for name in arguments.only:
        engine, precision = name.split("-")
        if engine == "openvino":
            model = openvino.Core().read_model(path)
            if precision == "int8":  # plain, without accuracy control
                model = quantise(model, images, np.array(images), lambda *_: (0.0, []), max_loss=0)
            # each in a folder of its own: an open engine maps its file, and dies if another is written over it
            is_rounded = precision != "fp32" and params.model.encoder != "own"
            save_graph(model, folder / name / OPENVINO_GRAPH, is_rounded=is_rounded)
        of_engine = folder / name if engine == "openvino" else folder
        float_type = float_type_here(engine, precision)
        run = open_graph(engine, of_engine, float_type=float_type, input_size=size, num_threads=1)
        runs[name] = GraphEngine(run).predict
    return runs


def report(arguments: argparse.Namespace, network: Network, engines: dict[str, Run], image: np.ndarray) -> None:
    """Time and print."""
    giga_macs = count_giga_macs(network, image)
    wall, processor = {name: [] for name in engines}, {name: [] for name in engines}
    peaks = {"fp32": 0.0, "bf16": 0.0, "int8": 0.0}
    peers: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.peers}
    for round_number in range(1 + arguments.rounds):  # the first one warms up
        for name, run in engines.items():
            started = time.perf_counter(), time.process_time()
            predict(run, image[None])
            if round_number:
                wall[name].append(1000 * (time.perf_counter() - started[0]))
                processor[name].append(1000 * (time.process_time() - started[1]))
        peaks = {precision: max(peak, product_rate(precision)) for precision, peak in peaks.items()}
        for name in arguments.peers if round_number else ():
            peers[name].append(time_peer(name, arguments.size))
    kind = " ".join([arguments.profile, *arguments.overrides])
    network = f"{kind}, {arguments.size} px, {giga_macs:.1f} GMAC"
    print(f"{network}, one thread; medians (min to max)")
    print("peak of matrix products: " + ", ".join(f"{name} {peak:.0f} GMAC/s" for name, peak in peaks.items()))
    print(f"{'engine':14} {'ms of the processor':>28} {'ms passed':>28} {'of eager':>9} {'of peak':>8}")
    first = statistics.median(processor["eager"])
    for name in engines:
        median = statistics.median(processor[name])
        peak = peaks[name.split("-")[-1] if "-" in name else "fp32"]
        share = giga_macs / (median / 1000) / peak
        print(f"{name:14} {middle(processor[name]):>28} {middle(wall[name]):>28} {median / first:9.3f} {share:8.0%}")
    for name, rows in peers.items():
        of_processor, of_clock = ([1000 * row[key]["p50"] for row in rows] for key in PEER_TIMES)
        ratio = statistics.median(of_processor) / first
        print(name)
        of_peer = f"{middle(of_processor):>28} {middle(of_clock):>28} {ratio:9.3f}"
        print(f"{'':14} {of_peer}  ({rows[0]['gmac']:.1f} GMAC)")


@torch.inference_mode()
@denormals_flushed()
def report_parts(network: PretrainedNDPNet, image: np.ndarray, rounds: int) -> None:
    """Time what the map is computed from one by one, and what comes before it, and print."""
    shown = to_unit(torch.from_numpy(image[None])).contiguous(memory_format=torch.channels_last)
    features = network.encoder(shown)
    levels, repaired, tone = network.repairable(features), network.repair(features), network.tone(shown)
    png, jpeg = (encoded(kind) for kind in ("PNG", "JPEG"))
    large = open_image(png)
    parts: dict[str, Callable[[], object]] = {
        "encoder": lambda: network.encoder(shown),
        "bank": lambda: [bank(feats) for bank, feats in zip(network.banks, levels, strict=True)],
        "bank, own places": lambda: network.repair(features),
        "segmentation": lambda: network.logit(features, repaired),
        "colour, light": lambda: network.tone(shown),
        "segm. and map": lambda: network.excess(features, repaired, tone),
        "decode PNG": lambda: open_image(png),
        "decode JPEG": lambda: open_image(jpeg),
        "resize": lambda: large.fitted(image.shape[:2], None),
    }
    milliseconds = {name: [1000 * each for each in taken] for name, taken in in_turn(parts, rounds).items()}
    peak = max(product_rate("fp32") for _ in range(rounds))
    print(f"\n{'part':16} {'ms of the processor':>28} {'GMAC':>7} {'of peak':>8}   ({READ_SIDE} px to read)")
    for name, compute in parts.items():
        with FlopCounterMode(display=False) as counter:
            compute()
        giga_macs = counter.get_total_flops() / 2e9
        share = giga_macs / (statistics.median(milliseconds[name]) / 1000) / peak
        print(f"{name:16} {middle(milliseconds[name]):>28} {giga_macs:7.2f} {share:8.0%}")


def encoded(kind: str) -> bytes:
    """The brick wall as a file of READ_SIDE."""
    stream = io.BytesIO()
    Image.fromarray(brick()).convert("RGB").resize((READ_SIDE, READ_SIDE)).save(stream, kind)
    return stream.getvalue()


def time_peer(name: str, size: int) -> dict[str, Any]:
    """One round of a peer. -> what its worker measured."""
    command = [PEERS_PYTHON, PEER_WORKER, "--speed", name, str(size)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


@torch.inference_mode()
@denormals_flushed()
def predict(run: Run, images: np.ndarray) -> None:
    """As the Inspector calls an engine."""
    run(images)


def count_giga_macs(network: Network, image: np.ndarray) -> float:
    """Multiply-accumulates of one image, in billions."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.mark(to_unit(torch.from_numpy(image[None])))
    return counter.get_total_flops() / 2e9


def product_rate(precision: str) -> float:
    """Multiply-accumulates of a square matrix product per second of the processor, in billions."""
    side = MATRIX_SIDE
    if precision == "int8":
        first, second = (torch.randint(-128, 127, (side, side), dtype=torch.int8) for _ in range(2))
        multiply = torch._int_mm
    else:
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        first, second = (torch.rand(side, side, dtype=dtype) for _ in range(2))
        multiply = torch.mm
    multiply(first, second)
    started = time.process_time()
    multiply(first, second)
    return side**3 / (time.process_time() - started) / 1e9


if __name__ == "__main__":
    main()
