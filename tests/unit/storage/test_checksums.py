"""What S3 says of an object's bytes, against digests computed here from the definition."""

import base64
import hashlib
import zlib
from io import BytesIO
from typing import Any

import pytest

from ndpnet.storage.checksums import Checksum, checksums_of, has_checksum, md5_of_etag

CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than one chunk
MD5 = hashlib.md5(CONTENT)


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def digest_of_parts(algorithm: str, sizes: list[int]) -> bytes:
    parts, start = [], 0
    for size in sizes:
        parts.append(hashlib.new(algorithm, CONTENT[start : start + size]).digest())
        start += size
    return hashlib.new(algorithm, b"".join(parts)).digest()


@pytest.mark.parametrize(
    "response",
    [
        {"ETag": f'"{MD5.hexdigest()}"'},
        {"ETag": MD5.hexdigest(), "ServerSideEncryption": "AES256"},
        {"ChecksumSHA256": encoded(hashlib.sha256(CONTENT).digest()), "ETag": '"rubbish"'},
        {"ChecksumSHA1": encoded(hashlib.sha1(CONTENT).digest()), "ETag": '"' + "0" * 32 + '"'},
        {"ChecksumCRC32": encoded(zlib.crc32(CONTENT).to_bytes(4, "big")), "ChecksumType": "FULL_OBJECT"},
        {"ChecksumCRC64NVME": "AAAAAAAAAAA=", "ETag": f'"{MD5.hexdigest()}"'},  # not computed: the ETag decides
    ],
)
def test_whole_objects(response: dict[str, Any]) -> None:
    checksum = checksums_of(response)[0]
    assert has_checksum(BytesIO(CONTENT), checksum)
    assert not has_checksum(BytesIO(CONTENT[:-1]), checksum)
    assert not has_checksum(BytesIO(CONTENT + b"x"), checksum)
    assert not has_checksum(BytesIO(b"x" + CONTENT[1:]), checksum)


@pytest.mark.parametrize("sizes", [[len(CONTENT)], [3_000_000, 2_120_000], [10, 5_000_000, 119_990]])
@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_objects_in_parts(algorithm: str, sizes: list[int]) -> None:
    digest = digest_of_parts(algorithm, sizes)
    response = {"ETag": f'"{digest.hex()}-{len(sizes)}"'}
    if algorithm == "sha256":
        response = {"ChecksumSHA256": f"{encoded(digest)}-{len(sizes)}", "ETag": f'"{"0" * 32}-7"'}
    checksum = checksums_of(response)[0]
    assert checksum == Checksum(algorithm, digest, len(sizes))
    assert has_checksum(BytesIO(CONTENT), checksum, sizes)
    assert not has_checksum(BytesIO(CONTENT), checksum, [*sizes[:-1], sizes[-1] - 1])
    assert not has_checksum(BytesIO(CONTENT + b"x"), checksum, sizes)
    assert not has_checksum(BytesIO(CONTENT[::-1]), checksum, sizes)


def test_an_etag_that_is_no_md5_says_nothing() -> None:
    etag = f'"{MD5.hexdigest()}"'
    for response in (
        {},
        {"ETag": ""},
        {"ETag": '"abc"'},
        {"ETag": etag, "ServerSideEncryption": "aws:kms"},
        {"ETag": etag, "SSECustomerAlgorithm": "AES256"},
        {"ChecksumSHA256": "no base64!", "ETag": 'W/"weak"'},
    ):
        assert checksums_of(response) == []
    assert md5_of_etag(etag.upper()) is None
    assert checksums_of({"ChecksumSHA256": encoded(b"x" * 32), "ETag": etag})[0].algorithm == "sha256"
