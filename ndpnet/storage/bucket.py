"""One bucket, read with patience: pages of its listing, heads and bytes of objects, whatever the connection does."""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ndpnet.storage.checksums import checksums_of, has_checksum
from ndpnet.storage.errors import (
    ChangedError,
    Place,
    endpoint_name,
    explain,
    explain_lost,
    is_of_client,
    is_passing,
    status_of,
)

LOG = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 18
MAX_PARTS_ASKED = 1000  # of an object whose parts differ in size: each one is a request
CHANGED_STATUS = {412, 416}  # If-Match fails; the object is shorter now
WITHOUT_REASON = {301, 400, 403}  # a HEAD has no body that says why
Write = Callable[[int, bytes], None]  # position in the object, bytes
Response = dict[str, Any]


@dataclass(frozen=True)
class Retries:
    """How long a server may be away: with these figures three quarters of a minute. Waits in seconds."""

    num_attempts: int = 8  # without a byte in between
    num_first_attempts: int = 2  # until the server has answered once: a wrong address shows soon
    first_wait: float = 0.5  # doubles with every attempt
    longest_wait: float = 15.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as S3 lists it: its key, size in bytes and ETag ("" if the server gives none)."""

    key: str
    size: int
    etag: str


class StoppedError(Exception):
    """Somebody set `Bucket.stop`."""


class Bucket:
    """One bucket, for many threads. Raises one-line ValueErrors, `ChangedError` and `StoppedError`."""

    def __init__(self, client: Any, name: str, retries: Retries) -> None:
        self.name = name
        self.endpoint = endpoint_name(client.meta.endpoint_url)
        self.stop = threading.Event()  # set by the one who shares it: waits and reads end
        self._client = client
        self._retries = retries
        self._was_connected = False
        self._has_warned = False

    def url_of(self, key: str) -> str:
        """As s3://bucket/key."""
        return f"s3://{self.name}/{key}"

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin so, page by page: memory stays flat."""
        arguments = {"Prefix": prefix}
        while True:
            page = self._ask("list_objects_v2", prefix, **arguments)
            for entry in page.get("Contents", ()):
                yield StoredObject(entry["Key"], entry["Size"], entry.get("ETag", ""))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            if token == arguments.get("ContinuationToken"):
                raise ValueError(f"{self.endpoint} lists {self.url_of(prefix)} in circles: one page came twice")
            arguments["ContinuationToken"] = token

    def find(self, key: str) -> StoredObject | None:
        """Return one object as it is now, None if there is none with this key."""
        head = self._head(key)
        return head and StoredObject(key, head["ContentLength"], head.get("ETag", ""))

    def read(self, stored: StoredObject, start: int, stop: int, write: Write) -> Response | None:
        """Pass the bytes from `start` to before `stop` to `write`, going on where a broken connection left off.

        -> the fields of the response that brought the whole object, None if it came in pieces.
        """
        position, num_failed = start, 0
        while True:
            try:
                response = self._open(stored, position, stop)
                with closing(response["Body"]) as body:
                    while position < stop and (chunk := body.read(min(CHUNK_BYTES, stop - position))):
                        self._check_stop()
                        write(position, chunk)
                        position, num_failed = position + len(chunk), 0
                if position < stop:
                    raise ConnectionError("the body ended early")
                return response if response["ContentLength"] == stored.size else None
            except Exception as error:
                num_failed += 1
                self._wait_or_raise(error, stored.key, num_failed)

    def put(self, key: str, stream: BinaryIO) -> Response:
        """Store a file, from its beginning, as one object: whole or not at all. Up to 5 GiB on AWS."""
        return self._ask("put_object", key, Key=key, Body=stream)

    def delete(self, key: str) -> None:
        """Remove an object; that there is none is no error."""
        self._ask("delete_object", key, Key=key)

    def is_right(self, stored: StoredObject, source: Path | bytes, response: Response | None = None) -> bool:
        """Whether a file or bytes of the right size are the object's, by the best checksum the server has of it.

        `response`: a HEAD's or whole GET's fields, asked for if left out. `ChangedError`: it is another one now.
        """
        response = response or self._head(stored.key) or {}
        if stored.etag and response.get("ETag") != stored.etag:
            raise ChangedError
        for checksum in checksums_of(response):
            sizes = self._part_sizes(stored, checksum.num_parts) if checksum.num_parts else []
            if sizes is not None:
                with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
                    return has_checksum(stream, checksum, sizes)
        if not self._has_warned:
            self._has_warned = True
            LOG.warning(
                "no checksum of %s that can be computed here: its size alone is compared", self.url_of(stored.key)
            )
        return True

    def _part_sizes(self, stored: StoredObject, num_parts: int) -> "list[int] | None":
        """Return the bytes of each part that an object was uploaded in, None if the server does not tell."""
        if num_parts == 1:
            return [stored.size]
        first = self._part_size(stored, 1, num_parts)
        if first is None or num_parts > MAX_PARTS_ASKED:
            return None if first is None else _even_parts(stored.size, first, num_parts)
        even = _even_parts(stored.size, first, num_parts)
        if even is not None and self._part_size(stored, num_parts, num_parts) == even[-1]:
            return even
        sizes = [self._part_size(stored, number, num_parts) for number in range(1, num_parts + 1)]
        return sizes if None not in sizes and sum(sizes) == stored.size else None

    def _part_size(self, stored: StoredObject, number: int, num_parts: int) -> int | None:
        try:
            part = self._head(stored.key, PartNumber=number) or {}
        except _RefusedError:  # not every server knows of part numbers
            return None
        return part["ContentLength"] if part.get("PartsCount") == num_parts else None

    def _open(self, stored: StoredObject, start: int, stop: int) -> Response:
        """Ask for a range of exactly this object; whole objects with what the server knows of their bytes."""
        is_whole = (start, stop) == (0, stored.size)
        arguments = {"ChecksumMode": "ENABLED"} if is_whole else {"Range": f"bytes={start}-{stop - 1}"}
        if stored.etag:
            arguments["IfMatch"] = stored.etag
        self._check_stop()
        response = self._client.get_object(Bucket=self.name, Key=stored.key, **arguments)
        self._was_connected = True
        is_same = not stored.etag or response.get("ETag") == stored.etag
        if is_same and response["ContentLength"] == stop - start:
            return response
        response["Body"].close()
        if is_same and not is_whole:
            raise ValueError(f"{self.endpoint} sends other parts of {self.url_of(stored.key)} than it is asked for")
        raise ChangedError

    def _head(self, key: str, **arguments: Any) -> Response | None:
        """Return the fields of a HEAD with its checksums, None if there is no such object."""
        try:
            return self._ask("head_object", key, Key=key, ChecksumMode="ENABLED", **arguments)
        except _RefusedError as refused:
            if refused.status == 404:
                return None
            if refused.status in WITHOUT_REASON:
                self._ask("get_object", key, Key=key, Range="bytes=0-0")["Body"].close()
            raise

    def _ask(self, request: str, key: str, **arguments: Any) -> Response:
        """Make one request until it is answered. Refused for good: a ValueError."""
        num_failed = 0
        while True:
            try:
                self._check_stop()
                if "Body" in arguments:
                    arguments["Body"].seek(0)
                response = getattr(self._client, request)(Bucket=self.name, **arguments)
                self._was_connected = True
                return response
            except Exception as error:
                num_failed += 1
                self._wait_or_raise(error, key, num_failed)

    def _wait_or_raise(self, error: Exception, key: str, num_failed: int) -> None:
        """Wait before the next attempt if the error may pass, else raise it in words."""
        place = Place(self.endpoint, self.name, key)
        status = status_of(error)
        self._was_connected |= status is not None
        if status in CHANGED_STATUS:
            raise ChangedError from error
        if not is_passing(error):
            if status is not None:
                raise _RefusedError(status, str(explain(error, place))) from error
            raise explain(error, place) if is_of_client(error) else error
        num_attempts = self._retries.num_attempts if self._was_connected else self._retries.num_first_attempts
        if num_failed >= num_attempts:
            raise explain_lost(error, place, num_attempts, was_connected=self._was_connected) from error
        wait = min(self._retries.longest_wait, self._retries.first_wait * 2 ** (num_failed - 1))
        LOG.info("%s: %s, attempt %d of %d", self.endpoint, type(error).__name__, num_failed + 1, num_attempts)
        self.stop.wait(wait * random.uniform(0.5, 1.0))  # many at once must not come back at once
        self._check_stop()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise StoppedError


class _RefusedError(ValueError):
    """The server answered, and waiting changes nothing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _even_parts(size: int, first: int, num_parts: int) -> list[int] | None:
    """Return the sizes of parts that are all like the first, but for a shorter last one; None if they cannot be."""
    last = size - first * (num_parts - 1)
    return [first] * (num_parts - 1) + [last] if 0 < last <= first else None
