"""Reading pictures in threads, as far as the memory for their pixels goes."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ndpnet.data.images import read_header

HELD_PIXELS = 40_000_000  # of all pictures that are held at once, unless one alone has more
NUM_WAITING = 8  # results that nobody has asked for yet

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, pixels_of: Callable[[Item], int]
) -> Iterator[Result]:
    """Results in order; the pictures under way have at most HELD_PIXELS together, and a larger one is alone."""
    # threads: PIL and hashlib release the GIL
    num_threads = min(8, len(os.sched_getaffinity(0)))
    pending: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                size = pixels_of(item)
                while pending and (held + size > HELD_PIXELS or len(pending) >= num_threads + NUM_WAITING):
                    yield pending[0][1].result()
                    held -= pending.popleft()[0]
                pending.append((size, pool.submit(function, item)))
                held += size
            while pending:
                yield pending.popleft()[1].result()
        finally:
            for _, future in pending:
                future.cancel()


def pixels_in(*paths: Path) -> int:
    """Pixels of pictures by their headers; none of one that cannot be read."""
    total = 0
    for path in paths:
        with suppress(ValueError):
            total += read_header(path, name=str(path)).num_pixels
    return total


def read_bytes(path: Path, *, name: str | None = None) -> bytes:
    """Return a picture's bytes; ValueError names one that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"cannot read {name or path}: {error.strerror} (check the file and its permissions)"
        ) from error
