"""The evaluate step: judge the test images of a prepared folder with a model package and write what people read."""

import csv
import io
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ndpnet.config import Params
from ndpnet.data.prepared import PreparedData
from ndpnet.evaluation.cases import CasePictures
from ndpnet.evaluation.charts import write_curves
from ndpnet.evaluation.judging import Judged, check_inputs, judge, verdict_of
from ndpnet.evaluation.report import write_report
from ndpnet.evaluation.smallest import smallest_found
from ndpnet.files import as_cells, hash_of, read_json_lines, write_json, write_text
from ndpnet.folders import atomic_folder
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import ModelPackage
from ndpnet.inference.verdict import word_of
from ndpnet.metrics import exact
from ndpnet.metrics.summary import format_table, headline_of, summarise

logger = logging.getLogger(__name__)

METRICS, PHASES = "metrics.json", ("phase1", "phase2")
LACKS_PERCEPTUAL_LOSS = (
    "The model was trained without a part of its method (the perceptual loss): faint defects may be missed. Ask "
    "for one of the profile line, which needs no such part."
)


def evaluate_package(
    prepared_dir: Path,
    model_dir: Path,
    out_dir: Path,
    params: Params,
    run_identity: dict[str, str],
    *,
    engine: str = "torch",
    precision: str | None = None,
    champion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the metrics, headline.json, curves and predictions as CSV, table.txt, report.html and overlays/.

    champion: `version` and `summary` (its metrics.json), for the report. -> the metrics.
    """
    with atomic_folder(out_dir, marker=METRICS) as folder:  # from the start: nobody else judges into it meanwhile
        prepared = PreparedData.load(prepared_dir)
        inspector = Inspector.load(model_dir, engine=engine, precision=precision)
        package = inspector.opened_package
        package.use_its_threads()
        check_inputs(prepared, package)
        judged = judge(prepared, inspector)
        logger.info("computing figures with their intervals")
        summary = summarise(judged, category=prepared.manifest.category)
        summary["notes"] += _notes(prepared, package, judged)
        summary["model_hash"] = package.model_hash
        tested = prepared.records("test")
        summary["test_images_hash"] = hash_of(sorted([image.sha256, image.mask_sha256 or ""] for image in tested))
        identity = _identity(prepared, package, {"engine": inspector.engine_name} | run_identity)
        logger.info("drawing the report")
        write_json(folder / METRICS, summary)
        write_json(folder / "headline.json", headline_of(summary))
        timing = {"seconds_per_image": judged.seconds_per_image, "machine": run_identity.get("machine", "")}
        write_json(folder / "timing.json", timing)
        write_text(folder / "table.txt", format_table(summary) + "\n")
        _write_predictions(folder / "predictions.csv", judged, inspector)
        beside = compare_with_champion(summary, champion)
        num_cases = params.evaluation.num_cases
        _write_pages(folder, prepared, judged, inspector, summary, identity, beside, num_cases=num_cases)
    return summary


def _write_pages(
    folder: Path,
    prepared: PreparedData,
    judged: Judged,
    inspector: Inspector,
    summary: dict[str, Any],
    identity: dict[str, str],
    champion: dict[str, Any] | None,
    *,
    num_cases: int,
) -> None:
    """Curves, pictures of cases and the report that shows both."""
    package = inspector.opened_package
    files = {phase: package.folder / f"history_{phase}.jsonl" for phase in PHASES}
    histories = {phase: read_json_lines(path) if path.is_file() else [] for phase, path in files.items()}
    pro = None if judged.pixels is None else judged.pixels.pro_curve
    roc = exact.roc_curve(judged.scores, judged.labels)
    curves = {"roc": None if roc is None else exact.thin_curve(*roc), "pro": pro}
    write_curves(folder, curves, histories)
    pictures = CasePictures(folder / "overlays", judged, inspector)
    write_report(
        folder / "report.html",
        summary=summary,
        curves=curves,
        scores=judged.scores,
        labels=judged.labels,
        history=histories,
        panels=pictures.worst(num_cases),
        calibration=pictures.calibration(prepared),
        identity=identity,
        warnings=[LACKS_PERCEPTUAL_LOSS] if package.lacks_perceptual_loss else [],
        faults=(package.config.get("checks") or {}).get("idle", []),
        typical=pictures.typical(num_cases),
        gallery=pictures.gallery(),
        smallest=None if judged.labels.any() else smallest_found(judged, inspector),
        facts=_facts(judged, package, identity),
        champion=champion,
    )


def compare_with_champion(summary: Mapping[str, Any], champion: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the report says of the champion: its version, a sentence, and its metrics if they are of the same images."""
    if champion is None:
        return None
    version, theirs = champion["version"], champion["summary"]
    if all(theirs[key] == summary[key] for key in ("model_hash", "threshold")):
        return {"version": version, "metrics": None, "sentence": f"This model is the champion, version {version}."}
    ask = "To learn whether a difference is more than chance, run ndpnet promote: it judges both anew."
    if theirs.get("test_images_hash") != summary["test_images_hash"]:
        sentence = f"The champion, version {version}, was judged on other test images. {ask}"
        return {"version": version, "metrics": None, "sentence": sentence}
    sentence = f"The champion is the version that was in use when this was written, on the same images. {ask}"
    return {"version": version, "metrics": theirs, "sentence": sentence}


def _write_predictions(path: Path, judged: Judged, inspector: Inspector) -> None:
    """verdict: as `ndpnet inspect` has it, empty without a threshold; outcome: with what is known of the image.

    overlap: whether it is flagged, and what exceeds the threshold meets the defect; empty without one, its mask or a
    threshold.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "defect_type", "group", "score", "threshold", "verdict", "outcome", "overlap"])
    threshold, review = inspector.threshold, inspector.review_threshold
    shown = "" if threshold is None else repr(threshold)
    peaks = np.full(len(judged.records), np.nan) if judged.peaks is None else judged.peaks
    for record, score, label, peak in zip(judged.records, judged.scores, judged.labels, peaks, strict=True):
        verdict = "" if threshold is None else word_of(score, threshold, review)
        outcome = verdict_of(float(score), bool(label), threshold)
        is_in_place = threshold is not None and score > threshold and peak > threshold
        overlap = "" if threshold is None or np.isnan(peak) else str(bool(is_in_place)).lower()
        about = as_cells({"path": record.path, "defect_type": record.defect_type, "group": record.group})
        writer.writerow([*about.values(), repr(float(score)), shown, verdict, outcome, overlap])
    write_text(path, text.getvalue())


def _notes(prepared: PreparedData, package: ModelPackage, judged: Judged) -> list[str]:
    """What the reader must know of the test set beyond its numbers."""
    seen = {r.group for r in prepared.manifest.files if r.split != "test"}
    num_shared = len({r.group for r in prepared.records("test")} & seen)
    of_model, of_data = package.roi(), prepared.roi()
    # arrays and None compare alike
    is_other_roi = not np.array_equal(np.asarray(of_model), np.asarray(of_data))
    candidates = [
        (num_shared, f"{num_shared} groups of the test set also have training or calibration images: it is not "
        "independent."),
        (judged.num_left_out, f"{judged.num_left_out} defective images have their whole defect where nothing is "
        "inspected: left out."),
        (judged.roi is not None, "Pixels outside the region of interest, or in zones without a factor, do not count."),
        (is_other_roi, "The model's region of interest is not that of the data: the model's counts."),
    ]  # fmt: skip
    return [sentence for applies, sentence in candidates if applies]


def _identity(prepared: PreparedData, package: ModelPackage, run_identity: dict[str, str]) -> dict[str, str]:
    lineage, params = package.config["lineage"], package.config["params"]
    versions = ", ".join(f"{name} {version}" for name, version in lineage["versions"].items())
    return {
        "category": package.config["category"],
        "package hash": package.package_hash,
        "profile": params["profile"],
        "seed": str(params["seed"]),
        "test data hash": prepared.manifest.data_hash,
        "training data hash": lineage["training_data_hash"],
        "training data": "as pinned" if lineage.get("is_data_pinned") else "not pinned",
        "parameters hash": lineage["params_hash"],
        "training code hash": lineage["code_hash"],
        "defect bank hash": lineage["bank_hash"],
        "phase 1 hash": lineage["phase1_hash"],
        "reference image": ", ".join(package.config["references"]),
        "libraries": versions,
        **run_identity,
    }


def _facts(judged: Judged, package: ModelPackage, identity: dict[str, str]) -> dict[str, str]:
    """When, which model, how fast, where: what a reader asks first."""
    per_second = 1 / judged.seconds_per_image
    facts = {
        "tested": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "model": f"{package.config['category']} {identity['package hash'][:12]}, profile {identity['profile']}",
        "speed": f"{1000 * judged.seconds_per_image:.0f} ms per picture ({per_second:.1f} per second)",
    }
    return facts | ({"on": identity["machine"]} if identity.get("machine") else {})
