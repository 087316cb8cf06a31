"""What a device makes of it: training steps of both phases and inference, against base width, size, batch, precision.

    python benchmarks/gpu.py [--accelerator cpu] [--cases 16x256x8 ...] [--steps 20] [--vgg] [-P NAME=VALUE ...]

A case is base width, image size and batch, and a process of its own. Printed for each phase and precision: images per
second of the Trainer's own steps, batches composed on the device from noise and a small bank of the profile demo, after
--warm-up steps (median and range over --rounds); the share of a step that composing a batch takes, by itself; the
largest memory, of PyTorch's allocator on a GPU, of the process above the libraries on the CPU (one thread); gigaflops
of an image, of the convolutions and matrix products that PyTorch counts; teraflops a second, and their share of the
best square matrix product of that precision on this device (32-true: TF32 where cuDNN is allowed it). On a GPU, too:
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
from measuring import alone, options, spread
from reference_step import PlainVGG
from synthesis import make_composer
from torch.utils.flop_counter import FlopCounterMode
from training_step import METHOD, library_vgg, make_trainer, width_overrides

from ndpnet.config import load_params
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.speed import peak_mib
from ndpnet.model.denormals import denormals_flushed
from ndpnet.model.folding import fold_batch_norms
from ndpnet.model.weights import make_network

CASES = ("16x256x8", "16x256x32", "64x256x8", "64x256x32")
GPU = "cuda:0"
SIDES = {"cuda": 8192, "cpu": 1536}  # of the matrices whose product is the peak


def main() -> None:
    """Print every figure."""
    counts = {"steps": 20, "warm_up": 10, "rounds": 3}
    arguments = options(__doc__, accelerator="cuda", cases=CASES, **counts, vgg=False)
    is_gpu = arguments.accelerator == "cuda"
    print(f"{torch.cuda.get_device_name(GPU) if is_gpu else 'CPU'}, torch {torch.__version__}")
    exact, tf32, bf16 = alone(product_rates, arguments.accelerator)
    print(f"matrix product, TFLOP/s: fp32 {exact:.2f}, tf32 {tf32:.2f}, bf16 {bf16:.2f}")
    print("width x px x batch, phase, precision: images/s (3 figures), composing, MiB, GFLOP, TFLOP/s, of peak")
    for case in arguments.cases:
        for precision, peak in {"32-true": tf32, "bf16-mixed": bf16}.items():
            for phase in (1, 2):
                row = alone(train, arguments, case, phase, precision, peak)
                print(f"{case:>10} {phase} {precision:10} {row}", flush=True)
    if not is_gpu:
        return
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
    device = GPU if arguments.accelerator == "cuda" else "cpu"
    before, how = peak_mib(), [f"train.batch_size={batch}", f"train.precision={precision}"]
    how += [f"runtime.accelerator={arguments.accelerator}"]
    params = load_params(overrides=[*METHOD, *width_overrides(width), *how, *arguments.overrides])
    composer = make_composer("demo", size, device=device)
    torch.manual_seed(0)
    network = make_network(params.model).to(device)
    network.set_reference(torch.rand(1, 3, size, size, device=device))
    vgg = library_vgg(PlainVGG().requires_grad_(False)) if arguments.vgg else None
    with denormals_flushed(), tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(network, vgg, composer, phase, params, Path(folder))
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
        memory = torch.cuda.max_memory_allocated() / 2**20 if device == GPU else peak_mib() - before
    per_second = statistics.median(speeds)
    rate = operations / batch * per_second / 1e12
    shares = f"{waits * per_second / batch:.1%}, {memory:.0f}, {operations / batch / 1e9:.1f}"
    return f"{spread(speeds)}, {shares}, {rate:.3f}, {rate / peak:.1%}"


def infer(width: int, batch: int) -> str:
    """Milliseconds of an image, as the Inspector computes it."""
    network = make_network(load_params(overrides=[*METHOD, *width_overrides(width)]).model).eval().requires_grad_(False)
    network = network.to(GPU, memory_format=torch.channels_last)
    network.set_reference(torch.rand(1, 3, 256, 256, device=GPU))
    engine = TorchEngine(fold_batch_norms(network), torch.device(GPU))
    images = torch.randint(0, 256, (batch, 256, 256, 3), dtype=torch.uint8).numpy()
    times = [1000 * seconds(lambda: engine.predict(images)) / batch for _ in range(20)]
    return spread(times[3:])


def seconds(run: Callable[[], object], count: int = 1) -> float:
    """Of so many runs: of the clock, until the GPU has done them; of the processor where there is none."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    synchronise = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronise()
    started = clock()
    for _ in range(count):
        run()
    synchronise()
    return clock() - started


def product_rates(accelerator: str) -> list[float]:
    """The best of ten square matrix products in fp32, with TF32 allowed, and in bf16. -> TFLOP/s"""
    rates, side = [], SIDES[accelerator]
    for dtype, has_tf32 in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False)):
        first, second = (torch.randn(side, side, device=accelerator).to(dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = has_tf32
        rates.append(2 * side**3 / min(seconds(lambda a=first, b=second: a @ b) for _ in range(10)) / 1e12)
    return rates


if __name__ == "__main__":
    main()
