"""PNG files: chunks without their pixels, and files whose bytes are a function of their pixels alone."""

import io
import struct
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def stream_of(source: Path | bytes) -> BinaryIO:
    """Open a file, or what was read of it."""
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def read_chunks(source: Path | bytes, kinds: Collection[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the chunks of some kinds, before the pixels and behind them, which are passed over. -> kind, content."""
    chunks = []
    with stream_of(source) as stream:
        stream.seek(len(SIGNATURE))
        while len(header := stream.read(8)) == 8 and header[4:] != b"IEND":
            size, kind = int.from_bytes(header[:4], "big"), header[4:]
            if kind in kinds:
                chunks.append((kind, stream.read(size)))
            stream.seek(4 if kind in kinds else size + 4, io.SEEK_CUR)
    return chunks


def encode_png(image: np.ndarray, notes: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Encode uint8 (H, W) as 8-bit or bool (H, W) as 1-bit grey PNG, uncompressed: no zlib's choices in the bytes.

    notes: other chunks, as `read_chunks` returns them.
    """
    height, width = image.shape
    rows = np.packbits(image, axis=1) if image.dtype == bool else image
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 1 if image.dtype == bool else 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), *notes, (b"IDAT", _stored(lines)), (b"IEND", b""))
    return SIGNATURE + b"".join(
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
