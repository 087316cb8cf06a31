"""Bytes of an object on their way: a file that is not yet what its name will be, and a record of what it has."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ndpnet.files import write_json
from ndpnet.storage.bucket import StoredObject, Write

LOG = logging.getLogger(__name__)
RANGE_BYTES = 16 << 20  # what is fetched in one request, and lost at most when killed


class PartialFile:
    """The part of one object that is here, in ranges. A killed download finds it again by the object's key."""

    def __init__(self, state_dir: Path, stored: StoredObject) -> None:
        name = hashlib.sha256(stored.key.encode()).hexdigest()[:32]  # a key may be longer than a file name
        self.path = state_dir / f"{name}.part"
        self._record_path = state_dir / f"{name}.json"
        self._stored = stored
        self._lock = threading.Lock()
        self._finished = self._read_record()

    def missing(self) -> list[tuple[int, int]]:
        """Return start and stop of the ranges that are not here."""
        size = self._stored.size
        starts = range(0, size, RANGE_BYTES)
        return [(start, min(start + RANGE_BYTES, size)) for start in starts if start not in self._finished]

    @contextmanager
    def writing(self, start: int) -> Iterator[Write]:
        """Give a function that writes bytes of the range from `start`; on success the range is recorded."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)

        def write(position: int, chunk: bytes) -> None:
            view = memoryview(chunk)
            while view:
                num_written = os.pwrite(descriptor, view, position)
                view, position = view[num_written:], position + num_written

        try:
            yield write
            os.fsync(descriptor)  # before the record of it, and before the file has its name
            self._record(start)
        finally:
            os.close(descriptor)

    def restart(self, stored: StoredObject) -> None:
        """Forget all bytes: the object is another one, or they are wrong."""
        self.path.unlink(missing_ok=True)
        self._record_path.unlink(missing_ok=True)
        self._stored, self._finished = stored, set()

    def move_to(self, path: Path) -> None:
        """Give the file its final name; it must be complete and verified."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, path)
        self._record_path.unlink(missing_ok=True)

    def _identity(self) -> dict[str, str | int]:
        stored = self._stored
        return {"key": stored.key, "etag": stored.etag, "size": stored.size, "range_bytes": RANGE_BYTES}

    def _record(self, start: int) -> None:
        with self._lock:
            self._finished.add(start)
            if self._stored.size <= RANGE_BYTES:
                return  # a small object comes as a whole or not at all
            write_json(self._record_path, {"object": self._identity(), "finished": sorted(self._finished)})

    def _read_record(self) -> set[int]:
        """Return the starts of the ranges that an earlier process finished; nothing if the object was another one."""
        try:
            record = json.loads(self._record_path.read_text())
            is_same = record["object"] == self._identity() and bool(self._stored.etag)
            finished = {int(start) for start in record["finished"]} if is_same else set()
            num_here = self.path.stat().st_size
        except FileNotFoundError:
            return set()
        except (ValueError, KeyError, TypeError):
            LOG.warning("the record %s is damaged: its object is downloaded from the beginning", self._record_path)
            return set()
        size = self._stored.size
        return {start for start in finished if min(start + RANGE_BYTES, size) <= num_here}
