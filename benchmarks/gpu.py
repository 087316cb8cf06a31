"""What a GPU makes of it: training steps of both phases and inference, against base width, size, batch and precision.

    python benchmarks/gpu.py [--cases 16x256x8 64x256x8 64x256x32] [--steps 20] [--vgg] [-P NAME=VALUE ...]

A case is base width, image size and batch. Printed for each phase and precision: images per second of the Trainer's
own steps, batches composed on the GPU from noise and a small bank of the profile demo, after --warm-up steps (median
and range over --rounds); the share of a step that composing a batch takes, by itself; the largest memory that
PyTorch's allocator held; teraflops a second, of the convolutions and matrix products that PyTorch counts, and their
share of the best square matrix product of that precision on this GPU (32-true: TF32 where cuDNN is allowed it). Then
artificial defects composed per second, and milliseconds of an image through the untrained network, copies included,
one at a time and in batches.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from reference_step import PlainVGG
from synthesis import make_composer
from torch.utils.flop_counter import FlopCounterMode
from training_step import METHOD, library_vgg, make_trainer, spread, width_overrides

from ndpnet.config import load_params
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.package import make_network
from ndpnet.model.folding import fold_batch_norms

CASES = ("16x256x8", "16x256x32", "64x256x8", "64x256x32")
GPU = "cuda:0"
SIDE = 8192  # of the matrices whose product is the peak


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vgg", action="store_true", help="with the perceptual loss, random weights")
    parser.add_argument("-P", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name(GPU)}, torch {torch.__version__}, {torch.backends.cudnn.allow_tf32=}")
    peaks = {"32-true": product_rate(torch.float32, has_tf32=True), "bf16-mixed": product_rate(torch.bfloat16)}
    exact = product_rate(torch.float32)
    print(f"matrix product, TFLOP/s: fp32 {exact:.0f}, tf32 {peaks['32-true']:.0f}, bf16 {peaks['bf16-mixed']:.0f}")
    print("width x px x batch, phase, precision: images/s (min / median / max), composing, MiB, TFLOP/s, of peak")
    for case in arguments.cases:
        for precision, peak in peaks.items():
            for phase in (1, 2):
                print(f"{case:>10} {phase} {precision:10} {train(arguments, case, phase, precision, peak)}", flush=True)
    for profile in ("demo", "paper"):
        composer = make_composer(profile, 256, device=GPU)
        steps = range(20)
        took = seconds(lambda composer=composer, steps=steps: [composer.batch(step, 32) for step in steps])
        print(f"images composed, {profile}, 256 px, batches of 32: {20 * 32 / took:.0f} a second", flush=True)
    for width in (16, 64):
        for batch in (1, 16, 64):
            print(f"inference, width {width}, 256 px, batch {batch}: {infer(width, batch)} ms an image", flush=True)


def train(arguments: argparse.Namespace, case: str, phase: int, precision: str, peak: float) -> str:
    """Steps of one phase."""
    width, size, batch = (int(part) for part in case.split("x"))
    how = [f"train.batch_size={batch}", "runtime.accelerator=cuda", f"train.precision={precision}"]
    params = load_params(overrides=[*METHOD, *width_overrides(width), *how, *arguments.overrides])
    composer = make_composer("demo", size, device=GPU)
    torch.manual_seed(0)
    network = make_network(params.model).to(GPU)
    network.set_reference(torch.rand(1, 3, size, size, device=GPU))
    vgg = library_vgg(PlainVGG().requires_grad_(False)) if arguments.vgg else None
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(network, vgg, composer, phase, params, Path(folder))
        torch.cuda.reset_peak_memory_stats()
        with FlopCounterMode(display=False) as counter:
            trainer.run_step()
        operations = counter.get_total_flops()
        for _ in range(arguments.warm_up):
            trainer.run_step()
        trainer.pending.clear()
        speeds = []
        for _ in range(arguments.rounds):
            speeds.append(arguments.steps * batch / seconds(trainer.run_step, arguments.steps))
            trainer.pending.clear()
        steps = range(trainer.step, trainer.step + arguments.steps)
        waits = seconds(lambda: [composer.batch(step, batch) for step in steps]) / arguments.steps
        memory = torch.cuda.max_memory_allocated() / 2**20
    per_second = statistics.median(speeds)
    rate = operations / batch * per_second / 1e12
    return f"{spread(speeds)}, {waits * per_second / batch:.1%}, {memory:.0f}, {rate:.1f}, {rate / peak:.1%}"


def infer(width: int, batch: int) -> str:
    """Milliseconds of an image, as the Inspector computes it."""
    network = make_network(load_params(overrides=width_overrides(width)).model).eval().requires_grad_(False)
    network = network.to(GPU, memory_format=torch.channels_last)
    network.set_reference(torch.rand(1, 3, 256, 256, device=GPU))
    engine = TorchEngine(fold_batch_norms(network), torch.device(GPU))
    images = torch.randint(0, 256, (batch, 256, 256, 3), dtype=torch.uint8).numpy()
    times = [1000 * seconds(lambda: engine.predict(images)) / batch for _ in range(20)]
    return spread(times[3:])


def seconds(run: Callable[[], object], count: int = 1) -> float:
    """Of so many runs, until the GPU has done them."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        run()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def product_rate(dtype: torch.dtype, *, has_tf32: bool = False) -> float:
    """The best of ten square matrix products. -> TFLOP/s"""
    first, second = (torch.randn(SIDE, SIDE, dtype=dtype, device=GPU) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = has_tf32
    best = min(seconds(lambda: first @ second) for _ in range(10))
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * SIDE**3 / best / 1e12


if __name__ == "__main__":
    main()
