"""Files to S3: each whole or not at all, and what the server says of its bytes must be right."""

from collections.abc import Mapping
from functools import partial as bind
from pathlib import Path
from typing import BinaryIO

from ndpnet.storage.bucket import Bucket
from ndpnet.storage.checksums import checksums_of, has_checksum
from ndpnet.storage.workers import do_all

MAX_TRIES = 2  # of an object that arrives with other bytes


def put_verified(bucket: Bucket, key: str, stream: BinaryIO) -> None:
    """Store a stream, from its beginning, as one object. ValueError in one line: refused, or other bytes arrived."""
    for _ in range(MAX_TRIES):
        checksums = checksums_of(bucket.put(key, stream))
        stream.seek(0)
        if not checksums or has_checksum(stream, checksums[0]):
            return
    raise ValueError(f"{bucket.url_of(key)} was stored with other bytes than were sent (run the same command again)")


def put_files(bucket: Bucket, files: Mapping[str, Path], *, num_threads: int = 8) -> None:
    """Store files under their keys, several at once; the first error ends it, and those that are stored stay."""
    do_all(
        (bind(_put_file, bucket, key, path) for key, path in files.items()), num_threads=num_threads, stop=bucket.stop
    )


def _put_file(bucket: Bucket, key: str, path: Path) -> None:
    with Path(path).open("rb") as stream:
        put_verified(bucket, key, stream)
