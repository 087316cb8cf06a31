"""The verbs of `ndpnet pipeline`: compile and run; those for a cluster are in cli_cluster.py."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli_cluster import follow_command, schedule, submit
from pipelines.cli_options import FolderPath, with_params

if TYPE_CHECKING:
    from pipelines.local import LocalRun


@click.group("pipeline")
def pipeline_group() -> None:
    """The pipeline on Kubeflow: compile it, run it here, submit and schedule it on a cluster."""


for cluster_command in (submit, follow_command, schedule):
    pipeline_group.add_command(cluster_command)


@pipeline_group.command("compile")
@click.option("--out", type=FolderPath, default=Path("build/pipelines"), show_default=True, help="Folder to write to.")
@with_params
def compile_command(out: Path, params: Any) -> None:
    """Write the pipelines as Kubeflow takes them: same settings, same bytes."""
    from pipelines.compile import compile_all

    for path in compile_all(params, out):
        click.echo(str(path))


@pipeline_group.command("run")
@click.option("--local", "is_local", is_flag=True, required=True, help="Here; `submit` runs it on a cluster.")
@click.option("--data", type=FolderPath, default=Path("data"), show_default=True, help="Pinned data folder.")
@click.option("--category", "categories", multiple=True, help="Which of its categories; `categories` if left out.")
@click.option("--out", type=FolderPath, default=Path("build/kfp"), show_default=True, help="Folder to write to.")
@click.option(
    "--work-dir", default=".work", show_default=True, help="Where checkpoints live: a folder, or s3://BUCKET/PREFIX."
)
@click.option(
    "--containers",
    "in_containers",
    is_flag=True,
    help="A container per task, of `cluster.image`, else of HEAD's image.",
)
@with_params
def run_command(
    is_local: bool,
    data: Path,
    categories: tuple[str, ...],
    out: Path,
    work_dir: str,
    in_containers: bool,
    params: Any,
) -> None:
    """Run the whole pipeline on this machine by KFP's local engine, up to the champion.

    Killed, the same command goes on where it was.
    """
    assert is_local  # click has asked for it
    from ndpnet.data.versions.resolving import DataSource
    from pipelines.local import LocalRun, run_locally

    chosen = list(categories or params.categories)
    how = {"work_dir": work_dir, "categories": chosen, "in_containers": in_containers}
    for event in run_locally(params, DataSource(folder=str(data)), out, **how):
        if isinstance(event, LocalRun):
            return _echo_run(event)
        click.echo(f"{event.task}: {event.event}")
    return None


def _echo_run(run: "LocalRun") -> None:
    from ndpnet.evaluation.overview import format_overview
    from ndpnet.promotion.table import format_checks
    from pipelines.local import last_lines

    click.echo(f"\n{format_overview(run.rows)}")
    for promotion in run.promotions:
        click.echo(f"\n{format_checks(promotion)}")
    click.echo(f"\npage: {run.page_path}\nlog:  {run.log_path}")
    for task in run.failed_tasks:
        click.echo(f"\n{task} failed; the end of its log:", err=True)
        click.echo("\n".join(f"  {line.strip()}" for line in last_lines(run.log_path, task)), err=True)
    if run.failed_tasks:
        sys.exit(1)
