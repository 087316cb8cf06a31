"""The verbs for upkeep: is this machine fit, what can go, which runs does the tracking server not have yet."""

import sys
from pathlib import Path

import click

from ndpnet.cli_base import FolderPath


@click.command("doctor")
def doctor() -> None:
    """Say whether this machine is fit to train and inspect. Exit code 1: a check failed."""
    from ndpnet.doctor import check_machine
    from ndpnet.table import format_rows

    checks = list(check_machine())
    click.echo("\n".join(format_rows([("check", "verdict", "found"), *checks])))
    sys.exit(any(check.verdict == "FAILED" for check in checks))


@click.command("gc")
@click.option("--build-dir", type=FolderPath, default=Path("build"), show_default=True, help="Folder of outputs.")
@click.option("--work-dir", type=FolderPath, default=Path(".work"), show_default=True, help="Folder of checkpoints.")
@click.option("--older-than", default="14d", show_default=True, help="Time since the last change: 12h, 14d, 2w.")
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
def gc(build_dir: Path, work_dir: Path, older_than: str, dry_run: bool) -> None:
    """Remove old checkpoints, reproduced trees and what killed processes left; `dvc gc` clears DVC's cache.

    Data, models and what is in use are never touched.
    """
    from ndpnet.files import readable_bytes
    from ndpnet.gc import find_old, parse_age, remove

    leftovers = find_old(build_dir, work_dir, parse_age(older_than))
    if not leftovers:
        click.echo("nothing to remove")
    num_failed = 0
    for leftover in leftovers:
        problem = "" if dry_run else remove(leftover)
        num_failed += bool(problem)
        word = "would remove" if dry_run else "kept" if problem else "removed"
        click.echo(f"{word:<12} {readable_bytes(leftover.num_bytes):>8}  {leftover.path}{problem and f': {problem}'}")
    sys.exit(bool(num_failed))


@click.group("tracking")
def tracking_group() -> None:
    """Deliver runs to the tracking server.

    MLFLOW_TRACKING_URI names it; NDPNET_TRACKING=off switches tracking off.
    """


@tracking_group.command("flush")
@click.argument("build_dir", type=FolderPath, default=Path("build"))
def flush_command(build_dir: Path) -> None:
    """Deliver what steps have noted under BUILD_DIR (default: build) and the server does not have yet."""
    from ndpnet.tracking.client import is_off
    from ndpnet.tracking.delivery import FAILED, flush

    if is_off():
        raise ValueError("tracking is switched off (unset NDPNET_TRACKING)")
    outcomes = []
    for name, outcome in flush(build_dir):
        click.echo(f"{name}: {outcome}")
        outcomes.append(outcome)
    if not outcomes:
        click.echo("nothing to deliver")
    if any(outcome.startswith(FAILED) for outcome in outcomes):
        sys.exit(1)
