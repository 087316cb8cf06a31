"""The MLflow model of a package. MLflow runs a copy of this file to load and serve it (models from code, no pickle)."""

import base64
import binascii
import io
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

IMAGE = "image"  # the one column of the input
# of one request: the server ends it after a minute, but not its work, which holds up all others and their memory
MAX_PICTURES, MAX_MEGAPIXELS = 256, 100
MAP_LEVELS = 65535  # of the 16-bit map: level / MAP_LEVELS is the anomaly score of a pixel


class PackageModel(mlflow.pyfunc.PythonModel):
    """Inspects batches of pictures of any size with the package stored beside it."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Open the package. ValueError: its files are not those that were registered, or cannot be read."""
        # here, not above: with MLflow's own code path the package's ndpnet is found only now
        from ndpnet.inference.identity import package_hash
        from ndpnet.inference.inspector import Inspector

        folder, config = Path(context.artifacts["package"]), context.model_config or {}
        self._package_hash = package_hash(folder)
        if self._package_hash != config.get("package_hash"):
            raise ValueError(
                f"{folder} has package hash {self._package_hash}, but {config.get('package_hash')} was logged "
                "(the stored files were changed: download them again, or register the package again)"
            )
        engine, precision = config.get("engine", "torch"), config.get("precision")
        self._inspector = Inspector.load(folder, device=config.get("device", "cpu"), engine=engine, precision=precision)
        self._one_at_a_time = threading.Lock()  # the server answers each request in a thread of its own

    def predict(
        self,
        context: mlflow.pyfunc.PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """One dict per picture, in their order; a picture that cannot be read has its error there."""
        with_map, allowance = bool((params or {}).get("with_map", False)), Allowance()
        cells = enumerate(cells_of(model_input))
        return [self._inspect(cell, f"image {index}", with_map, allowance) for index, cell in cells]

    def _inspect(self, cell: Any, name: str, with_map: bool, allowance: "Allowance") -> dict[str, Any]:
        try:
            image = decode_cell(cell, name)
            allowance.take(image, name)
            with self._one_at_a_time:
                verdict = self._inspector.inspect(image, name=name)
        except ValueError as error:
            return self._row(verdict="error", error=" ".join(str(error).split()))
        height, width = verdict.size
        return self._row(
            score=verdict.score,
            threshold=verdict.threshold,
            verdict=verdict.word,
            width=width,
            height=height,
            regions=[asdict(region) for region in verdict.regions],
            map=encode_map(verdict.anomaly_map) if with_map else None,
        )

    def _row(self, **known: Any) -> dict[str, Any]:
        names = ("score", "threshold", "verdict", "width", "height", "regions", "map", "error")
        row = dict.fromkeys(names) | {"regions": []} | known
        return row | {"package_hash": self._package_hash}


@dataclass
class Allowance:
    """What one request may still ask for."""

    num_pictures: int = MAX_PICTURES
    num_pixels: int = MAX_MEGAPIXELS * 1_000_000

    def take(self, image: np.ndarray | bytes, name: str) -> None:
        """Take off a picture, before it is decoded. ValueError: it is too much, or no picture."""
        from ndpnet.data.images import read_header

        size = read_header(image, name=name).num_pixels if isinstance(image, bytes) else image.shape[0] * image.shape[1]
        if self.num_pictures < 1 or size > self.num_pixels:
            raise ValueError(
                f"{name} is beyond the {MAX_PICTURES} pictures and {MAX_MEGAPIXELS} megapixels of one request "
                "(send fewer at once; `ndpnet inspect` takes larger ones)"
            )
        self.num_pictures, self.num_pixels = self.num_pictures - 1, self.num_pixels - size


def cells_of(frame: pd.DataFrame) -> list[Any]:
    """The pictures of a batch, undecoded."""
    cells = list(frame[IMAGE])
    # MLflow makes one row of {"image": [text, text]}: that row is the batch
    is_batch = len(cells) == 1 and isinstance(cells[0], (list, tuple)) and len(cells[0]) > 0
    if is_batch and all(isinstance(cell, (str, bytes)) for cell in cells[0]):
        return list(cells[0])
    return cells


def decode_cell(cell: Any, name: str) -> np.ndarray | bytes:
    """A picture as the inspector takes it: the bytes of a file, or uint8 pixels. ValueError names the picture.

    cell: bytes or base64 of a PNG, JPEG, BMP, TIFF or WebP file, or pixels as an array or nested lists, (H, W) or
    (H, W, 3), whole numbers from 0 to 255.
    """
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if isinstance(cell, str):
        return _decode_text(cell, name)
    if isinstance(cell, (np.ndarray, list)):
        return _decode_pixels(cell, name)
    raise ValueError(f"{name} is a {type(cell).__name__} (pass a picture's bytes, their base64, or its pixels)")


def _decode_text(text: str, name: str) -> bytes:
    try:
        # encoders break lines; anything else that is no base64 is refused, not skipped
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"cannot read {name}: not valid base64 (encode the bytes of the picture's file)") from error


def _decode_pixels(values: Any, name: str) -> np.ndarray:
    expected = "pass whole numbers from 0 to 255, (H, W) or (H, W, 3), an array as uint8"
    try:
        pixels = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has rows of unequal length ({expected})") from error
    is_picture = pixels.size > 0 and pixels.ndim >= 2 and pixels.shape[2:] in ((), (1,), (3,))
    is_whole = isinstance(values, list) and pixels.dtype.kind in "iu"
    if not (is_picture and (pixels.dtype == np.uint8 or (is_whole and pixels.min() >= 0 and pixels.max() <= 255))):
        raise ValueError(f"{name} is no picture but {pixels.dtype} {pixels.shape} ({expected})")
    return pixels.astype(np.uint8, copy=False)


def encode_map(anomaly_map: np.ndarray) -> str:
    """Base64 of a 16-bit grey PNG of the image's own size. anomaly_map: float32 (H, W) in [0, 1]."""
    levels = np.round(np.clip(anomaly_map, 0.0, 1.0).astype(np.float64) * MAP_LEVELS).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


mlflow.models.set_model(PackageModel())  # how MLflow finds the model in this file
