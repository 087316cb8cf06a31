"""The verb that runs a suite: the paper's tables on one's own data."""

import sys
from pathlib import Path
from typing import Any

import click

from ndpnet.cli_base import FolderPath, parameter_options


@click.command("benchmark")
@click.argument("suite", metavar="SUITE")
@click.option("--data", "data_dir", type=FolderPath, required=True, help="Folder with one folder per category.")
@click.option("--out", type=FolderPath, help="Folder for all that is made.  [default: build/benchmark/SUITE]")
@click.option("--category", "categories", multiple=True, help="Only this one of the suite; may be repeated.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many, from 0 up.")
@click.option("--ablate", "ablations", multiple=True, help="paper, own, all, one by name, NAME=VALUE; repeatable.")
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME[:KEY=VALUE,...]", help="As in patchcore:coreset_ratio=0.1."
)
@click.option("--devices", default="cpu", show_default=True, help="cpu, cpu,cpu for two processes, or CUDA: 0,1.")
@parameter_options
@click.option("--dry-run", is_flag=True, help="List the rows and stop.")
def benchmark(
    suite: str, out: Path | None, seeds: int, peers: tuple[str, ...], devices: str, dry_run: bool, **asked: Any
) -> None:
    """Train and evaluate on every category of SUITE and write one report with tables like the paper's.

    SUITE is mvtec-textures, dagm, kolektor, demo or folder.

    The same command again goes on where a killed one was, and computes nothing twice. Exit code 1 if anything failed.
    """
    from ndpnet.benchmark import run
    from ndpnet.benchmark.peers import parse_peer

    request = run.SuiteRequest(
        suite=suite,
        out=(out or Path("build/benchmark") / suite).resolve(),
        seeds=tuple(range(seeds)),
        peers=tuple(parse_peer(text) for text in peers),
        devices=run.parse_devices(devices),
        **asked,
    )
    rows = run.rows_of(request)
    if dry_run:
        for row in rows:
            click.echo(f"{'to do' if row.result() is None else 'done '}  {row.name}")
        return
    reasons, tables = run.run(request, rows)
    click.echo(f"{tables}\nreport: {request.out / 'report.md'}")
    if reasons:
        click.echo("\n".join(reasons), err=True)
        sys.exit(1)
