"""Decoding a category's pictures into arrays on disk, in threads, memory flat: fitted to one size, or as scans."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ndpnet.data.arrays import ArrayAppender, new_array
from ndpnet.data.copies import thumbnail
from ndpnet.data.images import fit_image, fit_mask, is_wide, open_image, scale_plane
from ndpnet.data.layouts import FoundImage
from ndpnet.data.levels import Levels, depth_of_set
from ndpnet.data.manifest import SPLITS, FileRecord
from ndpnet.data.masks import Mask, open_mask
from ndpnet.data.roi import check_roi_fits
from ndpnet.data.tiling import contrast, scale_scan, scaled_size, training_origins

TILED_SPLITS = ("train", "validation")
MAX_RECORDS_WAITING = 1000

Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """A picture and its place: number `row` of its split."""

    found: FoundImage
    group: str
    split: str
    row: int
    bit_depth: int  # of the set


@dataclass(frozen=True)
class Picture:
    """A picture as it was read. image: uint8 (H, W, 3), mask: bool (H, W) or None."""

    seen: "Seen"
    image: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Seen:
    """What is kept of a picture beside its pixels."""

    record: FileRecord
    thumbnail: np.ndarray  # float32 (SIDE^2,)
    mask_note: str | None  # what a person should look at


@dataclass(frozen=True)
class TileRule:
    """Which tiles of a scan are trained on; lengths in pixels of the scan scaled by `scale`."""

    side: int
    stride: int
    margin: int
    min_contrast: float
    scale: float


def decode_resized(
    category_dir: Path, jobs: Sequence[Job], out_dir: Path, *, image_size: int, roi: np.ndarray | None
) -> list[Seen]:
    """Fill {split}.npy, and masks.npy where there are masks; rows are written in place, so memory stays small."""
    size = (image_size, image_size)
    arrays = {}
    for split in SPLITS:
        num_images = sum(job.split == split for job in jobs)
        arrays[split] = new_array(out_dir / f"{split}.npy", (num_images, *size, 3))
    if _has_masks(jobs):
        arrays["masks"] = new_array(out_dir / "masks.npy", (len(arrays["test"]), *size))

    def decode(job: Job) -> Seen:
        picture = read_picture(category_dir, job)
        _check_roi(category_dir, picture, roi, "resize")
        name = str(category_dir / job.found.path)
        arrays[job.split][job.row] = fit_image(picture.image, image_size, name=name)
        if picture.mask is not None:
            arrays["masks"][job.row] = fit_mask(picture.mask, image_size)
        return picture.seen

    seen = list(map_in_threads(decode, jobs, num_waiting=MAX_RECORDS_WAITING))
    for array in arrays.values():
        array.flush()
    return seen


def decode_scans(
    category_dir: Path, jobs: Sequence[Job], out_dir: Path, *, rule: TileRule, roi: np.ndarray | None
) -> tuple[list[Seen], int]:
    """Write tiles of scans to train on, whole scans to calibrate and test on. -> scans, number of rejected tiles."""

    def decode(job: Job) -> Picture:
        picture = read_picture(category_dir, job)
        _check_roi(category_dir, picture, roi, "tile")
        name = str(category_dir / job.found.path)
        scan = scale_scan(picture.image, rule.scale, name=name)
        mask = None if picture.mask is None else scale_plane(picture.mask, (scan.shape[1], scan.shape[0]))
        return Picture(picture.seen, scan, mask)

    seen, num_rejected = [], 0
    tile_shape = (rule.side, rule.side, 3)
    with ExitStack() as stack:
        appenders = {
            split: stack.enter_context(
                ArrayAppender(out_dir / f"{split}.npy", tile_shape if split in TILED_SPLITS else ())
            )
            for split in SPLITS
        }
        if _has_masks(jobs):
            appenders["masks"] = stack.enter_context(ArrayAppender(out_dir / "masks.npy"))
        for scan in map_in_threads(decode, jobs, num_waiting=1):
            record = scan.seen.record
            if record.split in TILED_SPLITS:
                kept, rejected = choose_tiles(scan.image, rule, roi, name=str(category_dir / record.path))
                record, num_rejected = replace(record, tiles=kept), num_rejected + rejected
                for left, top in kept:
                    appenders[record.split].append(scan.image[top : top + rule.side, left : left + rule.side])
            else:
                _append_scan(appenders, scan)
            seen.append(replace(scan.seen, record=record))
    return seen, num_rejected


def choose_tiles(
    scan: np.ndarray, rule: TileRule, roi: np.ndarray | None, *, name: str
) -> tuple[tuple[tuple[int, int], ...], int]:
    """(left, top) of a scan's training tiles, how many were rejected: flat ones, and those that are wholly ignored."""
    height, width = scan.shape[:2]
    origins = training_origins(width, height, side=rule.side, stride=rule.stride, margin=rule.margin)
    if not origins:
        needed = rule.side + 2 * rule.margin
        raise ValueError(
            f"{name} has {width}x{height} pixels at scale {rule.scale:g}, a training tile with its margins takes "
            f"{needed} (lower data.image_size or data.tile_margin, or leave the scan out)"
        )
    fitted = None if roi is None else scale_plane(roi, (width, height))
    kept = []
    for left, top in origins:
        inside = (slice(top, top + rule.side), slice(left, left + rule.side))
        is_ignored = fitted is not None and not fitted[inside].any()
        is_flat = rule.min_contrast > 0 and contrast(scan[inside]) < rule.min_contrast
        if not (is_ignored or is_flat):
            kept.append((left, top))
    return tuple(kept), len(origins) - len(kept)


def read_picture(category_dir: Path, job: Job) -> Picture:
    """Hash and decode one picture, and its mask. ValueError names the file."""
    found = job.found
    content = read_bytes(category_dir / found.path)
    opened = open_image(content, name=str(category_dir / found.path))
    facts, image = opened.facts(), opened.rgb(job.bit_depth)
    height, width = image.shape[:2]
    mask, mask_sha256 = None, None
    if found.mask_path:
        mask_content = read_bytes(category_dir / found.mask_path)
        mask_sha256 = hashlib.sha256(mask_content).hexdigest()
        mask = _checked_mask(mask_content, str(category_dir / found.mask_path), (height, width))
    record = FileRecord(
        path=found.path,
        sha256=hashlib.sha256(content).hexdigest(),
        group=job.group,
        split=job.split,
        defect_type=found.defect_type,
        width=width,
        height=height,
        mask_path=found.mask_path,
        mask_sha256=mask_sha256,
        pixels_sha256=facts.pixels_sha256.hex(),
        bit_depth=job.bit_depth,
    )
    seen = Seen(record, thumbnail(image), mask and mask.note)
    return Picture(seen, image, None if mask is None else mask.marked)


def find_bit_depth(category_dir: Path, found: Iterable[FoundImage]) -> int:
    """Bits that the levels of a category's pictures use; ValueError for a mixture. Only 16-bit ones are decoded."""

    def read_levels(image: FoundImage) -> tuple[str, Levels]:
        path = category_dir / image.path
        return str(path), open_image(path).levels if is_wide(path, name=str(path)) else Levels(8, 255, 0.0)

    return depth_of_set(map_in_threads(read_levels, found, num_waiting=MAX_RECORDS_WAITING))


def scan_shapes(records: Iterable[FileRecord], scale: float) -> list[tuple[int, int]]:
    """Sizes of the stored scans. -> [(height, width)]."""
    sizes = [scaled_size(record.width, record.height, scale) for record in records]
    return [(height, width) for width, height in sizes]


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], *, num_waiting: int) -> Iterator[Result]:
    """Results in order, at most `num_waiting` of them computed before they are asked for."""
    # threads: PIL and hashlib release the GIL; few: each may hold a picture of hundreds of megapixels
    num_threads = min(8, len(os.sched_getaffinity(0)))
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= num_threads + num_waiting:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _append_scan(appenders: dict[str, ArrayAppender], scan: Picture) -> None:
    split = scan.seen.record.split
    appenders[split].append(scan.image)
    if split == "test" and "masks" in appenders:
        mask = np.zeros(scan.image.shape[:2], np.uint8) if scan.mask is None else scan.mask.astype(np.uint8)
        appenders["masks"].append(mask)


def _has_masks(jobs: Iterable[Job]) -> bool:
    return any(job.found.mask_path for job in jobs)


def _check_roi(category_dir: Path, picture: Picture, roi: np.ndarray | None, mode: str) -> None:
    if roi is not None:
        record = picture.seen.record
        check_roi_fits(roi, record.width, record.height, mode=mode, name=str(category_dir / record.path))


def read_bytes(path: Path) -> bytes:
    """Return a picture's bytes; ValueError names one that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror} (check the file and its permissions)") from error


def _checked_mask(content: bytes, name: str, size: tuple[int, int]) -> Mask:
    mask = open_mask(content, name=name)
    if mask.marked.shape != size:
        (mask_height, mask_width), (height, width) = mask.marked.shape, size
        sizes = f"{mask_width}x{mask_height} pixels, its image {width}x{height}"
        raise ValueError(f"mask {name} has {sizes} (draw it at the image's size)")
    if not mask.marked.any():
        raise ValueError(f"mask {name} is empty (mark the defect, or move its image to test/good)")
    return mask
