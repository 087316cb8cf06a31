"""Chosen objects as files, exactly as they were listed: one that was replaced or removed since is said, not fetched."""

import threading
from collections.abc import Mapping
from functools import partial as bind
from pathlib import Path

from ndpnet.storage.bucket import Bucket, StoredObject
from ndpnet.storage.errors import ChangedError
from ndpnet.storage.workers import do_all

MAX_TRIES = 2  # of an object whose bytes are wrong
REPLACED, REMOVED = "was replaced since it was listed", "was removed since it was listed"


def fetch_objects(bucket: Bucket, objects: Mapping[Path, StoredObject], *, num_threads: int = 8) -> dict[Path, str]:
    """Download objects to paths in folders that are there, each verified. -> of those that have changed, what happened.

    ValueError in one line: anything else that keeps an object from coming.
    """
    changed: dict[Path, str] = {}
    lock = threading.Lock()

    def fetch(path: Path, stored: StoredObject) -> None:
        problem = _fetch(bucket, path, stored)
        if problem:
            path.unlink(missing_ok=True)
            with lock:
                changed[path] = problem

    do_all((bind(fetch, *each) for each in objects.items()), num_threads=num_threads, stop=bucket.stop)
    return changed


def _fetch(bucket: Bucket, path: Path, stored: StoredObject) -> str:
    """Fetch one object. -> "" or what has become of it"""
    try:
        for _ in range(MAX_TRIES):
            with path.open("wb") as stream:

                def write(position: int, chunk: bytes, stream: object = stream) -> None:
                    stream.seek(position)
                    stream.write(chunk)

                response = bucket.read(stored, 0, stored.size, write)
            if bucket.is_right(stored, path, response):
                return ""
    except (ChangedError, ValueError) as error:
        found = bucket.find(stored.key)
        if found is None:
            return REMOVED
        if isinstance(error, ChangedError) or found != stored:
            return REPLACED
        raise
    raise ValueError(f"{bucket.url_of(stored.key)} came with other bytes than its checksum says, {MAX_TRIES} times")
