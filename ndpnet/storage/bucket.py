"""One bucket of S3 or its like, and what lies at an address as files. boto3 retries, transfers and checks what arrives.

AWS's own settings hold, as AWS_MAX_ATTEMPTS and AWS_RETRY_MODE for how long a server may be away.
"""

import json
import logging
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from boto3.exceptions import Boto3Error
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError, S3ValidationError
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from ndpnet.files import unwritable, write_json
from ndpnet.redaction import redact
from ndpnet.storage.urls import parse_url, relative_path

NUM_CONNECTIONS = 8
LISTED = ".listed.json"  # in a folder of downloads: the ETag of each of its files, by path
MAX_PENDING = 64  # downloads that are ordered and have not arrived
MAX_OBJECT_BYTES = 256 << 20  # that `read` takes into memory: a manifest or plan of about two million pictures
REPLACED, REMOVED = "was replaced since it was listed", "was removed since it was listed"
S3_ERRORS = (Boto3Error, BotoCoreError, ClientError, RetriesExceededError, S3ValidationError)
AGAIN = "run the same command again: it continues"
FIX = (
    "check bucket and prefix, --endpoint-url or AWS_ENDPOINT_URL, and the rights of AWS_ACCESS_KEY_ID and "
    f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; then {AGAIN}"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as S3 lists it: its name below the folder, size in bytes and ETag."""

    name: str
    size: int
    etag: str


class Bucket:
    """A folder of one bucket, for many threads. What goes wrong is a ValueError of one line.

    Objects go by their names below the folder.
    """

    def __init__(self, url: str, *, endpoint_url: str | None = "") -> None:
        """At the endpoint given, else AWS_ENDPOINT_URL, else AWS; nothing is asked of it yet."""
        self._bucket, key = parse_url(url)
        self._root, self.endpoint = key if not key or key.endswith("/") else f"{key}/", "AWS"
        logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells where it has credentials from
        config = Config(connect_timeout=10, max_pool_connections=NUM_CONNECTIONS + 2)
        with self._in_words(""):
            try:
                self._client = Session().client("s3", endpoint_url=endpoint_url or None, config=config)
            except ValueError as error:
                if "endpoint" not in str(error):
                    raise ValueError(f"S3: a setting (AWS_..., ~/.aws/config) is wrong: {redact(error)}") from error
                fix = "give --endpoint-url or AWS_ENDPOINT_URL as https://HOST:PORT"
                raise ValueError(f"the S3 endpoint is no address ({fix})") from None  # it may hold a password
        self.endpoint = redact(self._client.meta.endpoint_url)

    @classmethod
    def below(cls, url: str, *, endpoint_url: str | None = "") -> tuple["Bucket", list[StoredObject]]:
        """The object at an address, else all below it as a folder. -> the folder, and what lies there.

        Empty objects that only mark a folder are left out. ValueError: there are none.
        """
        name = parse_url(url)[1].rpartition("/")[2]
        bucket = cls(url.removesuffix(name), endpoint_url=endpoint_url)
        if name:
            only, parent, bucket = bucket.find(name), bucket, copy(bucket)
            bucket._root += f"{name}/"
            if only is not None and (only.size or not next(bucket.list(), None)):
                return parent, [only]
        objects = [stored for stored in bucket.list() if stored.size or stored.name.rpartition("/")[2]]
        if not objects:
            raise ValueError(f"no object under {bucket.url_of('')} (check bucket and prefix)")
        return bucket, objects

    def url_of(self, name: str) -> str:
        """As s3://BUCKET/KEY."""
        return f"s3://{self._bucket}/{self._root}{name}"

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose names begin so, page by page."""
        with self._in_words(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._root + prefix
            ):
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"][len(self._root) :], entry["Size"], entry.get("ETag", ""))

    def find(self, name: str) -> StoredObject | None:
        """Return one object as it is now, None if there is none with this name."""
        try:
            with self._in_words(name):
                head = self._client.head_object(**self._address(name))
        except ValueError as error:
            if isinstance(error.__cause__, ClientError):
                next(self.list(name), None)  # a HEAD has no body that says why
            if _is_missing(error):
                return None
            raise
        return StoredObject(name, head["ContentLength"], head.get("ETag", ""))

    def read(self, name: str) -> bytes:
        """Return the bytes of one small object, such as a manifest; a larger one is a ValueError."""
        with self._in_words(name):
            answer = self._client.get_object(**self._address(name))
            size = answer["ContentLength"]
            if size > MAX_OBJECT_BYTES:
                url = self.url_of(name)
                raise ValueError(f"{url} has {size} bytes, more than the {MAX_OBJECT_BYTES} that are read into memory")
            return answer["Body"].read()

    def put(self, name: str, stream: BinaryIO) -> None:
        """Store a file, from its beginning, as one object: whole or not at all. Up to 5 GiB on AWS."""
        stream.seek(0)
        with self._in_words(name):
            self._client.put_object(**self._address(name), Body=stream)

    def put_files(self, files: Mapping[str, Path]) -> None:
        """Store files under their names, several at once; the first error ends it, and those that are stored stay."""

        def put(name: str, path: Path) -> None:
            with Path(path).open("rb") as stream:
                self.put(name, stream)

        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            list(pool.map(put, files.keys(), files.values()))

    def delete(self, name: str) -> None:
        """Remove an object; that there is none is no error."""
        with self._in_words(name):
            self._client.delete_object(**self._address(name))

    def fetch(self, objects: Iterable[tuple[StoredObject, Path]]) -> Iterator[tuple[Path, str]]:
        """Download objects exactly as they were listed, several at once, to paths in folders that are there.

        Yields each path with ""; or with what has happened to the object, and there is no file.
        OSError: the disk.
        """
        pending: deque[tuple[StoredObject, Path, TransferFuture]] = deque()
        with _Transfers(self._client, TransferConfig(max_request_concurrency=NUM_CONNECTIONS)) as transfers:
            for stored, path in objects:
                where = (self._bucket, self._root + stored.name, str(path))
                only_as_listed = {"IfMatch": stored.etag} if stored.etag else {}
                future = transfers.download(*where, extra_args=only_as_listed, subscribers=[_Listed(stored)])
                pending.append((stored, path, future))
                if len(pending) == MAX_PENDING:
                    yield self._finish(*pending.popleft())
            while pending:
                yield self._finish(*pending.popleft())

    def _finish(self, stored: StoredObject, path: Path, future: TransferFuture) -> tuple[Path, str]:
        try:
            with self._in_words(stored.name):
                future.result()
        except S3DownloadFailedError:  # If-Match
            return path, REPLACED
        except ValueError as error:
            if _is_missing(error):
                return path, REMOVED
            raise
        return path, ""

    def _address(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._root + name}

    @contextmanager
    def _in_words(self, name: str) -> Iterator[None]:
        try:
            yield
        except S3_ERRORS as error:  # after boto3's own retries
            raise ValueError(f"cannot reach {self.url_of(name)} at {self.endpoint}: {redact(error)} ({FIX})") from error


def _is_missing(error: ValueError) -> bool:
    """Whether S3 has answered that there is no such object."""
    cause = error.__cause__
    return isinstance(cause, ClientError) and cause.response["ResponseMetadata"]["HTTPStatusCode"] == 404


class _Transfers(TransferManager):
    # boto3 itself sends If-Match for large objects alone, with the ETag of a HEAD instead of the listing's
    ALLOWED_DOWNLOAD_ARGS = (*TransferManager.ALLOWED_DOWNLOAD_ARGS, "IfMatch")


class _Listed(BaseSubscriber):
    """Tells a transfer what the listing has said of its object, so that it asks for no HEAD."""

    def __init__(self, stored: StoredObject) -> None:
        self._stored = stored

    def on_queued(self, future: TransferFuture, **_: Any) -> None:
        """Called by s3transfer."""
        future.meta.provide_transfer_size(self._stored.size)
        future.meta.provide_object_etag(self._stored.etag or None)


def download(url: str, folder: Path, *, endpoint_url: str | None = None) -> int:
    """Have a folder hold the objects below s3://bucket/prefix, or the one that the url names, and no other file.

    A broken download goes on: files that came, and whose objects are the same, are kept. No file has its name before
    it is whole. -> number of objects that had to come; ValueError in one line: what is wrong
    """
    bucket, objects = Bucket.below(url, endpoint_url=endpoint_url)
    targets = {Path(folder) / relative_path(stored.name): stored for stored in objects}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        etags = _etags_of(Path(folder))
        here = {path for path, stored in targets.items() if _is_here(path, stored, etags.get(str(path)))}
        _remove_others(folder, here)
        write_json(Path(folder) / LISTED, {str(path): stored.etag for path, stored in targets.items()})
        missing = {path: stored for path, stored in targets.items() if path not in here}
        logger.info("%s: %d objects, %d of them are here", url, len(targets), len(targets) - len(missing))
        _bring(bucket, missing, Path(folder))
    except OSError as error:
        raise unwritable(Path(error.filename2 or error.filename or folder), error) from error
    return len(missing)


def read_object(url: str, *, endpoint_url: str | None = None) -> bytes:
    """Return the bytes of one small object, such as a manifest; a larger one is a ValueError."""
    name = url.rpartition("/")[2]
    return Bucket(url.removesuffix(name), endpoint_url=endpoint_url).read(name)


def _bring(bucket: Bucket, missing: dict[Path, StoredObject], folder: Path) -> None:
    from tqdm import tqdm

    with (
        TemporaryDirectory(dir=folder, prefix=".") as scratch,
        tqdm(total=sum(stored.size for stored in missing.values()), unit="B", unit_scale=True, disable=None) as bar,
    ):
        # by number: s3transfer makes temporary names of them, which must not be too long
        ordered = ((stored, Path(scratch) / str(number)) for number, stored in enumerate(missing.values()))
        for (path, stored), (arrived, problem) in zip(missing.items(), bucket.fetch(ordered), strict=True):
            if problem:
                raise ValueError(f"{bucket.url_of(stored.name)} {problem} ({AGAIN})")
            path.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(path)
            bar.update(stored.size)


def _etags_of(folder: Path) -> dict[str, str]:
    """The ETags that the files of a folder were ordered by; none where nobody can tell."""
    try:
        return dict(json.loads((folder / LISTED).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _is_here(path: Path, stored: StoredObject, etag: str | None) -> bool:
    return bool(stored.etag) and etag == stored.etag and path.is_file() and path.stat().st_size == stored.size


def _remove_others(folder: Path, targets: Container[Path]) -> None:
    """What an earlier attempt has left: unfinished files, those changed or deleted in the bucket since."""
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path.is_symlink() or not path.is_dir():
            if path not in targets:
                path.unlink()
        else:
            with suppress(OSError):  # not empty
                path.rmdir()
