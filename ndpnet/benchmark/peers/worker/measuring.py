"""What a peer costs: multiply-adds, time and stored numbers."""

import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from worker.peer import Peer

NUM_WARM_UP, MIN_RUNS, MAX_RUNS, SECONDS = 2, 5, 50, 10.0


def measure(peer: Peer, image: Tensor) -> dict[str, Any]:
    """Count and time one picture, from the scaled picture to score and map. image: (1, 3, S, S)."""
    peer.model.eval()
    with torch.inference_mode():
        wall, processor = _time(peer, image)
        with FlopCounterMode(display=False) as counter:
            peer.predict(image)
    return {
        # torch counts two operations for a multiply-add of a convolution or a matrix product, and nothing else
        "gmac": counter.get_total_flops() / 2e9,
        "seconds_per_image": _spread(wall),
        # what the clock shows on an idle machine, where one thread of the processor does it all
        "processor_seconds_per_image": _spread(processor),
        "num_parameters": sum(each.numel() for each in peer.model.parameters()),
        "num_stored": sum(each.numel() for each in peer.model.buffers()),
    }


def _time(peer: Peer, image: Tensor) -> tuple[list[float], list[float]]:
    """Time single pictures with one thread. -> seconds of the clock, seconds of this process."""
    wall: list[float] = []
    processor: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(NUM_WARM_UP):
        peer.predict(image)
    while len(wall) < MIN_RUNS or (len(wall) < MAX_RUNS and sum(wall) < SECONDS):
        _synchronise(image)
        started, used = time.perf_counter(), time.process_time()
        peer.predict(image)
        _synchronise(image)
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    torch.set_num_threads(threads)
    return wall, processor


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"p50": statistics.median(seconds), "min": min(seconds), "max": max(seconds), "runs": len(seconds)}


def _synchronise(image: Tensor) -> None:
    if image.is_cuda:
        torch.cuda.synchronize(image.device)
