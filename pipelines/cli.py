"""The verbs of `ndpnet pipeline`: compile, run and inspect; those for a cluster are in cli_cluster.py."""

from pathlib import Path
from typing import Any

import click

from ndpnet.cli_base import WORK_DIR, FolderPath, end_by_verdicts, with_params
from ndpnet.pipelines.cli_cluster import follow_command, schedule, submit

OUT_DIR = Path("build/kfp")  # of KFP's local engine: outputs and cache
MAX_NAMED = 20  # unreadable pictures; the summary names all
LOCAL = click.option("--local", is_flag=True, expose_value=False, help="Changes nothing: it always runs here.")


@click.group("pipeline")
def pipeline_group() -> None:
    """Compile the pipeline for Kubeflow, run it here, or submit and schedule it on a cluster."""


for cluster_command in (submit, follow_command, schedule):
    pipeline_group.add_command(cluster_command)


@pipeline_group.command("compile")
@click.option("--out", type=FolderPath, default=Path("build/pipelines"), show_default=True, help="Folder to write to.")
@with_params
def compile_command(out: Path, params: Any) -> None:
    """Write the pipelines as Kubeflow takes them. Same settings, same bytes."""
    from ndpnet.pipelines.compile import PIPELINES, compile_pipeline

    for name in PIPELINES:
        click.echo(str(compile_pipeline(name, params, out)))


@pipeline_group.command("run")
@LOCAL
@click.option("--data", type=FolderPath, default=Path("data"), show_default=True, help="Pinned data folder.")
@click.option("--category", "categories", multiple=True, help="Which of its categories; `categories` if left out.")
@click.option("--out", type=FolderPath, default=OUT_DIR, show_default=True, help="Folder to write to.")
@WORK_DIR
@click.option(
    "--containers",
    "in_containers",
    is_flag=True,
    help="A container per task, of `cluster.image`, else of HEAD's image.",
)
@with_params
def run_command(data: Path, categories: tuple[str, ...], out: Path, params: Any, **how: Any) -> None:
    """Run the whole pipeline on this machine, by KFP's local engine.

    Killed, the same command goes on where it was.
    """
    from ndpnet.data.versions.version import DataSource
    from ndpnet.pipelines.local import run_locally

    chosen = list(categories or params.categories)
    _echo_run(**run_locally(params, DataSource(folder=str(data)), out, categories=chosen, **how))


@pipeline_group.command("inspect")
@click.argument("prefix", metavar="S3_PREFIX")
@LOCAL
@click.option("--model", required=True, help="ndpnet-NAME, its champion, or ndpnet-NAME@ALIAS, ndpnet-NAME@VERSION.")
@click.option("--out", required=True, metavar="S3_PREFIX", help="Where predictions, overlays and summary go.")
@click.option("--shards", "num_shards", default=1, show_default=True, help="How many parts; on a cluster a pod each.")
@click.option("--overlays/--no-overlays", "has_overlays", default=True, show_default=True, help="A picture per image.")
@with_params
def inspect_command(params: Any, **asked: Any) -> None:
    """Inspect the pictures below S3_PREFIX by a registered model, on this machine.

    Exit code 0: all good, 3: some defective, 4: none defective and some for a person to look at, 1: an error or an
    unreadable picture. Killed, the same command does the shards that are missing.
    """
    from ndpnet.batch.plan import InspectionRequest
    from ndpnet.pipelines.local import inspect_locally

    _echo_inspection(inspect_locally(params, InspectionRequest(**asked), OUT_DIR), asked["out"])


def _echo_inspection(summary: dict[str, Any], out: str) -> None:
    model, num_review = summary["model"], summary["num_review"]
    for_review = f"{num_review} for review, " if num_review else ""
    click.echo(
        f"\n{summary['num_good']} good, {summary['num_defective']} defective, {for_review}"
        f"{summary['num_failed']} unreadable ({model['name']} version {model['version']}, threshold "
        f"{model['threshold']:.4f}); results in {out}"
    )
    for failure in summary["failed"][:MAX_NAMED]:
        click.echo(failure["error"], err=True)
    end_by_verdicts(num_failed=summary["num_failed"], num_defective=summary["num_defective"], num_review=num_review)


def _echo_run(
    *, has_failed: bool, page_path: Path, rows: list[dict[str, Any]], promotions: list[dict[str, Any]]
) -> None:
    from ndpnet.evaluation.overview import format_overview
    from ndpnet.promotion.table import format_checks

    click.echo(f"\n{format_overview(rows)}")
    for promotion in promotions:
        click.echo(f"\n{format_checks(promotion)}")
    click.echo()
    for row in rows:
        for name, place in row.get("places", {}).items():
            click.echo(f"{row['category']}: {name} {place}")
    click.echo(f"all categories: {page_path}")
    if has_failed:
        raise ValueError("a task failed (see above; the same command goes on with what is missing)")
