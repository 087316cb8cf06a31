"""PNG files whose bytes are a function of their pixels alone."""

import struct
import zlib

import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 (H, W) as 8-bit or bool (H, W) as 1-bit grey PNG, uncompressed: no zlib's choices in the bytes."""
    height, width = image.shape
    rows = np.packbits(image, axis=1) if image.dtype == bool else image
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 1 if image.dtype == bool else 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _stored(content: bytes) -> bytes:
    """Wrap bytes as a zlib stream of stored blocks (RFC 1950, 1951)."""
    blocks = [content[start : start + 0xFFFF] for start in range(0, len(content), 0xFFFF)]
    stream = b"\x78\x01"
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        stream += struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
    return stream + struct.pack(">I", zlib.adler32(content))
