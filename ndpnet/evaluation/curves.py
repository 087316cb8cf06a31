"""The report's curves as tables, one CSV each, which a spreadsheet reads and `dvc plots` draws."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ndpnet.evaluation.charts import Curve, History, loss_series, smooth, thin
from ndpnet.files import write_text

AXES = {"roc": ("fpr", "tpr"), "pro": ("fpr", "overlap")}


def write_curves(folder: Path, curves: Mapping[str, Curve | None], histories: Mapping[str, History]) -> None:
    """Write roc.csv, pro.csv and loss_PHASE.csv for every history, the losses as smooth as the report draws them.

    A curve that is not available is a table without rows: the files are always the same ones.
    """
    for name, axes in AXES.items():
        curve = curves[name]
        points = [] if curve is None else zip(*(axis.tolist() for axis in curve), strict=True)
        _write_table(folder / f"{name}.csv", axes, [dict(zip(axes, point, strict=True)) for point in points])
    for phase, history in histories.items():
        terms, rows = _loss_rows(history)
        _write_table(folder / f"loss_{phase}.csv", ("step", *terms), rows)


def _loss_rows(history: History) -> tuple[list[str], list[dict[str, float]]]:
    losses, _ = loss_series(history)
    by_step: dict[float, dict[str, float]] = {}
    for term, (steps, values) in losses.items():
        kept_steps, kept_values = thin((steps, smooth(values)))
        for step, value in zip(kept_steps.tolist(), kept_values.tolist(), strict=True):
            by_step.setdefault(step, {"step": int(step)})[term] = value
    return list(losses) or ["loss"], [by_step[step] for step in sorted(by_step)]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
