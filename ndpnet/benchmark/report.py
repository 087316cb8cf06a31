"""One page for a suite: its tables, figures, failures and what was run; the same tables as Markdown and JSON."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ndpnet.benchmark.tables import Measured, Table, make_tables
from ndpnet.benchmark.tasks import Cell, Plan
from ndpnet.files import write_json, write_text

TEMPLATE = "report.html.j2"


def write_report(
    plan: Plan,
    out: Path,
    failed: Mapping[str, str],
    *,
    figures: Mapping[str, bytes] | None = None,
    setup: Mapping[str, str],
) -> list[Table]:
    """Write report.html, report.md and results.json under `out`; figures: title -> PNG. -> the tables."""
    measured = [_measured(cell, plan, out) for cell in plan.cells]
    tables = make_tables(plan.suite, measured)
    reasons = sorted(set(failed.values()))
    heading = f"Benchmark: {plan.suite.name}"
    write_json(out / "results.json", [asdict(each) for each in measured])
    setup_lines = [f"- {name}: {value}" for name, value in setup.items()]
    parts = [f"# {heading}", "", *setup_lines, "", *(f"- FAILED: {reason}" for reason in reasons)]
    write_text(out / "report.md", "\n".join([*parts, *(table.to_markdown() for table in tables)]))
    content = {"heading": heading, "tables": tables, "reasons": reasons, "figures": figures or {}, "setup": setup}
    _write_page(out / "report.html", **content)
    return tables


def _write_page(path: Path, *, figures: Mapping[str, bytes], **content: Any) -> None:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("ndpnet", "benchmark"), autoescape=True, trim_blocks=True)
    pictures = {title: base64.b64encode(png).decode() for title, png in figures.items()}
    write_text(path, environment.get_template(TEMPLATE).render(figures=pictures, **content))


def _measured(cell: Cell, plan: Plan, out: Path) -> Measured:
    """What a cell's finished tasks returned."""

    def metrics(key: str | None) -> dict[str, Any] | None:
        return plan.tasks[key].metrics(out) if key else None

    trainings = [metrics(key) for key in cell.trainings]
    seconds = None if None in trainings else sum(each["seconds"] for each in trainings)
    if any(each and each.get("is_untrained") for each in trainings):
        cell = replace(cell, method=f"{cell.method} [backbone untrained]")
    return Measured(cell, metrics(cell.score), seconds, metrics(cell.timing))


def summarise_setup(params: Any, devices: Sequence[str]) -> dict[str, str]:
    """What was run, for the head of the report."""
    import platform

    from ndpnet import __version__
    from ndpnet.lineage import code_hash, library_versions

    phases = {name: getattr(params.train, name).epochs for name in ("phase1", "phase2")}
    libraries = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return {
        "profile": params.profile,
        "image size": f"{params.data.image_size} px, training crops of {params.synthesis.patch_size} px",
        "base width": str(params.model.base_width),
        "training": f"{phases['phase1']:g} + {phases['phase2']:g} epochs, batches of {params.train.batch_size}; "
        "the last weights are judged, no epoch is chosen",
        "perceptual loss": params.losses.perceptual_weights,
        "machine": f"{platform.machine()}, devices: {', '.join(devices)}",
        "ndpnet": f"{__version__}, training code {code_hash()[:12]}; {libraries}",
    }
