"""All categories of a pipeline's run side by side: one row each, the failed ones too."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ndpnet.files import write_text
from ndpnet.metrics.summary import HEADLINE
from ndpnet.table import format_rows

COLUMNS = {name: HEADLINE[name] for name in ("image_auroc", "pixel_auroc", "pro_auc", "recall", "false_alarm_rate")}
TEMPLATE = "overview.html.j2"


def row_of(category: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """One category's row from what `evaluate` returned; without it a row that says so."""
    if not summary:
        return {"category": category, "has_failed": True, "values": {}, "note": "failed before it was evaluated"}
    values = {name: summary.get(name) for name in COLUMNS}
    counts = f"{summary['num_good']} good, {summary['num_defective']} defective test images"
    threshold = summary.get("threshold")
    note = f"{counts}. {threshold['statement'] if threshold else 'No threshold.'}"
    return {"category": category, "has_failed": False, "values": values, "note": note}


def complete(rows: Sequence[Mapping[str, Any]], categories: Sequence[str]) -> list[dict[str, Any]]:
    """The rows in the order of the categories; a category without one gets a row that says so."""
    known = {row["category"]: dict(row) for row in rows}
    return [known.get(category) or row_of(category, None) for category in categories]


def means_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of each metric over the categories that have it."""
    by_metric = {name: [row["values"][name]["value"] for row in rows if row["values"].get(name)] for name in COLUMNS}
    return {name: sum(values) / len(values) for name, values in by_metric.items() if values}


def write_overview(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page: one file, readable offline. A row may have `report` and `model`: addresses to link to."""
    from ndpnet.templates import render

    about = {"columns": COLUMNS, "means": means_of(rows), "num_failed": sum(row["has_failed"] for row in rows)}
    write_text(Path(path), render("evaluation", TEMPLATE, rows=rows, **about))


def format_overview(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same as plain text for a terminal, metrics in %."""
    table = [("", *COLUMNS.values(), "")]
    for row in rows:
        values = (row["values"].get(name) for name in COLUMNS)
        cells = ("n/a" if value is None else f"{100 * value['value']:.1f}" for value in values)
        table.append((row["category"], *cells, row["note"] if row["has_failed"] else ""))
    return "\n".join(format_rows(table, are_numbers=True))
