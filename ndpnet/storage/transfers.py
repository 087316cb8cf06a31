"""Many objects at once into a folder: what is there is kept, what is missing is fetched, verified, then named."""

import errno
import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import Any

from ndpnet.storage.bucket import Bucket, Response, StoredObject
from ndpnet.storage.checksums import has_checksum, md5_of_etag
from ndpnet.storage.errors import AGAIN, ChangedError
from ndpnet.storage.keys import STATE_NAME, is_case_sensitive
from ndpnet.storage.partial import PartialFile
from ndpnet.storage.source import Source
from ndpnet.storage.workers import Workers

LOG = logging.getLogger(__name__)
MAX_TRIES = 2  # of an object whose bytes are wrong, or which is replaced meanwhile
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class DownloadResult:
    """What is in the folder now, and what this call had to do for it."""

    num_objects: int
    num_bytes: int
    num_kept: int  # objects whose files were here, with the right bytes
    num_fetched_bytes: int  # that came from the server; those of broken downloads were here already


def download_all(bucket: Bucket, key: str, folder: Path, *, num_threads: int) -> DownloadResult:
    """Download what a key names: one object, or all below it."""
    source = Source.find(bucket, key)
    num_objects, num_bytes = source.measure()
    LOG.info("%s: %d objects, %d bytes, into %s", bucket.url_of(key), num_objects, num_bytes, folder)
    try:
        with _state_folder(folder) as state_dir, _progress_bar(num_bytes) as bar:
            tally = Tally(bar)
            with Workers(num_threads, bucket.stop) as workers:
                for stored, path in source.objects(is_case_sensitive=is_case_sensitive(state_dir)):
                    if workers.has_stopped:
                        break
                    transfer = Transfer(bucket, stored, folder / path, state_dir, tally, workers)
                    workers.submit(transfer.start)
            shutil.rmtree(state_dir, ignore_errors=True)
    except OSError as error:
        raise _unwritable(error, folder) from error
    return tally.result()


class Tally:
    """Counts of a download, and its progress bar; shared by threads."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._num_objects = self._num_bytes = self._num_kept = self._num_fetched_bytes = 0

    def add_fetched(self, num_bytes: int) -> None:
        """Bytes came."""
        with self._lock:
            self._num_fetched_bytes += num_bytes
            self._bar.update(num_bytes)

    def add_found(self, num_bytes: int) -> None:
        """Bytes were here already; negative: they have to come again."""
        with self._lock:
            self._bar.update(num_bytes)

    def add_object(self, num_bytes: int, *, is_kept: bool) -> None:
        """An object is complete."""
        with self._lock:
            self._num_objects += 1
            self._num_bytes += num_bytes
            self._num_kept += is_kept

    def result(self) -> DownloadResult:
        """Return all counts."""
        return DownloadResult(self._num_objects, self._num_bytes, self._num_kept, self._num_fetched_bytes)


class Transfer:
    """One object on its way to one path: a job for each range, the last of which verifies and names the file."""

    def __init__(
        self, bucket: Bucket, stored: StoredObject, path: Path, state_dir: Path, tally: Tally, workers: Workers
    ) -> None:
        self._bucket, self._stored, self._path = bucket, stored, path
        self._state_dir, self._tally, self._workers = state_dir, tally, workers
        self._lock = threading.Lock()
        self._num_open = 0
        self._has_changed = False

    def start(self) -> None:
        """Keep the file if it is here; else fetch a small object, or hand out the ranges of a large one."""
        size = self._stored.size
        if self._is_here():
            self._tally.add_found(size)
            self._tally.add_object(size, is_kept=True)
            return
        self._partial = PartialFile(self._state_dir, self._stored)
        missing = self._partial.missing()
        self._tally.add_found(size - sum(stop - start for start, stop in missing))
        if len(missing) <= 1:
            self._complete()
            return
        self._num_open = len(missing)
        self._workers.submit_urgent(bind(self._fetch_in_parallel, *each) for each in missing)

    def _is_here(self) -> bool:
        if not self._path.is_file() or self._path.stat().st_size != self._stored.size:
            return False
        md5 = md5_of_etag(self._stored.etag)
        if md5 and not md5.num_parts:
            with self._path.open("rb") as stream:
                if has_checksum(stream, md5):
                    return True  # a right file costs no request
        try:
            return self._bucket.is_right(self._stored, self._path)
        except ChangedError:
            return False

    def _fetch_in_parallel(self, start: int, stop: int) -> None:
        """Fetch one range of several; whoever fetches the last one completes the file."""
        try:
            if not self._has_changed:
                self._fetch(start, stop)
        except ChangedError:
            self._has_changed = True
        with self._lock:
            self._num_open -= 1
            is_last = self._num_open == 0
        if is_last:
            self._complete()

    def _fetch(self, start: int, stop: int) -> Response | None:
        with self._partial.writing(start) as write:

            def write_and_count(position: int, chunk: bytes) -> None:
                write(position, chunk)
                self._tally.add_fetched(len(chunk))

            return self._bucket.read(self._stored, start, stop, write_and_count)

    def _fetch_missing(self) -> Response | None:
        """Fetch range after range. -> the fields of the response if there was one for all of it."""
        if self._has_changed:
            raise ChangedError
        response = None
        for start, stop in self._partial.missing() or [(0, 0)] * (self._stored.size == 0):
            response = self._fetch(start, stop)
        return response

    def _complete(self) -> None:
        """Fetch what is missing, verify it, give it its name. Once more from the beginning if the bytes are wrong."""
        url = self._bucket.url_of(self._stored.key)
        for number in range(1, MAX_TRIES + 1):
            try:
                response = self._fetch_missing()
                if self._bucket.is_right(self._stored, self._partial.path, response):
                    self._partial.move_to(self._path)
                    self._tally.add_object(self._stored.size, is_kept=False)
                    return
                problem = "came with other bytes than its checksum says"
            except ChangedError:
                problem = "was replaced while it was downloaded"
            LOG.warning("%s %s (%d of %d tries)", url, problem, number, MAX_TRIES)
            self._restart()
        raise ValueError(f"{url} {problem}, {MAX_TRIES} times (run the same command again: all others are kept)")

    def _restart(self) -> None:
        stored = self._bucket.find(self._stored.key)
        if stored is None:
            raise ValueError(f"{self._bucket.url_of(self._stored.key)} was deleted while it was downloaded ({AGAIN})")
        self._tally.add_found(sum(a - b for a, b in self._partial.missing()) - self._stored.size)
        self._stored, self._has_changed = stored, False
        self._partial.restart(stored)


@contextmanager
def _state_folder(folder: Path) -> Iterator[Path]:
    """Give the folder for partial files, below the target: the same disk. One process at a time."""
    state_dir = folder / STATE_NAME
    state_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, folder)
        yield state_dir
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"another process downloads into {folder} (wait for it, or choose another folder)") from error
    except OSError:
        LOG.info("the disk of %s has no locks: two downloads into it at once would not notice", folder)


def _progress_bar(num_bytes: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=num_bytes, unit="B", unit_scale=True, unit_divisor=1024, desc="download", disable=None)


def _unwritable(error: OSError, folder: Path) -> ValueError:
    path = error.filename2 or error.filename or folder
    if error.errno in DISK_FULL:
        return ValueError(f"the disk of {folder} is full (make room, then {AGAIN})")
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return ValueError(f"cannot write {path}: one name is a file and a folder (choose an empty folder)")
    return ValueError(
        f"cannot write {path}: {error.strerror or type(error).__name__} (choose a folder you can write to)"
    )
