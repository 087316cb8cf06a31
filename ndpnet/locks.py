"""Locks on folders and files that keep other processes out; whoever is killed lets go of them."""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ndpnet.files import unwritable

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.1


@contextmanager
def locked(
    path: Path, busy: Callable[[], str] | str, *, is_folder: bool = False, wait_seconds: float = 0.0
) -> Iterator[None]:
    """Make a folder or an empty file, and keep it for this process. ValueError(busy): another one does, for longer.

    On a file system without locks nobody is kept out.
    """
    path = Path(path)
    deadline = time.monotonic() + wait_seconds
    while (descriptor := _make_and_lock(path, is_folder=is_folder)) is None:
        if time.monotonic() >= deadline:
            raise ValueError(busy if isinstance(busy, str) else busy())
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """Lock what is there until its descriptor is closed or the process ends. BlockingIOError: another process has it.

    -> None where there is nothing, or a file system without locks: then nothing is ever taken for abandoned.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def is_held(path: Path) -> bool | None:
    """Whether another process has the lock; None where there is nothing, or a file system without locks."""
    try:
        descriptor = try_lock(path)
    except BlockingIOError:
        return True
    if descriptor is None:
        return None
    os.close(descriptor)
    return False


def _make_and_lock(path: Path, *, is_folder: bool) -> int | None:
    """-> None while another process has it."""
    try:
        (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:  # some network file systems have no locks
        logger.warning("no lock on %s (%s): see that one process alone works there", path, error.strerror)
        return descriptor
    # its last holder may have removed it meanwhile: then the next one would lock another
    if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
        return descriptor
    os.close(descriptor)
    return None
