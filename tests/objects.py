"""Objects to upload for the tests, and what became of them on the disk."""

import random
from io import BytesIO

from servers import S3Server

MB = 1 << 20


def noise(num_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(num_bytes)


def put(server: S3Server, bucket: str, key: str, content: bytes) -> None:
    """One request: an ETag that is the md5."""
    server.client().put_object(Bucket=bucket, Key=key, Body=content)


def put_in_parts(server: S3Server, bucket: str, key: str, content: bytes) -> None:
    """Parts of 8 MiB: an ETag of their md5s."""
    server.client().upload_fileobj(BytesIO(content), bucket, key)
