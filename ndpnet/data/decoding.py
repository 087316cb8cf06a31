"""Decoding a category's pictures into arrays on disk, in threads, memory flat: fitted to one size, or as scans."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ndpnet.config import DataConfig
from ndpnet.data.arrays import ArrayAppender
from ndpnet.data.copies import CopyIndex, thumbnail
from ndpnet.data.fitting import continue_surface, covered_size, fit_image, scale_plane, scale_scan
from ndpnet.data.images import Header, open_image
from ndpnet.data.importing.sources.plan import SourceImage
from ndpnet.data.levels import Levels, depth_of_set
from ndpnet.data.manifest import GOOD, SPLITS, FileRecord
from ndpnet.data.masks import Mask, check_mask, open_mask
from ndpnet.data.roi import check_roi_fits
from ndpnet.data.threads import map_in_threads, read_bytes
from ndpnet.data.tiling import contrast, training_origins

LEARNT_SPLITS = ("train", "validation")

Roi = np.ndarray | None  # bool (H, W), true where the picture is inspected


@dataclass(frozen=True)
class Job:
    """A picture to read, its group and split."""

    image: SourceImage
    group: str
    split: str
    header: Header


@dataclass(frozen=True)
class Picture:
    """A picture as it was read."""

    record: FileRecord
    image: np.ndarray  # uint8 (H, W, 3)
    mask: Mask | None
    thumbnail: np.ndarray  # float32 (SIDE^2,)


@dataclass
class DecodedCategory:
    """What was written of a category, in order, and what a person should know of it."""

    records: list[FileRecord] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)
    mask_notes: list[str] = field(default_factory=list)  # "PATH NOTE"
    copies: CopyIndex = field(default_factory=CopyIndex)
    num_rejected: int = 0  # tiles


def decode_category(
    category_dir: Path,
    jobs: Sequence[Job],
    out_dir: Path,
    *,
    bit_depth: int,
    input_size: tuple[int, int],
    aspect_ratio: float,
    rule: DataConfig | None,
    roi: Roi,
) -> DecodedCategory:
    """Write the pictures of each split, and masks where there are any, in one pass; copies in train/good are left out.

    Fitted to the network's (height, width), which those to train on fill; with a rule, the parameters of `tile` mode,
    tiles to train on, and whole scans to calibrate and test on.
    """
    done = DecodedCategory()

    def decode(job: Job) -> Picture:
        picture = read_picture(category_dir, job.image, job.group, job.split, bit_depth)
        name, own = str(category_dir / job.image.path), picture.image.shape[:2]
        if roi is not None:
            check_roi_fits(roi, *own[::-1], mode="tile" if rule else "resize", name=name)
        if rule is not None:
            return _with_image(picture, scale_scan(picture.image, rule.scale, name=name))
        fitted = fit_image(picture.image, covered_size(own, input_size, aspect_ratio), name=name)
        return _with_image(picture, continue_surface(fitted, input_size) if job.split in LEARNT_SPLITS else fitted)

    with ExitStack() as stack:
        arrays = _open_arrays(stack, jobs, out_dir, input_size)
        pictures = map_in_threads(decode, jobs, pixels_of=lambda job: job.header.num_pixels)
        for picture in tqdm(pictures, "decode", total=len(jobs), unit="image", disable=None):
            record = picture.record
            is_test, is_good = record.split == "test", record.defect_type == GOOD
            first = done.copies.add(record.path, record.known_by, is_test=is_test, is_good=is_good)
            if first is not None and not is_test:
                continue
            if rule is not None and record.split in LEARNT_SPLITS:
                origins, rejected = choose_tiles(picture.image, rule, roi, name=str(category_dir / record.path))
                record, done.num_rejected = replace(record, tiles=origins), done.num_rejected + rejected
                side = rule.image_size
                for left, top in origins:
                    arrays[record.split].append(picture.image[top : top + side, left : left + side])
            else:
                _append_whole(arrays, picture)
            done.records.append(record)
            done.thumbnails.append(picture.thumbnail)
            if picture.mask and picture.mask.note:
                done.mask_notes.append(f"{record.mask_path} {picture.mask.note}")
    return done


def _open_arrays(
    stack: ExitStack, jobs: Sequence[Job], out_dir: Path, size: tuple[int, int]
) -> dict[str, ArrayAppender]:
    """Return the arrays to write, masks only where there are any; pictures of any size lie one behind the other."""
    shapes: dict[str, tuple[int, ...]] = {split: (*size, 3) if split in LEARNT_SPLITS else () for split in SPLITS}
    if any(job.image.mask_path for job in jobs):
        shapes["masks"] = ()
    return {name: stack.enter_context(ArrayAppender(out_dir / f"{name}.npy", shape)) for name, shape in shapes.items()}


def _append_whole(arrays: dict[str, ArrayAppender], picture: Picture) -> None:
    split = picture.record.split
    arrays[split].append(picture.image)
    if split == "test" and "masks" in arrays:
        mask = np.zeros(picture.image.shape[:2]) if picture.mask is None else picture.mask.marked
        arrays["masks"].append(mask.astype(np.uint8))


def _with_image(picture: Picture, image: np.ndarray) -> Picture:
    """The picture scaled, and its mask with it."""
    mask = picture.mask
    if mask is not None:
        mask = replace(mask, marked=scale_plane(mask.marked, image.shape[:2]))
    return replace(picture, image=image, mask=mask)


def choose_tiles(scan: np.ndarray, rule: DataConfig, roi: Roi, *, name: str) -> tuple[tuple[tuple[int, int], ...], int]:
    """(left, top) of a scan's training tiles, how many were rejected: flat ones, and those that are wholly ignored."""
    height, width = scan.shape[:2]
    origins = training_origins(width, height, side=rule.image_size, stride=rule.tile_stride, margin=rule.tile_margin)
    if not origins:
        needed = rule.image_size + 2 * rule.tile_margin
        raise ValueError(
            f"{name} has {width}x{height} pixels at scale {rule.scale:g}, a training tile with its margins takes "
            f"{needed} (lower data.image_size or data.tile_margin, or leave the scan out)"
        )
    fitted = None if roi is None else scale_plane(roi, (height, width))
    corners = []
    for left, top in origins:
        inside = (slice(top, top + rule.image_size), slice(left, left + rule.image_size))
        is_ignored = fitted is not None and not fitted[inside].any()
        is_flat = rule.tile_min_contrast > 0 and contrast(scan[inside]) < rule.tile_min_contrast
        if not (is_ignored or is_flat):
            corners.append((left, top))
    return tuple(corners), len(origins) - len(corners)


def read_picture(folder: Path, source: SourceImage, group: str, split: str, bit_depth: int) -> Picture:
    """Hash and decode one picture, and its mask; bit_depth: of its set. ValueError names the file."""
    content = read_bytes(folder / source.path)
    opened = open_image(content, name=str(folder / source.path))
    facts, image = opened.facts(), opened.rgb(bit_depth)
    height, width = image.shape[:2]
    mask, mask_sha256 = None, None
    if source.mask_path:
        mask_path = folder / source.mask_path
        mask_content = read_bytes(mask_path)
        mask, mask_sha256 = open_mask(mask_content, name=str(mask_path)), hashlib.sha256(mask_content).hexdigest()
        check_mask(mask.marked, f"mask {mask_path}", is_good=False, size=(height, width))
    record = FileRecord(
        path=source.path,
        sha256=hashlib.sha256(content).hexdigest(),
        group=group,
        split=split,
        defect_type=source.defect_type,
        width=width,
        height=height,
        mask_path=source.mask_path,
        mask_sha256=mask_sha256,
        pixels_sha256=facts.pixels_sha256.hex(),
        bit_depth=bit_depth,
    )
    return Picture(record, image, mask, thumbnail(image))


def find_bit_depth(category_dir: Path, jobs: Sequence[Job]) -> int:
    """Bits that the levels of a category's pictures use; ValueError for a mixture. Only 16-bit ones are decoded."""

    def read_levels(job: Job) -> tuple[str, Levels]:
        path = category_dir / job.image.path
        return str(path), open_image(path).levels if job.header.is_wide else Levels(8, 255, 0.0)

    return depth_of_set(map_in_threads(read_levels, jobs, pixels_of=lambda job: job.header.num_pixels))
