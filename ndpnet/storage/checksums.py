"""What S3 says about an object's bytes, and whether a file has them."""

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 20
# that the standard library computes; an object with another one alone is judged by its ETag
HEADERS = {"ChecksumSHA256": "sha256", "ChecksumSHA1": "sha1", "ChecksumCRC32": "crc32"}
MD5_ETAG = re.compile(r'"?([0-9a-f]{32})(?:-([0-9]+))?"?')
KEYS_OF_KMS = ("aws:kms", "aws:kms:dsse")  # an object encrypted so has an ETag that is no md5


@dataclass(frozen=True)
class Checksum:
    """A digest of the whole object, or (num_parts > 0) the digest of its parts' digests."""

    algorithm: str
    digest: bytes
    num_parts: int = 0


class Crc32:
    """CRC-32 with hashlib's interface."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        """Take more bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Return 4 bytes, the highest first, as S3 writes it."""
        return self._value.to_bytes(4, "big")


def checksums_of(response: Mapping[str, Any]) -> list[Checksum]:
    """Return what a HEAD or whole GET response says that can be computed here, the most trusted first."""
    found = [_parse_header(response[name], algorithm) for name, algorithm in HEADERS.items() if response.get(name)]
    is_encrypted = response.get("ServerSideEncryption") in KEYS_OF_KMS or response.get("SSECustomerAlgorithm")
    if not is_encrypted:
        found.append(md5_of_etag(response.get("ETag", "")))
    return [checksum for checksum in found if checksum is not None]


def md5_of_etag(etag: str) -> Checksum | None:
    """Read an ETag that may be an md5, or the md5 of the parts' md5s with their number."""
    match = MD5_ETAG.fullmatch(etag)
    return match and Checksum("md5", bytes.fromhex(match[1]), int(match[2] or 0))


def has_checksum(stream: BinaryIO, checksum: Checksum, part_sizes: Iterable[int] = ()) -> bool:
    """Whether a stream has these bytes, from here to its end. `part_sizes` (bytes): of a checksum of parts."""
    if not checksum.num_parts:
        return _digest(stream, checksum.algorithm, None) == checksum.digest
    of_parts = b"".join(_digest(stream, checksum.algorithm, size) for size in part_sizes)
    return not stream.read(1) and _digest(BytesIO(of_parts), checksum.algorithm, None) == checksum.digest


def _parse_header(value: str, algorithm: str) -> Checksum | None:
    encoded, _, num_parts = value.partition("-")
    try:
        return Checksum(algorithm, base64.b64decode(encoded, validate=True), int(num_parts or 0))
    except (binascii.Error, ValueError):
        return None


def _new_digest(algorithm: str) -> Any:
    return Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)


def _digest(stream: BinaryIO, algorithm: str, num_bytes: int | None) -> bytes:
    """Digest the next bytes of a stream, all of the rest without a number."""
    digest = _new_digest(algorithm)
    left = num_bytes
    while chunk := stream.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        digest.update(chunk)
        left = None if left is None else left - len(chunk)
    return digest.digest()
