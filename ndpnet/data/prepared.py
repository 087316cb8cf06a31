"""One category as decoded arrays: writing the prepared folder, and reading it."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndpnet.data.images import fit_image, fit_mask, read_image, read_mask
from ndpnet.data.layouts import FoundImage, scan_mvtec
from ndpnet.data.manifest import GOOD, SPLITS, FileRecord, Manifest
from ndpnet.data.split import assign_split, check_fractions, group_of
from ndpnet.files import atomic_folder, write_json

FORMAT_VERSION = 1
SETTINGS = "prepared.json"
MODES = ("resize",)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """A picture and its place: row `row` of the array of its split."""

    found: FoundImage
    group: str
    split: str
    row: int


def prepare(
    data_dir: Path,
    category: str,
    out_dir: Path,
    *,
    image_size: int,
    mode: str = "resize",
    group_pattern: str,
    calibration_fraction: float,
    validation_fraction: float,
) -> dict[str, Any]:
    """Decode one category into uint8 arrays and a manifest under `out_dir`, atomically; return its counts.

    The bytes are a function of the pictures and the arguments alone. ValueError names the file and the mend.
    """
    if mode not in MODES:
        raise ValueError(f"no data mode {mode!r} (one of {', '.join(MODES)})")
    fractions = {"calibration_fraction": calibration_fraction, "validation_fraction": validation_fraction}
    check_fractions(**fractions)
    category_dir = Path(data_dir) / category
    jobs = _plan(scan_mvtec(category_dir), group_pattern, fractions)
    with atomic_folder(out_dir, marker=SETTINGS) as partial_dir:
        records = _decode_all(category_dir, jobs, partial_dir, image_size)
        _check_content(category_dir, records)
        manifest = Manifest(category, tuple(records))
        manifest.save(partial_dir / "manifest.json")
        settings = {"image_size": image_size, "mode": mode, "group_pattern": group_pattern, **fractions}
        write_json(partial_dir / SETTINGS, {"format_version": FORMAT_VERSION, **settings})
    return _counts(manifest)


def _plan(found: list[FoundImage], group_pattern: str, fractions: dict[str, float]) -> list[_Job]:
    jobs, num_rows = [], dict.fromkeys(SPLITS, 0)
    for image in found:
        group = group_of(image.path, group_pattern)
        split = "test" if image.is_test else assign_split(group, **fractions)
        jobs.append(_Job(image, group, split, num_rows[split]))
        num_rows[split] += 1
    if not num_rows["train"]:
        raise ValueError(
            f"no image is left to train on: calibration takes {num_rows['calibration']} of train/good and validation "
            f"{num_rows['validation']} (add groups, or lower the two fractions)"
        )
    _warn_of_groups(jobs, fractions)
    return jobs


def _warn_of_groups(jobs: list[_Job], fractions: dict[str, float]) -> None:
    groups = {split: {job.group for job in jobs if job.split == split} for split in SPLITS}
    shared = groups["test"] & (groups["train"] | groups["validation"] | groups["calibration"])
    if shared:
        logger.warning("%d groups are in train and in test, first %s: test depends on train", len(shared), min(shared))
    for split in ("validation", "calibration"):
        if fractions[f"{split}_fraction"] > 0 and not groups[split]:
            logger.warning("no group fell into %s: add groups, or raise %s_fraction", split, split)


def _decode_all(category_dir: Path, jobs: list[_Job], out_dir: Path, image_size: int) -> list[FileRecord]:
    """Fill {split}.npy, and masks.npy where there are masks; rows are written in place, so memory stays small."""
    size = (image_size, image_size)
    arrays = {}
    for split in SPLITS:
        num_images = sum(job.split == split for job in jobs)
        arrays[split] = _new_array(out_dir / f"{split}.npy", (num_images, *size, 3))
    if any(job.found.mask_path for job in jobs):
        arrays["masks"] = _new_array(out_dir / "masks.npy", (len(arrays["test"]), *size))

    def decode(job: _Job) -> FileRecord:
        return _decode(category_dir, job, arrays, image_size)

    records = _map_in_threads(decode, jobs)
    for array in arrays.values():
        array.flush()
    return records


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _map_in_threads(decode: Callable[[_Job], FileRecord], jobs: Iterable[_Job]) -> list[FileRecord]:
    # threads: PIL and hashlib release the GIL; few: each may hold a picture of hundreds of megapixels
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(decode, jobs))


def _decode(category_dir: Path, job: _Job, arrays: dict[str, np.memmap], image_size: int) -> FileRecord:
    """Hash and decode one picture, and its mask, into its row."""
    found = job.found
    name = str(category_dir / found.path)
    content = _read_bytes(category_dir / found.path)
    image = read_image(content, name=name)
    arrays[job.split][job.row] = fit_image(image, image_size, name=name)
    height, width = image.shape[:2]
    mask_sha256 = None
    if found.mask_path:
        mask_content = _read_bytes(category_dir / found.mask_path)
        mask_sha256 = hashlib.sha256(mask_content).hexdigest()
        mask = _checked_mask(mask_content, str(category_dir / found.mask_path), (height, width))
        arrays["masks"][job.row] = fit_mask(mask, image_size)
    return FileRecord(
        path=found.path,
        sha256=hashlib.sha256(content).hexdigest(),
        group=job.group,
        split=job.split,
        defect_type=found.defect_type,
        width=width,
        height=height,
        mask_path=found.mask_path,
        mask_sha256=mask_sha256,
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror} (check the file and its permissions)") from error


def _checked_mask(content: bytes, name: str, size: tuple[int, int]) -> np.ndarray:
    mask = read_mask(content, name=name)
    if mask.shape != size:
        (mask_height, mask_width), (height, width) = mask.shape, size
        sizes = f"{mask_width}x{mask_height} pixels, its image {width}x{height}"
        raise ValueError(f"mask {name} has {sizes} (draw it at the image's size)")
    if not mask.any():
        raise ValueError(f"mask {name} is empty (mark the defect, or move its image to test/good)")
    return mask


def _check_content(category_dir: Path, records: list[FileRecord]) -> None:
    """Refuse a picture that is in train/good and in test; warn of one that is in train/good twice."""
    trained = {}
    duplicates = []
    for record in records:
        if record.split != "test" and trained.setdefault(record.sha256, record) is not record:
            duplicates.append(f"{trained[record.sha256].path} = {record.path}")
    for record in records:
        if record.split == "test" and record.sha256 in trained:
            both = f"{trained[record.sha256].path} and {record.path}"
            raise ValueError(f"the same picture is in train and in test of {category_dir}: {both} (remove one)")
    if duplicates:
        logger.warning("%d pictures of train/good occur twice, first %s: remove them", len(duplicates), duplicates[0])


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
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"no prepared data in {folder} (run `ndpnet prepare`)") from error
        version = settings.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"{folder} has format {version}, not {FORMAT_VERSION} (run `ndpnet prepare` again)")
        return cls(folder, Manifest.load(folder / "manifest.json"), settings)

    @property
    def image_size(self) -> int:
        """Side of the pictures in pixels."""
        return self.settings["image_size"]

    def images(self, split: str) -> np.memmap:
        """Return one split's pictures, row i being `records(split)[i]`. -> uint8 (N, S, S, 3)."""
        return self._open(f"{split}.npy", len(self.records(split)))

    def masks(self) -> np.memmap | None:
        """Return the test masks, zeros for good pictures, or None if the set has none. -> uint8 0/1 (N_test, S, S)."""
        if not any(record.mask_path for record in self.records("test")):
            return None
        return self._open("masks.npy", len(self.records("test")))

    def records(self, split: str) -> list[FileRecord]:
        """Return one split's files, in the order of its rows."""
        return self.manifest.records(split)

    def _open(self, file_name: str, num_rows: int) -> np.memmap:
        path = self.folder / file_name
        try:
            array = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {path} (run `ndpnet prepare` again)") from error
        if len(array) != num_rows:
            raise ValueError(f"{path} has {len(array)} rows, its manifest {num_rows} (run `ndpnet prepare` again)")
        return array
