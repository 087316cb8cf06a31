"""The evaluate step: judge the test images of a prepared folder with a model package and write what people read."""

import csv
import io
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndpnet.config import Params
from ndpnet.data.manifest import GOOD, FileRecord
from ndpnet.data.prepared import PreparedData
from ndpnet.evaluation import metrics
from ndpnet.evaluation.report import order_cases, verdict_of, write_report
from ndpnet.evaluation.summary import format_table, summarise
from ndpnet.files import atomic_folder, check_output, write_json, write_text
from ndpnet.inference.inspector import Inspector, Prediction
from ndpnet.inference.overlay import encode_png, panel
from ndpnet.inference.package import ModelPackage
from ndpnet.training.loop import history_of

logger = logging.getLogger(__name__)

CURVES = "curves.json"
SCALE_QUANTILE = 0.999  # of all test scores: top of the colour scale


@dataclass(frozen=True)
class Judged:
    """The test images and what the model says of them, row by row."""

    records: list[FileRecord]
    images: np.ndarray  # uint8 (N, S, S, 3)
    masks: np.ndarray | None  # uint8 (N, S, S)
    maps: np.ndarray  # float32 (N, S, S)
    reconstructions: np.ndarray  # uint8 (N, S, S, 3)
    scores: np.ndarray  # float64 (N,)
    labels: np.ndarray  # bool (N,)
    seconds_per_image: float


def evaluate_package(
    prepared_dir: Path, model_dir: Path, out_dir: Path, params: Params, run_identity: dict[str, str]
) -> dict[str, Any]:
    """Write metrics.json, curves.json, predictions.csv, table.txt, report.html and overlays/. -> the metrics."""
    check_output(out_dir, marker=CURVES)
    prepared = PreparedData.load(prepared_dir)
    inspector = Inspector.load(model_dir)
    package = inspector.package
    _check_inputs(prepared, package)
    judged = _judge(prepared, inspector)
    summary = summarise(
        category=prepared.manifest.category,
        records_groups=[record.group for record in judged.records],
        defect_types=[record.defect_type for record in judged.records],
        scores=judged.scores,
        threshold=package.threshold,
        maps=judged.maps,
        masks=judged.masks,
        seed=params.seed,
        num_draws=params.evaluation.num_bootstrap,
    )
    summary["notes"] += _notes(prepared)
    with atomic_folder(out_dir, marker=CURVES) as folder:
        write_json(folder / "metrics.json", summary)
        write_json(folder / "timing.json", {"seconds_per_image": judged.seconds_per_image})
        write_text(folder / "table.txt", format_table(summary) + "\n")
        _write_predictions(folder / "predictions.csv", judged, inspector.threshold)
        curves = _curves(judged)
        write_json(folder / CURVES, {name: _as_lists(curve) for name, curve in curves.items()})
        panels = _write_cases(folder / "overlays", judged, inspector.threshold, params.evaluation.num_cases)
        write_report(
            folder / "report.html",
            summary=summary,
            curves=curves,
            scores=judged.scores,
            labels=judged.labels,
            threshold=package.threshold,
            history=_histories(package),
            panels=panels,
            identity=_identity(prepared, package, run_identity),
            warnings=_warnings(package),
        )
    return summary


def _check_inputs(prepared: PreparedData, package: ModelPackage) -> None:
    """Refuse data of another size, without test images, or with a test image that the model was trained on."""
    if prepared.image_size != package.image_size:
        raise ValueError(
            f"{prepared.folder} is prepared at {prepared.image_size} px, the model takes {package.image_size} "
            f"(run `ndpnet prepare -P data.image_size={package.image_size}`)"
        )
    if not prepared.records("test"):
        raise ValueError(f"no test images in {prepared.folder} (add test/good and test/<defect type>, prepare again)")
    trained = {record.sha256: record.path for record in package.manifest().files}
    for record in prepared.records("test"):
        if record.sha256 in trained:
            raise ValueError(
                f"{record.path} is a test image, but the model has seen it as {trained[record.sha256]} (remove one)"
            )


def _judge(prepared: PreparedData, inspector: Inspector) -> Judged:
    images, records = prepared.images("test"), prepared.records("test")
    predictions: list[Prediction] = []
    started = time.monotonic()
    for image in tqdm(images, "evaluate", disable=None):
        predictions.append(inspector.predict(image))
    seconds = time.monotonic() - started
    return Judged(
        records=records,
        images=images,
        masks=prepared.masks(),
        maps=np.stack([prediction.anomaly_map for prediction in predictions]),
        reconstructions=np.stack([prediction.reconstruction for prediction in predictions]),
        scores=np.array([prediction.score for prediction in predictions]),
        labels=np.array([record.defect_type != GOOD for record in records]),
        seconds_per_image=seconds / len(images),
    )


def _curves(judged: Judged) -> dict[str, Any]:
    pro = metrics.pro_curve(judged.maps, judged.masks) if judged.masks is not None else None
    return {"roc": metrics.roc_curve_points(judged.scores, judged.labels), "pro": pro}


def _as_lists(curve: Any) -> Any:
    return None if curve is None else {"x": np.asarray(curve[0]).tolist(), "y": np.asarray(curve[1]).tolist()}


def _write_predictions(path: Path, judged: Judged, threshold: float | None) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "defect_type", "group", "score", "threshold", "verdict"])
    for record, score, label in zip(judged.records, judged.scores, judged.labels, strict=True):
        verdict = verdict_of(float(score), bool(label), threshold)
        shown = "" if threshold is None else repr(threshold)
        writer.writerow([record.path, record.defect_type, record.group, repr(float(score)), shown, verdict])
    write_text(path, text.getvalue())


def _write_cases(folder: Path, judged: Judged, threshold: float | None, limit: int) -> list[dict[str, Any]]:
    """One panel per case under overlays/, worst first. -> what the report shows of them."""
    folder.mkdir()
    top = float(np.quantile(judged.scores, SCALE_QUANTILE))
    panels = []
    for rank, index in enumerate(order_cases(judged.scores, judged.labels, threshold, limit)):
        record, score = judged.records[index], float(judged.scores[index])
        verdict = verdict_of(score, bool(judged.labels[index]), threshold)
        picture = panel(
            np.asarray(judged.images[index]),
            judged.reconstructions[index],
            judged.maps[index],
            threshold=threshold,
            vmax=top if top > 0 else 1.0,
            truth=None if judged.masks is None else judged.masks[index],
            caption=f"{record.path}: {verdict}, score {score:.3f}",
        )
        png = encode_png(picture)
        (folder / f"{rank:03d}_{verdict.replace(' ', '-')}_{Path(record.path).stem}.png").write_bytes(png)
        panels.append({"title": record.path, "score": score, "verdict": verdict, "png": png})
    return panels


def _histories(package: ModelPackage) -> dict[str, list[dict[str, float]]]:
    paths = {phase: package.folder / f"history_{phase}.jsonl" for phase in ("phase1", "phase2")}
    return {phase: history_of(path) if path.is_file() else [] for phase, path in paths.items()}


def _notes(prepared: PreparedData) -> list[str]:
    """What the reader must know of the test set beyond its numbers."""
    seen = {r.group for r in prepared.manifest.files if r.split != "test"}
    shared = {r.group for r in prepared.records("test")} & seen
    if not shared:
        return []
    return [f"{len(shared)} groups of the test set also have training or calibration images: it is not independent."]


def _identity(prepared: PreparedData, package: ModelPackage, run_identity: dict[str, str]) -> dict[str, str]:
    lineage, params = package.config["lineage"], package.config["params"]
    versions = ", ".join(f"{name} {version}" for name, version in lineage["versions"].items())
    return {
        "category": package.config["category"],
        "profile": params["profile"],
        "seed": str(params["seed"]),
        "test data hash": prepared.manifest.data_hash,
        "training data hash": lineage["training_data_hash"],
        "parameters hash": lineage["params_hash"],
        "training code hash": lineage["code_hash"],
        "defect bank hash": lineage["bank_hash"],
        "phase 1 hash": lineage["phase1_hash"],
        "reference image": ", ".join(package.config["references"]),
        "libraries": versions,
        **run_identity,
    }


def _warnings(package: ModelPackage) -> list[str]:
    if package.config["params"]["losses"]["perceptual_weights"] != "none":
        return []
    return ["No perceptual loss: trained with losses.perceptual_weights none; the paper's method has one."]
