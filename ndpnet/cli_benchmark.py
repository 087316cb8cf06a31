"""The verb that runs a suite: the paper's tables on one's own data."""

import sys
from pathlib import Path

import click

from ndpnet.cli_base import FolderPath, Resumable


@click.command("benchmark", cls=Resumable)
@click.argument("suite", metavar="SUITE")
@click.option("--data", "data_dir", type=FolderPath, required=True, help="Folder with one folder per category.")
@click.option("--out", type=FolderPath, help="Folder for all that is made.  [default: build/benchmark/SUITE]")
@click.option("--category", "categories", multiple=True, help="Only this one of the suite; may be repeated.")
@click.option("--seeds", default="1", show_default=True, help="How many, 0 up; or which, as in 3,4,5.")
@click.option("--ablate", "ablations", multiple=True, help="paper, own, all, one by name, NAME=VALUE; repeatable.")
@click.option("--peer", "peers", multiple=True, metavar="NAME[:KEY=VALUE,...]", help="As in draem:steps=500,width=16.")
@click.option("--figures", is_flag=True, help="Draw examples of every category.")
@click.option("--devices", default="cpu", show_default=True, help="cpu, cpu,cpu for two processes, or CUDA: 0,1.")
@click.option("--params", "params_path", type=FolderPath, help="Parameter file instead of the built-in one.")
@click.option("--profile", help="Profile laid over it: demo, paper, line.")
@click.option("-P", "overrides", multiple=True, metavar="NAME=VALUE", help="As in train.phase1.epochs=4.")
@click.option("--dry-run", is_flag=True, help="List the tasks and stop.")
def benchmark(
    suite: str,
    data_dir: Path,
    out: Path | None,
    categories: tuple[str, ...],
    seeds: str,
    ablations: tuple[str, ...],
    peers: tuple[str, ...],
    figures: bool,
    devices: str,
    params_path: Path | None,
    profile: str | None,
    overrides: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train and evaluate on every category of SUITE and write one report with tables like the paper's.

    SUITE is mvtec-textures, dagm, kolektor, demo or folder.

    The same command again goes on where a killed one was, and computes nothing twice. Exit code 1 if anything failed.
    """
    from ndpnet.benchmark import run
    from ndpnet.config import PARAMS_PATH

    request = run.Request(
        suite=suite,
        data_dir=data_dir,
        out=out or Path("build/benchmark") / suite,
        categories=categories,
        seeds=run.parse_seeds(seeds),
        ablations=ablations,
        peers=tuple(run.parse_peer(text) for text in peers),
        devices=run.parse_devices(devices),
        params_path=params_path or PARAMS_PATH,
        profile=profile,
        overrides=overrides,
    )
    plan = run.plan_of(request)
    if dry_run:
        for task in plan.tasks.values():
            click.echo(f"{'done' if task.metrics(request.out) is not None else 'to do'}  {task.name}")
        return
    failed, tables = run.run(request, plan, with_figures=figures)
    for table in tables:
        click.echo(table.to_markdown())
    click.echo(f"report: {request.out / 'report.html'}")
    if failed:
        click.echo("\n".join(sorted(set(failed.values()))), err=True)
        sys.exit(1)
