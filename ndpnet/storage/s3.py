"""Read from S3 and its like: the only importer of boto3, whose usual chain alone provides the credentials."""

import logging
import re
from pathlib import Path
from typing import Any

from ndpnet.storage.bucket import Bucket, Retries
from ndpnet.storage.errors import ChangedError, Place, explain
from ndpnet.storage.transfers import DownloadResult, download_all

__all__ = ["DownloadResult", "Retries", "download", "open_bucket", "parse_url", "read_object", "read_small"]

MAX_OBJECT_BYTES = 64 << 20  # that `read_object` takes into memory
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def parse_url(url: str) -> tuple[str, str]:
    """Split s3://bucket/key into bucket and key (or prefix, "" for all); taken as it is, nothing is decoded."""
    scheme, _, rest = str(url).partition("://")
    name, _, key = rest.partition("/")
    if scheme != "s3" or not BUCKET_NAME.fullmatch(name):
        raise ValueError(f"{url!r} is no address on S3 (give s3://BUCKET/PREFIX)")
    return name, key


def download(
    url: str,
    folder: Path,
    *,
    endpoint_url: str | None = None,
    num_threads: int = 8,
    retries: Retries | None = None,
) -> DownloadResult:
    """Download all objects below s3://bucket/prefix into a folder, or the one object that the url names.

    Files that are there with the right bytes are kept; a broken download goes on where it was. No file has its final
    name before its bytes are verified. A ValueError says in one line what is wrong.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}: a download needs at least one")
    name, key = parse_url(url)
    bucket = open_bucket(name, endpoint_url=endpoint_url, num_connections=num_threads + 1, retries=retries)
    return download_all(bucket, key, Path(folder), num_threads=num_threads)


def read_object(
    url: str,
    *,
    endpoint_url: str | None = None,
    max_bytes: int = MAX_OBJECT_BYTES,
    retries: Retries | None = None,
) -> bytes:
    """Return the verified bytes of one small object, such as a manifest; a larger one is a ValueError."""
    name, key = parse_url(url)
    bucket = open_bucket(name, endpoint_url=endpoint_url, num_connections=1, retries=retries)
    return read_small(bucket, key, max_bytes=max_bytes)


def read_small(bucket: Bucket, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
    """As `read_object`, of a bucket that is open."""
    url = bucket.url_of(key)
    is_folder = not key or key.endswith("/")
    stored = None if is_folder else bucket.find(key)
    if stored is None:
        next(bucket.list(key), None)  # says so if it is the bucket that is missing
        raise ValueError(f"there is no object {url}")
    if stored.size > max_bytes:
        raise ValueError(f"{url} has {stored.size} bytes, more than the {max_bytes} that are read into memory")
    content = bytearray(stored.size)

    def write(position: int, chunk: bytes) -> None:
        content[position : position + len(chunk)] = chunk

    try:
        response = bucket.read(stored, 0, stored.size, write)
        if bucket.is_right(stored, bytes(content), response):
            return bytes(content)
    except ChangedError as error:
        raise ValueError(f"{url} was replaced while it was read (run the same command again)") from error
    raise ValueError(f"{url} came with other bytes than its checksum says (run the same command again)")


def open_bucket(
    name: str, *, endpoint_url: str | None = None, num_connections: int = 8, retries: Retries | None = None
) -> Bucket:
    """Prepare to read a bucket at the endpoint given, else AWS_ENDPOINT_URL, else AWS; nothing is asked of it yet."""
    retries = retries or Retries()
    return Bucket(_make_client(name, endpoint_url, num_connections, retries), name, retries)


def _make_client(name: str, endpoint_url: str | None, num_connections: int, retries: Retries) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=retries.connect_timeout,
        read_timeout=retries.read_timeout,
        max_pool_connections=num_connections,
        retries={"mode": "standard", "total_max_attempts": 2},  # of one request; outages are Bucket's business
        response_checksum_validation="when_required",  # verified on the disk instead
    )
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells where it found credentials
    try:
        return boto3.session.Session().client("s3", endpoint_url=endpoint_url or None, config=config)
    except BotoCoreError as error:
        raise explain(error, Place("AWS", name, "")) from error
    except ValueError as error:
        raise ValueError(
            "the S3 endpoint is no address (give --endpoint-url or AWS_ENDPOINT_URL as https://HOST:PORT)"
        ) from error
