"""Picture files in memory, also such that PIL does not write: TIFFs with any tags, PNGs of 16 bits."""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A file that PIL writes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """The pixels of a file."""
    return np.asarray(Image.open(io.BytesIO(content)))


def as_base64(source: bytes | Path) -> str:
    """A file as it travels in JSON."""
    return base64.b64encode(source if isinstance(source, bytes) else source.read_bytes()).decode()


def tiff(samples: bytes, width: int, height: int, *, bits: int, **tags: int) -> bytes:
    """Write a TIFF of one strip, by default grey.

    tags: photometric (1: black is 0), num_samples of a pixel, planar (2: one after the other), extra_samples
    (1: premultiplied alpha), sample_format (1: unsigned).
    """
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: tags.get("photometric", 1), 278: height}
    entries |= {277: tags.get("num_samples", 1), 284: tags.get("planar", 1)}
    entries |= {279: len(samples), 339: tags.get("sample_format", 1)}
    entries |= {338: tags["extra_samples"]} if "extra_samples" in tags else {}
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    directory = struct.pack("<H", len(entries))
    for tag, value in sorted(entries.items()):
        directory += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + samples


def packed_12_bits(levels: np.ndarray) -> bytes:
    """Two levels in three bytes. levels: (H, W), W even."""
    first, second = levels[:, 0::2].astype(int), levels[:, 1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    return packed.astype(np.uint8).tobytes()


def png_16(levels: np.ndarray, *, significant_bits: int | None = None) -> bytes:
    """Write a 16-bit PNG. levels: uint16 (H, W) grey, (H, W, 2) grey with alpha, (H, W, 3) or (H, W, 4) colour.

    significant_bits: of the colours; alpha has all.
    """
    height, width, num_channels = (*levels.shape, 1)[:3]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[num_channels]
    rows = levels.astype(">u2").reshape(height, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if significant_bits is not None:
        num_colours = 1 if num_channels < 3 else 3
        chunks.append((b"sBIT", bytes([significant_bits] * num_colours + [16] * (num_channels - num_colours))))
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content
