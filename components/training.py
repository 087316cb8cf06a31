"""The components of the training: a step of the library each, run in a pod."""

from typing import List, NamedTuple  # noqa: UP035 - KFP 2.17 reads typing's generics

from kfp.dsl import (
    HTML,
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    Metrics,
    Model,
    Output,
    OutputPath,
    PipelineTaskFinalStatus,
)

from ndpnet.components.base import component


@component
def version_data(version: Output[Dataset], where: str) -> NamedTuple("Resolved", [("source", str), ("data_hash", str)]):
    """Resolve where the data are, as JSON, to what means the same for ever: `source`."""
    from typing import NamedTuple

    from ndpnet import steps
    from ndpnet.data.versions.version import DataSource

    resolved = steps.resolve_version(version.path, DataSource.from_json(where))
    return NamedTuple("Resolved", [("source", str), ("data_hash", str)])(resolved["source"], resolved["version"])


@component
def choose_categories(version: Input[Dataset], categories: List[str], only_new_data: bool) -> List[str]:  # noqa: UP006
    """Those asked for, else all there are; with `only_new_data` those whose pictures their champion does not know."""
    from ndpnet import steps

    return steps.choose_categories(version.path, categories, only_new_data=only_new_data)


@component
def synthesize(bank: Output[Dataset], params: str) -> int:
    """Make masks and natural-image sources. -> masks"""
    from ndpnet import steps

    return steps.synthesize(bank.path, params)["num_masks"]


@component
def prepare(prepared: Output[Dataset], source: str, category: str, params: str) -> int:
    """Fetch a category of a resolved version, verify it and decode it. -> images to train on"""
    from ndpnet import steps

    return steps.prepare_version(source, category, prepared.path, params)["num_train"]


@component
def train_phase1(
    prepared: Input[Dataset], bank: Input[Dataset], phase1: Output[Model], params: str, work_dir: str
) -> float:
    """Train encoder and decoder (Eq. 12-14), from the last checkpoint in `work_dir` on. -> last loss"""
    from ndpnet import steps

    return steps.train_phase1(prepared.path, bank.path, phase1.path, params, work_dir)["loss"]


@component
def train_phase2(
    prepared: Input[Dataset],
    bank: Input[Dataset],
    phase1: Input[Model],
    model: Output[Model],
    params: str,
    work_dir: str,
) -> float:
    """Train the rest (Eq. 15-17), fit the threshold, write the package; from the last checkpoint on. -> last loss"""
    from ndpnet import steps

    return steps.train_phase2(prepared.path, bank.path, phase1.path, model.path, params, work_dir)["loss"]


@component
def evaluate(
    prepared: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    report: Output[HTML],
    summary: OutputPath(str),
    params: str,
) -> bool:
    """Judge the test images; summary: its row of the overview. -> whether they pass the floors: worth registering"""
    from ndpnet import steps
    from ndpnet.components.outputs import show_evaluation
    from ndpnet.config_platform import promotion_of
    from ndpnet.promotion.gate import passes_floors

    judged = steps.evaluate(prepared.path, model.path, evaluation.path, params)
    show_evaluation(evaluation.path, model.path, judged, metrics, roc, report, summary)
    return passes_floors(judged, promotion_of(params))


@component
def category_row(category: str = "", summary: str = "") -> str:
    """A row of the report from what `evaluate` gave, or one that says that it did not come so far."""
    import json

    from ndpnet.evaluation.overview import row_of

    return summary or json.dumps(row_of(category, None), sort_keys=True)


@component
def register(
    model: Input[Model],
    evaluation: Input[Artifact],
    prepared: Input[Dataset],
    version: Input[Dataset],
    registered: Output[Artifact],
) -> NamedTuple("Registered", [("name", str), ("number", int)]):
    """Register a package with its evidence and card, once."""
    from pathlib import Path
    from typing import NamedTuple

    from ndpnet import steps

    import_report = Path(prepared.path) / "import.json"
    about = {"import_report": import_report, "resolved": version.path}
    record = steps.register(model.path, evaluation.path, registered.path, **about)
    return NamedTuple("Registered", [("name", str), ("number", int)])(record["name"], int(record["version"]))


@component
def promote(prepared: Input[Dataset], promotion: Output[Artifact], name: str, version: int, params: str) -> str:
    """Judge a version against the champion on the same test images; the champion moves if it passes. -> decision"""
    from pathlib import Path

    from ndpnet import steps

    asked = {"version": version, "prepared": Path(prepared.path)}
    return steps.promote(name, Path(promotion.path), params, **asked)["decision"]


@component
def report(
    page: Output[HTML],
    categories: List[str] = [],  # noqa: UP006, B006 - a task that ignores failures before it needs defaults
    rows: List[str] = [],  # noqa: UP006, B006
) -> int:
    """A table of all categories, the failed ones too. -> how many failed"""
    import json
    from pathlib import Path

    from ndpnet.evaluation import overview

    every = overview.complete([json.loads(row) for row in rows], categories)
    overview.write_overview(Path(page.path), every)
    return sum(row["has_failed"] for row in every)


@component
def report_outcome(status: PipelineTaskFinalStatus) -> str:
    """Note how the run ended, and why, in MLflow; tell the webhook, if one is set up. -> its state"""
    from ndpnet.tracking.outcome import tell

    return tell(status.state, status.pipeline_job_resource_name, status.error_message or "")
