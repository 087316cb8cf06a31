"""One category as decoded arrays: what `prepare` wrote, opened for reading."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from ndpnet.data.fitting import covered_size, scaled_size
from ndpnet.data.manifest import LEARNT_SPLITS, FileRecord, Manifest
from ndpnet.data.roi import ROI, read_roi
from ndpnet.data.tiling import Tiling
from ndpnet.files import read_record

FORMAT_VERSION = 5
SETTINGS = "prepared.json"

Pictures = np.ndarray | list[np.ndarray]  # a list where they have different sizes: views, none is loaded


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder, opened for reading; its arrays are mapped, not loaded."""

    folder: Path
    manifest: Manifest
    settings: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "PreparedData":
        """Open what `prepare` wrote; ValueError if there is none, or one of another format."""
        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            raise ValueError(f"no prepared data in {folder} (run `ndpnet prepare`)")
        settings = read_record(folder / SETTINGS, FORMAT_VERSION, "run `ndpnet prepare` again")
        return cls(folder, Manifest.load(folder / "manifest.json"), settings)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels; of scans those of a training tile."""
        height, width = self.settings["input_size"]
        return height, width

    @property
    def aspect_ratio(self) -> float:
        """Width / height of a picture that fills the network's input."""
        return self.settings["aspect_ratio"]

    @property
    def tiling(self) -> Tiling | None:
        """How scans are cut at inspection; None in `resize` mode."""
        if self.settings["mode"] != "tile":
            return None
        return Tiling(self.settings["tile_side"], self.settings["scale"])

    @property
    def is_pinned(self) -> bool:
        """Whether these are exactly the pinned pictures."""
        return self.settings["is_pinned"]

    @overload
    def images(self, split: Literal["train", "validation"]) -> np.ndarray: ...
    @overload
    def images(self, split: str) -> Pictures: ...
    def images(self, split: str) -> Pictures:
        """Return one split's pictures. -> uint8 (N, H, W, 3), or N views (H, W, 3) of different sizes.

        Those that a network learns from fill its input. Of calibration and test each is what it covers of the input,
        or in `tile` mode a whole scan.
        """
        records = self.records(split)
        if split in LEARNT_SPLITS:
            num_rows = len(records) if self.tiling is None else sum(len(record.tiles) for record in records)
            return self._open(f"{split}.npy", (num_rows, *self.input_size, 3))
        return self._open_views(f"{split}.npy", [(*size, 3) for size in self._sizes(records)])

    def masks(self) -> Pictures | None:
        """Return the test masks, zeros for good pictures, or None if the set has none.

        -> uint8 0/1 (N_test, H, W), or N_test views (H, W) of different sizes.
        """
        records = self.records("test")
        if not any(record.mask_path for record in records):
            return None
        return self._open_views("masks.npy", self._sizes(records))

    def roi(self) -> np.ndarray | None:
        """Return the region of interest as it was drawn, or None. -> bool (H, W)."""
        return read_roi(self.folder / ROI)

    def records(self, split: str) -> list[FileRecord]:
        """Return one split's files, in the order of its pictures, or of the scans that its tiles are cut from."""
        return self.manifest.records(split)

    def row_names(self, split: str) -> list[str]:
        """Return where each picture of `images(split)` is from: a path, of a tile with its left and top."""
        if self.tiling is None or split not in LEARNT_SPLITS:
            return [record.path for record in self.records(split)]
        return [f"{record.path} ({left}, {top})" for record in self.records(split) for left, top in record.tiles]

    def row_groups(self, split: str) -> list[str]:
        """Return the group of each picture of `images(split)`."""
        if self.tiling is None or split not in LEARNT_SPLITS:
            return [record.group for record in self.records(split)]
        return [record.group for record in self.records(split) for _ in record.tiles]

    def _sizes(self, records: list[FileRecord]) -> list[tuple[int, int]]:
        """(height, width) of stored pictures."""
        sizes = [(record.height, record.width) for record in records]
        if self.tiling is not None:
            return [scaled_size(*size, self.tiling.scale) for size in sizes]
        return [covered_size(size, self.input_size, self.aspect_ratio) for size in sizes]

    def _open_views(self, file_name: str, shapes: Sequence[tuple[int, ...]]) -> Pictures:
        ends = list(accumulate(map(math.prod, shapes)))
        flat = self._open(file_name, (ends[-1] if ends else 0,))
        if len(set(shapes)) == 1:
            return flat.reshape(len(shapes), *shapes[0])
        return [flat[end - math.prod(shape) : end].reshape(shape) for shape, end in zip(shapes, ends, strict=True)]

    def _open(self, file_name: str, shape: tuple[int, ...]) -> np.memmap:
        path = self.folder / file_name
        try:
            # copy-on-write: torch takes no read-only array, and would have to copy it into memory
            array = np.load(path, mmap_mode="c")
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {path} (run `ndpnet prepare` again)") from error
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"{path} holds {array.dtype} {array.shape}, not {shape} (run `ndpnet prepare` again)")
        return array
