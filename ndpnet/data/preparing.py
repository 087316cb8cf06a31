"""Writing one category as prepared arrays: decoded in threads, memory flat, fitted to one size or as scans."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet.config import DataConfig
from ndpnet.data.arrays import ArrayAppender
from ndpnet.data.copies import CopyIndex, thumbnail, warn_of_alike
from ndpnet.data.fitting import (
    MAX_ASPECT,
    MAX_STRETCH,
    continue_surface,
    covered_size,
    fit_image,
    input_size_of,
    median_aspect_ratio,
    scale_plane,
    scale_scan,
)
from ndpnet.data.images import Header, open_image, read_header
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.levels import Levels, depth_of_set
from ndpnet.data.listing import IMPORTED
from ndpnet.data.manifest import GOOD, LEARNT_SPLITS, SPLITS, FileRecord, Manifest
from ndpnet.data.masks import Mask, check_mask, open_mask
from ndpnet.data.names import check_category
from ndpnet.data.prepared import FORMAT_VERSION, SETTINGS
from ndpnet.data.roi import ROI, check_roi_fits, find_roi, write_roi
from ndpnet.data.split import assign_splits, group_of
from ndpnet.data.threads import map_in_threads, read_bytes
from ndpnet.data.tiling import contrast, training_origins
from ndpnet.files import sha256_of, write_json
from ndpnet.folders import atomic_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A picture as it was read."""

    record: FileRecord
    image: np.ndarray  # uint8 (H, W, 3)
    mask: Mask | None
    thumbnail: np.ndarray  # float32 (SIDE^2,)


@dataclass(frozen=True)
class Target:
    """What all pictures of a category become: of the network's input (height, width), or in `tile` mode scans."""

    data: DataConfig
    input_size: tuple[int, int]
    aspect_ratio: float
    roi: np.ndarray | None  # bool (H, W), true where the picture is inspected


def prepare(
    data_dir: Path, category: str, out_dir: Path, data: DataConfig, *, is_pinned: bool = False
) -> dict[str, Any]:
    """Decode one category into uint8 arrays and a manifest under `out_dir`, atomically; return its counts.

    The bytes are a function of the pictures and the arguments alone. ValueError names the file and the fix.
    """
    check_category(category)
    category_dir = Path(data_dir) / category
    with atomic_folder(out_dir, marker=SETTINGS) as folder:
        planned, roi, side = _plan(category_dir, data), find_roi(category_dir), data.image_size
        aspect_ratio = median_aspect_ratio((each.width, each.height) for each in planned if each.split == "train")
        input_size = (side, side) if data.mode == "tile" else input_size_of(aspect_ratio, side)
        if data.mode != "tile":
            _warn_of_shapes(planned, input_size, aspect_ratio)
        target = Target(data, input_size, aspect_ratio, roi)
        manifest = Manifest(category, tuple(_write_pictures(category_dir, planned, folder, target)))
        counts = _counts(manifest) | _tile_counts(manifest, data)
        _warn_of_groups(manifest, data)
        if (category_dir / IMPORTED).is_file():
            shutil.copyfile(category_dir / IMPORTED, folder / IMPORTED)  # its licence goes with the data
            _warn_of_pattern(category_dir / IMPORTED, data.group_pattern)
        manifest.save(folder / "manifest.json")
        if roi is not None:
            write_roi(folder / ROI, roi)
        # all parameters: what no array depends on, as tile_side, reaches the model so
        settings = data.model_dump() | {"is_pinned": is_pinned, "format_version": FORMAT_VERSION}
        settings |= {"input_size": input_size, "aspect_ratio": aspect_ratio}
        settings |= {"roi_sha256": None if roi is None else sha256_of(folder / ROI)}
        write_json(folder / SETTINGS, settings)
    return counts


def _plan(category_dir: Path, data: DataConfig) -> list[FileRecord]:
    """Choose the split of every picture, by its path. ValueError: none is left to train on, or depths are mixed."""
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
    headers = {path: read_header(path, name=str(path)) for path in (category_dir / image.path for image in images)}
    bit_depth = _find_bit_depth(headers)
    return [
        FileRecord(
            *(image.path, group, split, image.defect_type, bit_depth),
            width=header.width,
            height=header.height,
            mask_path=image.mask_path,
        )
        for image, group, split, header in zip(images, groups, splits, headers.values(), strict=True)
    ]


def _check_trained(splits: Sequence[str]) -> None:
    if "train" not in splits:
        raise ValueError(
            f"no image is left to train on: calibration takes {splits.count('calibration')} of train/good and "
            f"validation {splits.count('validation')} (add groups, or lower the two fractions)"
        )


def _warn_of_shapes(planned: Sequence[FileRecord], input_size: tuple[int, int], aspect_ratio: float) -> None:
    stretches = {each.path: each.width / each.height / aspect_ratio for each in planned}
    other = [path for path, stretch in stretches.items() if max(stretch, 1 / stretch) > MAX_STRETCH]
    if other:
        logger.warning(
            "%d of %d pictures have another aspect ratio than most and fill only a part of the network's input of "
            "%dx%d, first %s (photograph them alike, or use data.mode=tile)",
            *(len(other), len(planned), *input_size[::-1], other[0]),
        )
    if (longer := max(aspect_ratio, 1 / aspect_ratio)) > MAX_ASPECT * MAX_STRETCH:
        logger.warning(
            "most pictures are %.0f times as long as wide, the network's input of %dx%d is %d times: they are squeezed "
            "and small defects may vanish (use data.mode=tile)",
            *(longer, *input_size[::-1], MAX_ASPECT),
        )


def _find_bit_depth(headers: Mapping[Path, Header]) -> int:
    """Bits that the levels of a category's pictures use; ValueError for a mixture. Only 16-bit ones are decoded."""

    def read_levels(path: Path) -> tuple[str, Levels]:
        return str(path), open_image(path).levels if headers[path].is_wide else Levels(8, 255, 0.0)

    return depth_of_set(map_in_threads(read_levels, headers, pixels_of=lambda path: headers[path].num_pixels))


def _write_pictures(
    category_dir: Path, planned: Sequence[FileRecord], folder: Path, target: Target
) -> list[FileRecord]:
    """Write the pictures of each split, and masks where there are any; copies in train/good are left out. -> records

    What a person should look at is said. ValueError: a picture is trained and tested on.
    """
    index, records, thumbnails, notes = CopyIndex(), list[FileRecord](), list[np.ndarray](), list[str]()
    with ExitStack() as stack:
        arrays = _open_arrays(stack, planned, folder, target.input_size)
        for picture in _decoded(category_dir, planned, target):
            record = picture.record
            is_test, is_good = record.split == "test", record.defect_type == GOOD
            if index.add(record.path, record.known_by, is_test=is_test, is_good=is_good) is None or is_test:
                _append(arrays, picture, target)
                records.append(record)
                thumbnails.append(picture.thumbnail)
                if picture.mask and picture.mask.note:
                    notes.append(f"{record.mask_path} {picture.mask.note}")
    index.refuse_leaks()
    _check_trained([record.split for record in records])
    _warn_of_copies(index, {record.path for record in records})
    warn_of_alike(thumbnails, records)
    if notes:
        logger.warning("%d masks need a look, first %s", len(notes), notes[0])
    return records


def _decoded(category_dir: Path, planned: Sequence[FileRecord], target: Target) -> Iterator[Picture]:
    """Pictures as they are stored, in order: fitted, those to train on filling the input; of scans those with tiles."""

    def decode(record: FileRecord) -> Picture:
        picture, data = read_picture(category_dir, record), target.data
        name, own = str(category_dir / record.path), picture.image.shape[:2]
        if target.roi is not None:
            check_roi_fits(target.roi, *own[::-1], mode=data.mode, name=name)
        is_learnt = record.split in LEARNT_SPLITS
        if data.mode == "tile":
            image = scale_scan(picture.image, data.scale, name=name)
            tiles = choose_tiles(image, data, target.roi, name=name) if is_learnt else ()
        else:
            image = fit_image(picture.image, covered_size(own, target.input_size, target.aspect_ratio), name=name)
            image, tiles = continue_surface(image, target.input_size) if is_learnt else image, ()
        mask = picture.mask and replace(picture.mask, marked=scale_plane(picture.mask.marked, image.shape[:2]))
        return replace(picture, record=replace(picture.record, tiles=tiles), image=image, mask=mask)

    pictures = map_in_threads(decode, planned, pixels_of=lambda record: record.width * record.height)
    yield from tqdm(pictures, "decode", total=len(planned), unit="image", disable=None)


def _open_arrays(
    stack: ExitStack, planned: Sequence[FileRecord], out_dir: Path, size: tuple[int, int]
) -> dict[str, ArrayAppender]:
    """Return the arrays to write, masks only where there are any; pictures of any size lie one behind the other."""
    shapes: dict[str, tuple[int, ...]] = {split: (*size, 3) if split in LEARNT_SPLITS else () for split in SPLITS}
    if any(record.mask_path for record in planned):
        shapes["masks"] = ()
    return {name: stack.enter_context(ArrayAppender(out_dir / f"{name}.npy", shape)) for name, shape in shapes.items()}


def _append(arrays: dict[str, ArrayAppender], picture: Picture, target: Target) -> None:
    split = picture.record.split
    if target.data.mode == "tile" and split in LEARNT_SPLITS:
        side = target.data.image_size
        for left, top in picture.record.tiles:
            arrays[split].append(picture.image[top : top + side, left : left + side])
        return
    arrays[split].append(picture.image)
    if split == "test" and "masks" in arrays:
        mask = np.zeros(picture.image.shape[:2]) if picture.mask is None else picture.mask.marked
        arrays["masks"].append(mask.astype(np.uint8))


def choose_tiles(
    scan: np.ndarray, data: DataConfig, roi: np.ndarray | None, *, name: str
) -> tuple[tuple[int, int], ...]:
    """(left, top) of a scan's training tiles: not those that are flat, and those that are wholly ignored."""
    height, width = scan.shape[:2]
    origins = training_origins(width, height, side=data.image_size, stride=data.tile_stride, margin=data.tile_margin)
    if not origins:
        needed = data.image_size + 2 * data.tile_margin
        raise ValueError(
            f"{name} has {width}x{height} pixels at scale {data.scale:g}, a training tile with its margins takes "
            f"{needed} (lower data.image_size or data.tile_margin, or leave the scan out)"
        )
    fitted = None if roi is None else scale_plane(roi, (height, width))

    def is_seen(left: int, top: int) -> bool:
        inside = (slice(top, top + data.image_size), slice(left, left + data.image_size))
        is_ignored = fitted is not None and not fitted[inside].any()
        is_flat = data.tile_min_contrast > 0 and contrast(scan[inside]) < data.tile_min_contrast
        return not (is_ignored or is_flat)

    return tuple(origin for origin in origins if is_seen(*origin))


def read_picture(folder: Path, record: FileRecord) -> Picture:
    """Hash and decode a picture that is `unread` so far, and its mask. ValueError names the file."""
    content = read_bytes(folder / record.path)
    opened = open_image(content, name=str(folder / record.path))
    facts, image, mask, mask_sha256 = opened.facts(), opened.rgb(record.bit_depth), None, None
    if record.mask_path:
        mask_path = folder / record.mask_path
        mask_content = read_bytes(mask_path)
        mask, mask_sha256 = open_mask(mask_content, name=str(mask_path)), hashlib.sha256(mask_content).hexdigest()
        check_mask(mask.marked, f"mask {mask_path}", is_good=False, size=image.shape[:2])
    record = replace(
        record,
        sha256=hashlib.sha256(content).hexdigest(),
        width=facts.width,
        height=facts.height,
        mask_sha256=mask_sha256,
        pixels_sha256=facts.pixels_sha256.hex(),
    )
    return Picture(record, image, mask, thumbnail(image))


def _warn_of_pattern(imported: Path, pattern: str) -> None:
    try:
        known = json.loads(imported.read_bytes()).get("group_pattern")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{imported} is damaged (import again, or `dvc checkout`)") from error
    if known and known != pattern:
        logger.warning(
            "the import's groups were '%s', here they are '%s': pictures of one part may train and calibrate, and the "
            "promised false alarms may not hold (set data.group_pattern)",
            *(known, pattern),
        )


def _warn_of_groups(manifest: Manifest, data: DataConfig) -> None:
    groups = {split: {record.group for record in manifest.records(split)} for split in SPLITS}
    shared = groups["test"] & (groups["train"] | groups["validation"] | groups["calibration"])
    if shared:
        logger.warning(
            "%d groups are in train and in test, first %s: test depends on train (import again with --group-pattern)",
            *(len(shared), min(shared)),
        )
    for split, fraction in {"validation": data.validation_fraction, "calibration": data.calibration_fraction}.items():
        if fraction > 0 and not groups[split]:
            logger.warning("no group fell into %s: there are too few (add groups, or change data.group_pattern)", split)


def _warn_of_copies(index: CopyIndex, written: set[str]) -> None:
    tested = [pair for pair in index.copies.items() if pair[0] in written]
    trained = [pair for pair in index.copies.items() if pair[0] not in written]
    for copies, fate in ((trained, "each counts once"), (tested, "each is tested on twice (remove one)")):
        if copies:
            logger.warning("%d pictures are copies, first %s = %s: %s", len(copies), *copies[0], fate)


def _tile_counts(manifest: Manifest, data: DataConfig) -> dict[str, int]:
    """Count the training tiles, of scans; ValueError if none is left."""
    if data.mode != "tile":
        return {}
    counts = {f"num_{split}_tiles": sum(len(each.tiles) for each in manifest.records(split)) for split in LEARNT_SPLITS}
    if not counts["num_train_tiles"]:
        fix = f"lower data.tile_min_contrast, or look at {ROI}"
        raise ValueError(f"no training tile is left: all were rejected as background or ignored ({fix})")
    return counts


def _counts(manifest: Manifest) -> dict[str, Any]:
    counts: dict[str, Any] = {f"num_{split}": len(manifest.records(split)) for split in SPLITS}
    defective = [record for record in manifest.records("test") if record.defect_type != GOOD]
    return {
        "category": manifest.category,
        **counts,
        "num_test_good": counts["num_test"] - len(defective),
        "num_test_defective": len(defective),
        "num_calibration_groups": len({record.group for record in manifest.records("calibration")}),
        "data_hash": manifest.data_hash,
    }
