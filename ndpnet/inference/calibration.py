"""Fitting the decision threshold of a model package from good images that it was not trained on."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet.config import Params
from ndpnet.data.copies import CopyIndex, warn_of_alike
from ndpnet.data.images import read_header
from ndpnet.data.importing.sources.own import flat_name
from ndpnet.data.listing import list_images
from ndpnet.data.manifest import GOOD, FileRecord, Manifest, content_hash
from ndpnet.data.names import refuse_defective
from ndpnet.data.prepared import PreparedData
from ndpnet.data.preparing import read_picture
from ndpnet.data.roi import ROI, read_roi, write_roi
from ndpnet.data.split import group_of
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, check_apart
from ndpnet.inference.engines import ENGINES_DIR
from ndpnet.inference.engines.stored import engine_names, replace_threshold
from ndpnet.inference.identity import copy_package
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.likeness import level_of, measure, surface_of
from ndpnet.inference.package import CONFIG, MANIFEST, REFERENCE, ModelPackage, read_package, write_config
from ndpnet.inference.rules import RULES, load_rules
from ndpnet.metrics.properties import picture_properties
from ndpnet.metrics.threshold import fit_review, fit_threshold, highest_scores, promised_rates

logger = logging.getLogger(__name__)


def calibrate_on_prepared(folder: Path, prepared: PreparedData, params: Params) -> dict[str, Any] | None:
    """Fit the threshold of the package in `folder` on the calibration split. -> its record; None without images."""
    if not prepared.records("calibration"):
        logger.warning("no calibration image: there is no threshold (add groups, or raise data.calibration_fraction)")
        return None
    measured = measure_prepared(Inspector.load(folder), prepared)
    (threshold,) = measured.thresholds(params.evaluation.target_false_alarm_rate)
    return _set_calibration(folder, threshold, measured)


def measure_prepared(inspector: Inspector, prepared: PreparedData) -> "Measured":
    """What an inspector says of the calibration split."""
    measured, images, records = Measured([inspector]), prepared.images("calibration"), prepared.records("calibration")
    for image, record in zip(tqdm(images, "calibrate", disable=None), records, strict=True):
        measured.add(record, image)
    return measured


class Measured:
    """What good pictures look like, one added after the other: to each inspector by its scores, and by themselves."""

    def __init__(self, inspectors: Sequence[Inspector]) -> None:
        self.inspectors, self.records = inspectors, list[FileRecord]()
        self.scores = [list[float]() for _ in inspectors]
        self.properties: dict[str, list[float]] = {}
        self.looks, self.levels = list[dict[str, float]](), list[float]()

    def add(self, record: FileRecord, fitted: np.ndarray) -> None:
        """Count a picture. fitted: as `Inspector.fit` has it."""
        predictions = [inspector.predict(fitted, name=record.path) for inspector in self.inspectors]
        for scores, prediction in zip(self.scores, predictions, strict=True):
            scores.append(prediction.score)
        for name_of_property, value in picture_properties(fitted).items():
            self.properties.setdefault(name_of_property, []).append(value)
        self.records.append(record)
        self.looks.append(measure(fitted, (record.width, record.height)))
        self.levels.append(level_of(predictions[0].anomaly_map))

    def thresholds(self, target_rate: float, review_rate: float | None = None) -> list[dict[str, Any]]:
        """What a package says of each inspector's threshold: the fit, the pictures it hangs on, and the hash of all.

        All scores and properties are in it: what another threshold would promise, and whether a line has changed since,
        is answered where the pictures are not.
        """
        return [self._threshold(np.asarray(scores), target_rate, review_rate) for scores in self.scores]

    def _threshold(self, scores: np.ndarray, target_rate: float, review_rate: float | None) -> dict[str, Any]:
        groups, paths = [record.group for record in self.records], [record.path for record in self.records]
        record = fit_threshold(scores, groups, target_rate=target_rate)
        record |= {"highest": highest_scores(paths, scores, groups, target_rate=target_rate)}
        record |= {"data_hash": content_hash(self.records), "promised_rates": promised_rates(scores, groups)}
        record |= {"calibration": {"scores": scores.tolist(), "groups": groups, "properties": self.properties}}
        if review_rate is not None:
            record |= {"review": fit_review(scores, groups, target_rate=target_rate, review_rate=review_rate)}
        return record


def calibrate(
    model: Path,
    good_images: Path,
    out: Path,
    *,
    group_pattern: str | None = None,
    target_rate: float | None = None,
    roi_path: Path | None = None,
    rules_path: Path | None = None,
    review_rate: float | None = None,
    is_pinned: bool = False,
) -> dict[str, Any]:
    """Copy a package and refit its threshold, and those of its engines, on a folder of good images. -> the record.

    Images that show the same pixels count once. `group_pattern`: what was photographed together, by its file name with
    its folders. `roi_path`: a picture, white where the new package inspects. `rules_path`: zones and the smallest
    defect, as YAML. `review_rate`: share of good images that a person may have to look at. None: as in the package.
    `is_pinned`: these images are pinned; with those of the training the package then is, too.
    ValueError: no images, an unreadable one, one that was trained on, that the pattern finds no group in, or a region
    that does not fit.
    """
    package = read_package(model)
    package.use_its_threads()
    if group_pattern is None:
        group_pattern = package.config["params"]["data"]["group_pattern"]
    rates = _rates(package, target_rate, review_rate)
    check_apart(out, model, good_images)
    roi = _new_roi(roi_path)
    with atomic_folder(out, marker=REFERENCE) as folder:  # from the start: nobody else calibrates into it meanwhile
        copy_package(package.folder, folder)
        if roi is not None:
            write_roi(folder / ROI, roi)
        if rules_path is not None:
            _write_rules(folder, rules_path, good_images)
        write_config(folder, json.loads((folder / CONFIG).read_text()))
        measured = Measured(_every_engine(read_package(folder)))
        for record, fitted in _good_pictures(measured.inspectors[0], good_images, group_pattern):
            measured.add(record, fitted)
        manifest = package.manifest()  # the new pictures take the place of the old ones: they are no test images
        others = [record for record in manifest.files if record.split != "calibration"]
        Manifest(manifest.category, (*others, *measured.records)).save(folder / MANIFEST)
        of_torch, *of_engines = measured.thresholds(*rates)
        for name, of_engine in zip(engine_names(package), of_engines, strict=True):
            replace_threshold(folder / ENGINES_DIR / name, of_engine)
        lineage = package.config["lineage"]
        pinned = {"is_data_pinned": is_pinned and lineage["is_data_pinned"]}
        return _set_calibration(folder, of_torch, measured, lineage=lineage | pinned)


def _rates(package: ModelPackage, target: float | None, review: float | None) -> tuple[float, float | None]:
    """Rates of false alarms and of review; those that are not asked for are the package's."""
    before = package.threshold or {}
    if target is None:
        target = before.get("target_rate", package.config["params"]["evaluation"]["target_false_alarm_rate"])
    return target, before.get("review", {}).get("review_rate") if review is None else review


def _good_pictures(inspector: Inspector, good_images: Path, pattern: str) -> Iterator[tuple[FileRecord, np.ndarray]]:
    """Records and fitted pictures: none was trained on, each one's pixels count once.

    Which images are no independent ones is said at the end.
    """
    root, listing = list_images(good_images)
    paths, manifest, index = listing.checked(), inspector.opened_package.manifest(), CopyIndex()
    refuse_defective(root, paths)
    names = [path.relative_to(root).as_posix() for path in paths]
    groups = [group_of(flat_name(name), pattern) for name in names]  # as an import names them
    for record in manifest.records("train"):
        index.add(record.path, record.known_by, is_test=False)
    kept = []
    for name, group in zip(tqdm(names, "calibrate", disable=None), groups, strict=True):
        picture = read_picture(root, FileRecord(name, group, "calibration", GOOD, manifest.bit_depth))
        is_copy = index.add(name, picture.record.known_by, is_test=True) is not None
        if index.leaks:
            seen = f"{root / name} is one of the model's training images"
            raise ValueError(f"{seen} (calibrate on pictures it has never seen)")
        if not is_copy:
            kept.append((picture.thumbnail, picture.record))
            yield picture.record, inspector.fit(picture.image, name=str(root / name))
    if index.copies:
        first = next(iter(index.copies.items()))
        logger.warning("%d images are copies, first %s = %s: each counts once", len(index.copies), *first)
    warn_of_alike([thumbnail for thumbnail, _ in kept], [record for _, record in kept])


def _write_rules(folder: Path, rules_path: Path, good_images: Path) -> None:
    """Write a person's rules, for pictures of the first one's size; another size is refused later."""
    first = list_images(good_images)[1].checked()[0]
    header = read_header(first, name=str(first))
    rules = load_rules(rules_path, header.width, header.height)
    write_json(folder / RULES, rules.model_dump(mode="json"))


def _every_engine(package: ModelPackage) -> list[Inspector]:
    """Inspectors with torch and with each engine that the package carries."""
    kinds = [("torch", "fp32"), *(name.split("-") for name in engine_names(package))]
    return [Inspector.load(package.folder, engine=engine, precision=precision) for engine, precision in kinds]


def _new_roi(path: Path | None) -> np.ndarray | None:
    if path is not None and not Path(path).is_file():
        raise ValueError(f"no file {path} (check the path of the region of interest)")
    return None if path is None else read_roi(path)


def _set_calibration(folder: Path, threshold: dict[str, Any], measured: Measured, **changes: Any) -> dict[str, Any]:
    config, surface = json.loads((folder / CONFIG).read_text()), surface_of(measured.looks, measured.levels)
    write_config(folder, config | {"surface": surface, "threshold": threshold} | changes)
    return threshold
