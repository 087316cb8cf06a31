"""Denormal numbers: they make a step on the CPU three times as long, and mean nothing to the network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALLEST = 5e-324  # of doubles, denormal


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for zero within; the mode belongs to the thread, so the caller gets its own back."""
    was_flushed = SMALLEST * float(1) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushed)
