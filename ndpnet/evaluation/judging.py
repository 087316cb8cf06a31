"""Test images with what a model says of them, and which of them are worth a look."""

import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ndpnet.data.fitting import FILL_TOLERANCE
from ndpnet.data.manifest import GOOD, FileRecord
from ndpnet.data.prepared import PreparedData
from ndpnet.data.roi import check_roi_fits
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import ModelPackage
from ndpnet.metrics import exact
from ndpnet.metrics.streaming import PixelTally
from ndpnet.metrics.summary import ScoredImages

VERDICTS = ("missed", "false alarm", "found", "passed", "defective", "good")  # the first to look at first
MAX_EXACT_PIXELS = 1 << 27  # of all test images, 2,048 of 256 px: exact pixel metrics take 14 s and 2 GiB of memory


@dataclass(frozen=True, kw_only=True)
class Judged(ScoredImages):
    """The test images and what the model says of them, row by row. Masks are there to draw beside a tally, too."""

    records: list[FileRecord]
    images: list[np.ndarray]  # N times uint8 (H, W, 3)
    num_left_out: int  # further test images, whose whole defect lies where nothing is inspected
    seconds_per_image: float


def check_inputs(prepared: PreparedData, package: ModelPackage) -> None:
    """Refuse data of another size, without test images, or with a test image that the model was trained on."""
    made, expected = prepared.settings, package.config["params"]["data"]
    for name in ("image_size", "mode", "scale") if package.tiling is not None else ("image_size", "mode"):
        if made[name] != expected[name]:
            raise ValueError(
                f"{prepared.folder} is prepared with data.{name} {made[name]}, the model takes {expected[name]} "
                f"(run `ndpnet prepare -P data.{name}={expected[name]}`)"
            )
    same_ratio = abs(prepared.aspect_ratio / package.aspect_ratio - 1) <= FILL_TOLERANCE
    if package.tiling is None and (prepared.input_size != package.input_size or not same_ratio):
        sizes = [f"{width}x{height}" for height, width in (prepared.input_size, package.input_size)]
        raise ValueError(
            f"{prepared.folder} is prepared at {sizes[0]} px for an aspect ratio of {prepared.aspect_ratio:.3g}, the "
            f"model takes {sizes[1]} and {package.aspect_ratio:.3g} (prepare pictures as the model was trained on)"
        )
    if not prepared.records("test"):
        raise ValueError(f"no test images in {prepared.folder} (add test/good and test/<defect type>, prepare again)")
    rules, roi = package.rules(), package.roi()
    for record in prepared.records("test"):
        if rules is not None:
            rules.check_size(record.width, record.height, name=record.path)
        if roi is not None:
            check_roi_fits(roi, record.width, record.height, mode=expected["mode"], name=record.path)
    trained = {digest: record.path for record in package.manifest().files for digest in record.known_by}
    for record in prepared.records("test"):
        for digest in record.known_by & trained.keys():
            raise ValueError(
                f"{record.path} is a test image, but the model has seen it as {trained[digest]} (remove one)"
            )


def judge(prepared: PreparedData, inspector: Inspector, *, max_exact_pixels: int = MAX_EXACT_PIXELS) -> Judged:
    """What the model says of every test image. With more pixels than `max_exact_pixels` no maps are kept."""
    all_masks, roi = prepared.masks(), inspector.inspected
    is_counted = _is_counted(prepared.records("test"), all_masks, roi)
    records = [record for record, counts in zip(prepared.records("test"), is_counted, strict=True) if counts]
    images = exact.take_planes(prepared.images("test"), is_counted)
    masks = None if all_masks is None else exact.take_planes(all_masks, is_counted)
    keeps_maps = sum(image.shape[0] * image.shape[1] for image in images) <= max_exact_pixels
    tally = None if keeps_maps or masks is None else PixelTally(roi)
    maps: list[np.ndarray] = []
    scores = np.empty(len(records))
    started = time.monotonic()
    for row, record in enumerate(tqdm(records, "evaluate", disable=None)):
        prediction = inspector.predict(images[row], name=record.path)
        scores[row] = prediction.score
        if keeps_maps:
            maps.append(prediction.anomaly_map)
        elif tally is not None and masks is not None:
            is_good = record.defect_type == GOOD
            tally.add(prediction.anomaly_map, masks[row], record.defect_type, is_good=is_good)
    seconds = time.monotonic() - started
    return Judged(
        groups=np.array([record.group for record in records]),
        types=np.array([record.defect_type for record in records]),
        scores=scores,
        threshold_record=inspector.threshold_record,
        maps=maps if keeps_maps else None,
        masks=masks,
        roi=roi,
        tally=tally,
        records=records,
        images=images,
        num_left_out=int((~is_counted).sum()),
        seconds_per_image=seconds / len(records),
    )


def _is_counted(records: list[FileRecord], masks: exact.Planes | None, roi: np.ndarray | None) -> np.ndarray:
    """Which test images are judged: not those whose whole defect is ignored. -> bool (N,). ValueError: none is left."""
    is_counted = np.ones(len(records), dtype=bool)
    if masks is not None and roi is not None:
        is_counted[:] = [
            record.defect_type == GOOD or bool((np.asarray(mask, dtype=bool) & roi).any())
            for record, mask in zip(records, masks, strict=True)
        ]
    if not is_counted.any():
        raise ValueError("every defect of the test images lies where nothing is inspected (look at region and zones)")
    return is_counted


def verdict_of(score: float, is_defective: bool, threshold: float | None) -> str:
    """Name a case: missed, false alarm, found or passed; without a threshold: defective or good."""
    if threshold is None:
        return "defective" if is_defective else "good"
    if score > threshold:
        return "found" if is_defective else "false alarm"
    return "missed" if is_defective else "passed"


def order_cases(scores: np.ndarray, labels: np.ndarray, threshold: float | None, limit: int) -> list[int]:
    """Indices worth showing: misses (lowest score first), false alarms (highest first), then the closest correct ones.

    scores: (N,), labels: bool (N,). Some of each kind, as far as `limit` allows; without a threshold, defective
    images from the lowest score up, then good ones from the highest down.
    """
    kinds: dict[str, list[int]] = {kind: [] for kind in VERDICTS}
    # the most wrong of each kind first: defective images by rising score, good ones by falling score
    for index in sorted(range(len(scores)), key=lambda row: (scores[row] if labels[row] else -scores[row], row)):
        kinds[verdict_of(scores[index], labels[index], threshold)].append(index)
    present = [kind for kind in kinds.values() if kind]
    share = max(1, limit // 6) if threshold is not None else limit // 2
    reserved = {index for kind in present for index in kind[:share]}
    correct = sorted(kinds["found"] + kinds["passed"], key=lambda index: abs(scores[index] - threshold))
    ordered = kinds["missed"] + kinds["false alarm"] + correct + kinds["defective"] + kinds["good"]
    chosen = set(sorted(ordered, key=lambda index: index not in reserved)[:limit])
    return [index for index in ordered if index in chosen]
