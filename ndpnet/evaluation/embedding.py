"""Pictures inside a page, as data URIs of bounded size."""

import base64
import io
import math
from typing import Any

from PIL import Image

MAX_CASE_BYTES = 170_000  # as base64, 24 cases stay below 6 MB
MAX_CASE_WIDTH = 1400
MAX_CASE_PIXELS = 700_000
JPEG_STEPS = ((1.0, 88), (1.0, 78), (1.0, 66), (1.0, 52), (0.7, 52), (0.5, 52))  # (side, quality), until it fits


def embed_image(png: bytes) -> dict[str, Any]:
    """Turn a picture into a data URI of about MAX_CASE_BYTES at most, PNG or JPEG; {uri, width, height}."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    scale = min(1.0, MAX_CASE_WIDTH / picture.width, math.sqrt(MAX_CASE_PIXELS / (picture.width * picture.height)))
    if scale == 1.0 and len(png) <= MAX_CASE_BYTES // 2:
        return data_uri("png", png, picture.size)
    for shrink, quality in JPEG_STEPS:
        width, height = (max(1, round(side * scale * shrink)) for side in picture.size)
        jpeg = _jpeg(picture.resize((width, height), Image.Resampling.LANCZOS), quality)
        if len(jpeg) <= MAX_CASE_BYTES:
            break
    return data_uri("jpeg", jpeg, (width, height))


def data_uri(kind: str, data: bytes, size: tuple[int, int]) -> dict[str, Any]:
    """A picture's bytes as {uri, width, height}; kind: png or jpeg."""
    uri = f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
    return {"uri": uri, "width": size[0], "height": size[1]}


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, subsampling=0)  # 4:4:4 keeps thin contours
    return buffer.getvalue()
