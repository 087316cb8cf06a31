"""The verb that delivers runs to the tracking server later."""

import sys
from pathlib import Path

import click


@click.group("tracking")
def tracking_group() -> None:
    """Deliver runs to the tracking server.

    MLFLOW_TRACKING_URI names it; NDPNET_TRACKING=off switches tracking off.
    """


@tracking_group.command("flush")
@click.argument("build_dir", type=click.Path(path_type=Path), default=Path("build"))
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
