"""Decoding a category's pictures into arrays on disk, in threads, memory flat: fitted to one size, or as scans."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ndpnet.data.arrays import ArrayAppender
from ndpnet.data.copies import CopyIndex, thumbnail
from ndpnet.data.fitting import fit_image, scale_plane, scale_scan, scaled_size
from ndpnet.data.images import Header, open_image
from ndpnet.data.importing.sources.plan import SourceImage
from ndpnet.data.levels import Levels, depth_of_set
from ndpnet.data.manifest import SPLITS, FileRecord
from ndpnet.data.masks import check_mask, open_mask
from ndpnet.data.roi import check_roi_fits
from ndpnet.data.threads import map_in_threads, read_bytes
from ndpnet.data.tiling import contrast, training_origins

TILED_SPLITS = ("train", "validation")

Roi = np.ndarray | None  # bool (H, W), true where the picture is inspected


@dataclass(frozen=True)
class Job:
    """A picture to read, its group and split."""

    found: SourceImage
    group: str
    split: str
    bit_depth: int  # of the set
    header: Header


@dataclass(frozen=True)
class DecodedPicture:
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


def decode_category(
    category_dir: Path,
    jobs: Sequence[Job],
    out_dir: Path,
    *,
    input_size: tuple[int, int],
    rule: TileRule | None,
    roi: Roi,
) -> tuple[list[Seen], CopyIndex, int]:
    """Write the pictures of each split, and masks where there are any, in one pass; copies in train/good are left out.

    Fitted to the network's (height, width); with a rule tiles to train on, and whole scans to calibrate and test on.
    -> what was written, which pictures show the same, number of rejected tiles.
    """
    seen, index, num_rejected = list[Seen](), CopyIndex(), 0
    decode = _fitting(category_dir, input_size=input_size, rule=rule, roi=roi)
    with ExitStack() as stack:
        arrays = _open_arrays(stack, jobs, out_dir, input_size, is_tiled=rule is not None)
        pictures = map_in_threads(decode, jobs, pixels_of=lambda job: job.header.num_pixels)
        for picture in tqdm(pictures, "decode", total=len(jobs), unit="image", disable=None):
            record = picture.seen.record
            is_test = record.split == "test"
            if index.add(record.path, record.known_by, is_test=is_test) is not None and not is_test:
                continue
            if rule is not None and record.split in TILED_SPLITS:
                origins, rejected = choose_tiles(picture.image, rule, roi, name=str(category_dir / record.path))
                record, num_rejected = replace(record, tiles=origins), num_rejected + rejected
                for left, top in origins:
                    arrays[record.split].append(picture.image[top : top + rule.side, left : left + rule.side])
            else:
                _append_whole(arrays, picture)
            seen.append(replace(picture.seen, record=record))
    return seen, index, num_rejected


def _open_arrays(
    stack: ExitStack, jobs: Sequence[Job], out_dir: Path, size: tuple[int, int], *, is_tiled: bool
) -> dict[str, ArrayAppender]:
    """Return the arrays to write, masks only where there are any; scans of any size lie one behind the other."""
    shapes: dict[str, tuple[int, ...]] = {
        split: () if is_tiled and split not in TILED_SPLITS else (*size, 3) for split in SPLITS
    }
    if any(job.found.mask_path for job in jobs):
        shapes["masks"] = () if is_tiled else size
    return {name: stack.enter_context(ArrayAppender(out_dir / f"{name}.npy", shape)) for name, shape in shapes.items()}


def _append_whole(arrays: dict[str, ArrayAppender], picture: DecodedPicture) -> None:
    split = picture.seen.record.split
    arrays[split].append(picture.image)
    if split == "test" and "masks" in arrays:
        mask = np.zeros(picture.image.shape[:2]) if picture.mask is None else picture.mask
        arrays["masks"].append(mask.astype(np.uint8))


def _fitting(
    category_dir: Path, *, input_size: tuple[int, int], rule: TileRule | None, roi: Roi
) -> Callable[[Job], DecodedPicture]:
    """Return what reads a picture, and fits it to the network or scales it as a scan."""

    def decode(job: Job) -> DecodedPicture:
        picture, name = read_picture(category_dir, job), str(category_dir / job.found.path)
        if roi is not None:
            height, width = picture.image.shape[:2]
            check_roi_fits(roi, width, height, mode="tile" if rule else "resize", name=name)
        if rule is None:
            image = fit_image(picture.image, input_size, name=name)
        else:
            image = scale_scan(picture.image, rule.scale, name=name)
        mask = None if picture.mask is None else scale_plane(picture.mask, image.shape[:2])
        return DecodedPicture(picture.seen, image, mask)

    return decode


def choose_tiles(scan: np.ndarray, rule: TileRule, roi: Roi, *, name: str) -> tuple[tuple[tuple[int, int], ...], int]:
    """(left, top) of a scan's training tiles, how many were rejected: flat ones, and those that are wholly ignored."""
    height, width = scan.shape[:2]
    origins = training_origins(width, height, side=rule.side, stride=rule.stride, margin=rule.margin)
    if not origins:
        needed = rule.side + 2 * rule.margin
        raise ValueError(
            f"{name} has {width}x{height} pixels at scale {rule.scale:g}, a training tile with its margins takes "
            f"{needed} (lower data.image_size or data.tile_margin, or leave the scan out)"
        )
    fitted = None if roi is None else scale_plane(roi, (height, width))
    kept = []
    for left, top in origins:
        inside = (slice(top, top + rule.side), slice(left, left + rule.side))
        is_ignored = fitted is not None and not fitted[inside].any()
        is_flat = rule.min_contrast > 0 and contrast(scan[inside]) < rule.min_contrast
        if not (is_ignored or is_flat):
            kept.append((left, top))
    return tuple(kept), len(origins) - len(kept)


def read_picture(category_dir: Path, job: Job) -> DecodedPicture:
    """Hash and decode one picture, and its mask. ValueError names the file."""
    found = job.found
    content = read_bytes(category_dir / found.path)
    opened = open_image(content, name=str(category_dir / found.path))
    facts, image = opened.facts(), opened.rgb(job.bit_depth)
    height, width = image.shape[:2]
    mask, mask_sha256 = None, None
    if found.mask_path:
        mask_path = category_dir / found.mask_path
        mask_content = read_bytes(mask_path)
        mask, mask_sha256 = open_mask(mask_content, name=str(mask_path)), hashlib.sha256(mask_content).hexdigest()
        check_mask(mask.marked, f"mask {mask_path}", is_good=False, size=(height, width))
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
    seen = Seen(record, thumbnail(image), None if mask is None else mask.note)
    return DecodedPicture(seen, image, None if mask is None else mask.marked)


def find_bit_depth(category_dir: Path, found: Sequence[SourceImage], headers: Sequence[Header]) -> int:
    """Bits that the levels of a category's pictures use; ValueError for a mixture. Only 16-bit ones are decoded."""

    def read_levels(item: tuple[SourceImage, Header]) -> tuple[str, Levels]:
        path = category_dir / item[0].path
        return str(path), open_image(path).levels if item[1].is_wide else Levels(8, 255, 0.0)

    pairs = zip(found, headers, strict=True)
    return depth_of_set(map_in_threads(read_levels, pairs, pixels_of=lambda item: item[1].num_pixels))


def scan_shapes(records: Iterable[FileRecord], scale: float) -> list[tuple[int, int]]:
    """Sizes of the stored scans. -> [(height, width)]."""
    return [scaled_size(record.height, record.width, scale) for record in records]
