"""Verbs from a run to the champion: register, download, promote and what follows from them."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ndpnet.cli_base import (
    EVALUATION,
    PACKAGE,
    PREPARED,
    FolderPath,
    folder_option,
    with_params,
)

# ---- register, download


@click.command("register")
@PACKAGE
@folder_option("--evaluation", "What `evaluate` wrote of it, as build/NAME/evaluation.", EVALUATION)
@folder_option("--out", "Folder to write registered.json to.")
@click.option("--data", type=FolderPath, default=Path("data"), show_default=True, help="Its pictures: the licence.")
def register(model: Path, evaluation: Path, out: Path, data: Path) -> None:
    """Register MODEL with its evidence and its card; the same package registers once."""
    from ndpnet import steps
    from ndpnet.inference.package import read_package

    report_path = data / read_package(model).config["category"] / "import.json"
    record = steps.register(model, evaluation, out, import_report=report_path)
    click.echo(f"{record['name']} version {record['version']}, package {record['package_hash'][:12]}")
    click.echo(f"next: ndpnet promote {shlex.quote(record['name'])} --version {record['version']}")


@click.command("download")
@click.argument("name")
@click.argument("ref", metavar="VERSION_OR_ALIAS")
@click.option("--out", type=FolderPath, required=True, help="Model package to write.")
def download(name: str, ref: str, out: Path) -> None:
    """Write the package of a registered model to a folder, as in `download NAME champion --out model`."""
    from ndpnet.tracking.models import download_package

    click.echo(f"{name} {ref}: {download_package(name, ref.removeprefix('@'), out)}")


# ---- promote, rollback, history, reproduce

EXIT_REFUSED, EXIT_DIFFERENT = 3, 1


@click.command("promote")
@click.argument("name")
@click.option("--version", type=click.IntRange(min=1), help="Judge this one, not the challenger or else the newest.")
@click.option("--prepared", type=PREPARED, help="Prepared folder to test on.  [default: build/CATEGORY/prepared]")
@click.option("--champion-prepared", type=PREPARED, help="The same pictures, in the size that the champion takes.")
@click.option("--out", type=FolderPath, help="Folder to write promotion.json to.")
@click.option("--force", is_flag=True, help="Promote even if the checks refuse; needs --reason.")
@click.option("--reason", default="", help="Why the checks are overruled, with --force.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@with_params
def promote(name: str, force: bool, reason: str, params: Any, **asked: Any) -> None:
    """Judge a version of NAME against the champion, and make it the champion if it passes. Exit code 3 if refused."""
    from ndpnet import steps
    from ndpnet.promotion.table import format_checks

    if force != bool(reason.strip()):
        raise ValueError("--force and --reason TEXT belong together (say why the gate is not to decide)")
    version, out = asked.pop("version"), asked.pop("out")
    if asked["prepared"] is None and (usual := Path("build") / name.removeprefix("ndpnet-") / "prepared").is_dir():
        asked["prepared"] = usual
    report = steps.promote(name, out, params, version=version, force_reason=" ".join(reason.split()), **asked)
    click.echo(format_checks(report))
    sys.exit(EXIT_REFUSED if report["decision"] == "refused" else 0)


@click.command("rollback")
@click.argument("name")
@click.option("--reason", required=True, help="Why, for the history.")
def rollback(name: str, reason: str) -> None:
    """Put the champion before this one back, at once and without judging it."""
    if not reason.strip():
        raise ValueError("--reason is empty (say why the champion is withdrawn)")
    from ndpnet.promotion.promote import rollback as go_back

    old, new = go_back(name, " ".join(reason.split()))
    click.echo(f"{name}: champion is version {new} again, no longer {old}")


@click.command("history")
@click.argument("name")
def history(name: str) -> None:
    """Show every move of the champion of NAME: who, when, from, to, on which evidence, and why."""
    from ndpnet.promotion.table import format_history
    from ndpnet.tracking.registry import Registry

    registry = Registry(name)
    click.echo(format_history(name, registry.timeline(), registry.aliases()))


@click.command("reproduce")
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--work-dir", type=FolderPath, default=Path(".work"), show_default=True, help="Folder to rebuild it in.")
@click.option("--tolerance", type=click.FloatRange(0, 1), help="How far metrics may differ; else 0, on a GPU 0.01.")
@click.option(
    "--any-lock", "is_any_lock", is_flag=True, help="Continue although installed libraries differ from the lock file."
)
@click.option("--keep", "is_kept", is_flag=True, help="Keep the rebuilt tree.")
def reproduce(name: str, version: int, **options: Any) -> None:
    """Rebuild VERSION of NAME from its commit and its data; compare it with what is registered. Exit code 1: not equal.

    Run it in the repository. Killed, the same command goes on where it was.
    """
    from ndpnet.promotion.reproduce import DIFFERENT, format_rows_of
    from ndpnet.promotion.reproduce import reproduce as rebuild

    result = rebuild(name, version, **options)
    click.echo(format_rows_of(result))
    sys.exit(EXIT_DIFFERENT if result["result"] == DIFFERENT else 0)
