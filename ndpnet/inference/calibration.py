"""Fitting the decision threshold of a model package from good images that it was not trained on."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet.config import Params
from ndpnet.data.images import read_image
from ndpnet.data.manifest import GOOD, FileRecord, Manifest, content_hash
from ndpnet.data.prepared import PreparedData
from ndpnet.data.roi import ROI, check_roi_fits, read_roi, write_roi
from ndpnet.data.split import group_of
from ndpnet.evaluation.threshold import fit_threshold, highest_scores
from ndpnet.files import atomic_folder, check_output, sha256_of
from ndpnet.inference.engines import ENGINES_DIR
from ndpnet.inference.engines.stored import engine_names, replace_threshold
from ndpnet.inference.folder import list_images
from ndpnet.inference.identity import copy_package
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import CONFIG, MANIFEST, REFERENCE, ModelPackage, read_package, write_config

NO_MASK = {"mask_path": None, "mask_sha256": None}

logger = logging.getLogger(__name__)


def calibrate_on_prepared(folder: Path, prepared: PreparedData, params: Params) -> dict[str, Any] | None:
    """Fit the threshold of the package in `folder` on the calibration split. -> its record; None without images."""
    records = prepared.records("calibration")
    if not records:
        logger.warning("no calibration image: the model gets no threshold (raise data.calibration_fraction)")
        return None
    inspector = Inspector.load(folder)
    images = prepared.images("calibration")
    scores = [
        inspector.predict(image, name=record.path).score
        for image, record in zip(tqdm(images, "calibrate", disable=None), records, strict=True)
    ]
    return _set_threshold(folder, scores, records, params.evaluation.target_false_alarm_rate)


def calibrate(
    model: Path,
    good_images: Path,
    out: Path,
    *,
    group_pattern: str | None = None,
    target_rate: float | None = None,
    roi_path: Path | None = None,
) -> dict[str, Any]:
    """Copy a package and refit its threshold, and those of its engines, on a folder of good images. -> the record.

    `group_pattern`: what was photographed together, by its file name; None: as in the package. `roi_path`: a picture,
    white where the new package inspects. ValueError: no images, an unreadable one, one that the model was trained on,
    that the pattern finds no group in, or that the region does not fit.
    """
    package = read_package(model)
    if group_pattern is None:
        group_pattern = package.config["params"]["data"]["group_pattern"]
    if target_rate is None:
        target_rate = package.config["params"]["evaluation"]["target_false_alarm_rate"]
    check_output(out, marker=REFERENCE)
    root, paths = list_images(good_images)
    hashes = [sha256_of(path) for path in paths]
    _refuse_training_images(package, paths, hashes)
    names = [path.relative_to(root).as_posix() for path in paths]
    groups = [group_of(name, group_pattern) for name in names]
    records = []
    roi = _new_roi(roi_path)
    inspectors = _every_engine(package, roi)
    inspector, scores = next(iter(inspectors.values())), {name: [] for name in inspectors}
    for index, path in enumerate(tqdm(paths, "calibrate", disable=None)):
        pixels = read_image(path)
        height, width = pixels.shape[:2]
        size = {"width": width, "height": height}
        records.append(FileRecord(names[index], hashes[index], groups[index], "calibration", GOOD, **size, **NO_MASK))
        if roi is not None:
            mode = "resize" if inspector.tiling is None else "tile"
            check_roi_fits(roi, width, height, mode=mode, name=str(path))
        fitted = inspector.fit(pixels, name=str(path))
        for name, each in inspectors.items():
            scores[name].append(each.predict(fitted, name=str(path)).score)
    with atomic_folder(out, marker=REFERENCE) as folder:
        copy_package(package.folder, folder)
        if roi is not None:
            write_roi(folder / ROI, roi)
        _replace_calibration(folder, package, records)
        for name in engine_names(package):
            replace_threshold(folder / ENGINES_DIR / name, threshold_record(scores[name], records, target_rate))
        return _set_threshold(folder, scores[inspector.engine_name], records, target_rate)


def _every_engine(package: ModelPackage, roi: np.ndarray | None) -> dict[str, Inspector]:
    """Inspectors with torch and with each engine that the package carries, by name, torch first."""
    wished = [("torch", None), *(name.split("-") for name in engine_names(package))]
    opened = [Inspector.load(package.folder, roi=roi, engine=engine, precision=at) for engine, at in wished]
    return {inspector.engine_name: inspector for inspector in opened}


def _replace_calibration(folder: Path, package: ModelPackage, records: list[FileRecord]) -> None:
    """Record the new calibration pictures in place of the old ones: they are no test images, and nothing pins them."""
    manifest = package.manifest()
    kept = [record for record in manifest.files if record.split != "calibration"]
    Manifest(manifest.category, (*kept, *records)).save(folder / MANIFEST)
    config = json.loads((folder / CONFIG).read_text())
    write_config(folder, config | {"lineage": config["lineage"] | {"is_data_pinned": False}})


def _new_roi(path: Path | None) -> np.ndarray | None:
    if path is not None and not Path(path).is_file():
        raise ValueError(f"no file {path} (check the path of the region of interest)")
    return None if path is None else read_roi(path)


def _refuse_training_images(package: ModelPackage, paths: Sequence[Path], hashes: Sequence[str]) -> None:
    trained = {record.sha256 for record in package.manifest().files if record.split == "train"}
    for path, sha256 in zip(paths, hashes, strict=True):
        if sha256 in trained:
            raise ValueError(f"{path} is one of the model's training images (calibrate on pictures it has never seen)")


def _set_threshold(
    folder: Path, scores: Sequence[float], records: Sequence[FileRecord], target_rate: float
) -> dict[str, Any]:
    threshold = threshold_record(scores, records, target_rate)
    config = json.loads((folder / CONFIG).read_text())
    write_config(folder, config | {"threshold": threshold})
    return threshold


def threshold_record(scores: Sequence[float], records: Sequence[FileRecord], target_rate: float) -> dict[str, Any]:
    """What a package says of its threshold: the fit, the pictures it hangs on, and the hash of all. scores: (N,)."""
    scores, groups = np.asarray(scores), [record.group for record in records]
    paths = [record.path for record in records]
    fitted = fit_threshold(scores, groups, target_rate=target_rate)
    highest = highest_scores(paths, scores, groups, target_rate=target_rate)
    return fitted | {"highest": highest, "data_hash": content_hash(records)}
