"""One category as decoded arrays: writing the prepared folder, and reading it."""

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from ndpnet.config import DataConfig
from ndpnet.data.arrays import Views
from ndpnet.data.copies import CopyIndex, warn_of_alike
from ndpnet.data.decoding import LEARNT_SPLITS, Job, decode_category, find_bit_depth
from ndpnet.data.fitting import MAX_STRETCH, covered_size, input_size_of, median_aspect_ratio, scaled_size
from ndpnet.data.images import read_header
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.listing import IMPORTED
from ndpnet.data.manifest import GOOD, SPLITS, FileRecord, Manifest
from ndpnet.data.names import check_category
from ndpnet.data.roi import ROI, find_roi, read_roi, write_roi
from ndpnet.data.split import assign_splits, group_of
from ndpnet.data.tiling import Tiling
from ndpnet.files import read_record, sha256_of, write_json
from ndpnet.folders import atomic_folder

FORMAT_VERSION = 5
SETTINGS = "prepared.json"

logger = logging.getLogger(__name__)


def prepare(
    data_dir: Path, category: str, out_dir: Path, data: DataConfig, *, is_pinned: bool = False
) -> dict[str, Any]:
    """Decode one category into uint8 arrays and a manifest under `out_dir`, atomically; return its counts.

    The bytes are a function of the pictures and the arguments alone. ValueError names the file and the fix.
    """
    check_category(category)
    category_dir = Path(data_dir) / category
    jobs, roi = _plan(category_dir, data), find_roi(category_dir)
    rule, side = data if data.mode == "tile" else None, data.image_size
    trained = (job.header for job in jobs if job.split == "train")
    aspect_ratio = median_aspect_ratio((header.width, header.height) for header in trained)
    input_size = input_size_of(aspect_ratio, side) if rule is None else (side, side)
    if rule is None:
        _warn_of_shapes(jobs, input_size, aspect_ratio)
    with atomic_folder(out_dir, marker=SETTINGS) as partial_dir:
        bit_depth = find_bit_depth(category_dir, jobs)
        done = decode_category(
            category_dir,
            jobs,
            partial_dir,
            bit_depth=bit_depth,
            input_size=input_size,
            aspect_ratio=aspect_ratio,
            rule=rule,
            roi=roi,
        )
        records = done.records
        done.copies.refuse_leaks()
        _check_trained([record.split for record in records])
        _warn_of_copies(done.copies, {record.path for record in records})
        counts = {} if rule is None else _count_tiles(records, done.num_rejected)
        _warn_of_groups(records, data)
        warn_of_alike(done.thumbnails, records)
        if done.mask_notes:
            logger.warning("%d masks need a look, first %s", len(done.mask_notes), done.mask_notes[0])
        manifest = Manifest(category, tuple(records))
        if (category_dir / IMPORTED).is_file():
            shutil.copyfile(category_dir / IMPORTED, partial_dir / IMPORTED)  # its licence goes with the data
        manifest.save(partial_dir / "manifest.json")
        if roi is not None:
            write_roi(partial_dir / ROI, roi)
        # all parameters: what no array depends on, as tile_side, reaches the model so
        settings = data.model_dump() | {"is_pinned": is_pinned, "format_version": FORMAT_VERSION}
        settings |= {"input_size": input_size, "aspect_ratio": aspect_ratio}
        settings |= {"roi_sha256": None if roi is None else sha256_of(partial_dir / ROI)}
        write_json(partial_dir / SETTINGS, settings)
    return _counts(manifest) | counts | {"has_roi": roi is not None}


def _plan(category_dir: Path, data: DataConfig) -> list[Job]:
    """Choose the split of every picture, by its path. ValueError: none is left to train on."""
    images = scan_mvtec(category_dir)
    groups = [group_of(image.path, data.group_pattern) for image in images]
    pairs = list(zip(images, groups, strict=True))
    of_groups = assign_splits(
        (group for image, group in pairs if image.split != "test"),
        calibration_fraction=data.calibration_fraction,
        validation_fraction=data.validation_fraction,
    )
    splits = ["test" if image.split == "test" else of_groups[group] for image, group in pairs]
    _check_trained(splits)
    headers = [read_header(path, name=str(path)) for path in (category_dir / image.path for image in images)]
    return list(map(Job, images, groups, splits, headers))


def _check_trained(splits: Sequence[str]) -> None:
    if "train" not in splits:
        raise ValueError(
            f"no image is left to train on: calibration takes {splits.count('calibration')} of train/good and "
            f"validation {splits.count('validation')} (add groups, or lower the two fractions)"
        )


def _warn_of_shapes(jobs: Sequence[Job], input_size: tuple[int, int], aspect_ratio: float) -> None:
    stretches = [job.header.width / job.header.height / aspect_ratio for job in jobs]
    other = [job for job, stretch in zip(jobs, stretches, strict=True) if max(stretch, 1 / stretch) > MAX_STRETCH]
    if other:
        logger.warning(
            "%d of %d pictures have another aspect ratio than most and fill only a part of the network's input of "
            "%dx%d, first %s (photograph them alike, or use data.mode=tile)",
            *(len(other), len(jobs), *input_size[::-1], other[0].image.path),
        )


def _warn_of_groups(records: list[FileRecord], data: DataConfig) -> None:
    groups = {split: {record.group for record in records if record.split == split} for split in SPLITS}
    shared = groups["test"] & (groups["train"] | groups["validation"] | groups["calibration"])
    if shared:
        logger.warning(
            "%d groups are in train and in test, first %s: test depends on train (import again with --group-pattern)",
            *(len(shared), min(shared)),
        )
    for split, fraction in {"validation": data.validation_fraction, "calibration": data.calibration_fraction}.items():
        if fraction > 0 and not groups[split]:
            logger.warning("no group fell into %s: add groups, or raise %s_fraction", split, split)


def _warn_of_copies(index: CopyIndex, written: set[str]) -> None:
    tested = [pair for pair in index.copies.items() if pair[0] in written]
    trained = [pair for pair in index.copies.items() if pair[0] not in written]
    for copies, fate in ((trained, "each counts once"), (tested, "each is tested on twice (remove one)")):
        if copies:
            logger.warning("%d pictures are copies, first %s = %s: %s", len(copies), *copies[0], fate)


def _count_tiles(records: list[FileRecord], num_rejected: int) -> dict[str, int]:
    """Count the training tiles; ValueError if none is left."""
    counts = {
        f"num_{split}_tiles": sum(len(record.tiles) for record in records if record.split == split)
        for split in LEARNT_SPLITS
    }
    if not counts["num_train_tiles"]:
        raise ValueError(
            f"no training tile is left: {num_rejected} were rejected as background or ignored (lower "
            f"data.tile_min_contrast, or look at {ROI})"
        )
    return {**counts, "num_rejected_tiles": num_rejected}


def _counts(manifest: Manifest) -> dict[str, Any]:
    counts: dict[str, Any] = {f"num_{split}": len(manifest.records(split)) for split in SPLITS}
    defective = [record for record in manifest.records("test") if record.defect_type != GOOD]
    return {
        "category": manifest.category,
        **counts,
        "num_test_good": counts["num_test"] - len(defective),
        "num_test_defective": len(defective),
        "num_defect_types": len({record.defect_type for record in defective}),
        "num_calibration_groups": len({record.group for record in manifest.records("calibration")}),
        "has_masks": any(record.mask_path for record in defective),
        "data_hash": manifest.data_hash,
    }


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
    def images(self, split: str) -> np.ndarray | Views: ...
    def images(self, split: str) -> np.ndarray | Views:
        """Return one split's pictures. -> uint8 (N, H, W, 3), or N views (H, W, 3) of different sizes.

        Those that a network learns from fill its input. Of calibration and test each is what it covers of the input,
        or in `tile` mode a whole scan.
        """
        records = self.records(split)
        if split in LEARNT_SPLITS:
            num_rows = len(records) if self.tiling is None else sum(len(record.tiles) for record in records)
            return self._open(f"{split}.npy", (num_rows, *self.input_size, 3))
        return self._open_views(f"{split}.npy", [(*size, 3) for size in self._sizes(records)])

    def masks(self) -> np.ndarray | Views | None:
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

    def _open_views(self, file_name: str, shapes: Sequence[tuple[int, ...]]) -> np.ndarray | Views:
        flat = self._open(file_name, (sum(map(math.prod, shapes)),))
        return flat.reshape(len(shapes), *shapes[0]) if len(set(shapes)) == 1 else Views(flat, shapes)

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
