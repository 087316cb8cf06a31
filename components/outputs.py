"""What KFP's pages show of a step's result; runs in the pods. The one place that knows KFP's artifact classes."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from kfp.dsl import HTML, ClassificationMetrics, Metrics

MAX_POINTS = 200  # of a ROC curve in the artifact's metadata


def show_evaluation(
    evaluation_dir: str,
    model_dir: str,
    judged: dict[str, Any],
    metrics: Metrics,
    roc: ClassificationMetrics,
    report: HTML,
    summary: str,
) -> None:
    """Metrics, ROC curve and report of an evaluation as KFP's artifacts; the category's row in the file `summary`.

    The row says where report and model lie: taken from KFP's cache they lie among the outputs of an earlier run.
    """
    from ndpnet.evaluation.overview import row_of

    for name, value in judged.items():
        if isinstance(value, dict) and isinstance(value.get("value"), float):
            metrics.log_metric(name, value["value"])
    _show_roc(Path(evaluation_dir) / "predictions.csv", roc)
    counts = judged.get("confusion")
    if counts:
        matrix = [[counts["true_negative"], counts["false_positive"]]]
        matrix.append([counts["false_negative"], counts["true_positive"]])
        roc.log_confusion_matrix(["good", "defective"], matrix)
    for shown in (metrics, roc):  # KFP's local cache takes no task of which an output has no file
        Path(shown.path).touch()
    report_path = Path(evaluation_dir) / "report.html"
    shutil.copyfile(report_path, report.path)
    row = row_of(judged["category"], judged) | {"places": {"report": str(report_path), "model": model_dir}}
    Path(summary).write_text(json.dumps(row, sort_keys=True), encoding="utf-8")


def _show_roc(predictions: Path, roc: ClassificationMetrics) -> None:
    from sklearn.metrics import roc_curve

    with predictions.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    labels = [row["defect_type"] != "good" for row in rows]
    if len(set(labels)) < 2:
        return  # no curve without both classes
    false_alarms, recall, thresholds = roc_curve(labels, [float(row["score"]) for row in rows])
    chosen = sorted({*range(0, len(recall), 1 + len(recall) // MAX_POINTS), len(recall) - 1})
    points = [[float(values[index]) for index in chosen] for values in (false_alarms, recall, thresholds)]
    # the curve's first point calls nothing defective: scikit-learn says infinity, which JSON cannot; scores end at 1
    roc.log_roc_curve(points[0], points[1], [min(threshold, 1.0) for threshold in points[2]])
