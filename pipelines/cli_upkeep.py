"""The verbs doctor and gc, for a machine and for a cluster."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli_options import EXPERIMENT_OPTION, PACKAGE, SERVER, FolderPath, with_params

if TYPE_CHECKING:
    from ndpnet.doctor import Check

PIPELINES = ("ndpnet-training", "ndpnet-inspection")


@click.command("doctor")
@click.option("--cluster", "is_cluster", is_flag=True, help="Ask the cluster that is to run the pipeline.")
@SERVER
@PACKAGE
@click.option("--s3", "prefixes", multiple=True, metavar="s3://BUCKET/PREFIX", help="With --cluster: can it be read?")
@with_params
def doctor(params: Any, is_cluster: bool, **where: Any) -> None:
    """Say whether this machine, or with --cluster a cluster, is fit to train. Exit code 1: a check failed."""
    from ndpnet.doctor import check_machine, format_checks, has_failed

    checks = _check_cluster_anyhow(params, **where) if is_cluster else list(check_machine())
    click.echo(format_checks(checks))
    sys.exit(1 if has_failed(checks) else 0)


@click.command("gc")
@click.option("--build-dir", type=FolderPath, default=Path("build"), show_default=True, help="Where outputs are.")
@click.option("--work-dir", type=FolderPath, default=Path(".work"), show_default=True, help="Where checkpoints live.")
@click.option("--older-than", default="14d", show_default=True, help="Since it was last written: 12h, 14d, 2w.")
@click.option(
    "--keep-last", type=click.IntRange(min=0), default=1, show_default=True, help="Of each kind, however old."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why the rest stays.")
@click.option("--cluster", "is_cluster", is_flag=True, help="Runs and pipeline versions on the cluster instead.")
@SERVER
@EXPERIMENT_OPTION
def gc(
    build_dir: Path, work_dir: Path, older_than: str, keep_last: int, dry_run: bool, is_cluster: bool, **where: Any
) -> None:
    """Remove old checkpoints, banks, prepared data, run records and what killed processes left.

    Data, models and what is not recognised are never touched.
    """
    from ndpnet.gc import Policy, parse_age

    policy = Policy(parse_age(older_than), keep_last)
    num_failed = _gc_cluster(policy, dry_run, **where) if is_cluster else _gc_here(build_dir, work_dir, policy, dry_run)
    sys.exit(1 if num_failed else 0)


def _gc_here(build_dir: Path, work_dir: Path, policy: Any, dry_run: bool) -> int:
    from ndpnet.data.versions.status import readable_bytes
    from ndpnet.gc import collect, judge

    verdicts = judge(build_dir, work_dir, policy)
    going = [verdict for verdict in verdicts if verdict.is_removed]
    size = readable_bytes(sum(verdict.leftover.num_bytes for verdict in going))
    if dry_run:
        for verdict in verdicts:
            word = "would remove" if verdict.is_removed else "keep"
            amount = readable_bytes(verdict.leftover.num_bytes)
            click.echo(f"{word:<12} {amount:>8}  {_short(verdict.leftover.path)}: {verdict.reason}")
        click.echo(f"{len(going)} would go ({size}), {len(verdicts) - len(going)} stay")
        return 0
    reasons = {verdict.leftover.path: verdict.reason for verdict in going}
    num_failed = 0
    for leftover, problem in collect(verdicts):
        num_failed += bool(problem)
        word = "kept" if problem else "removed"
        amount = readable_bytes(leftover.num_bytes)
        click.echo(f"{word:<12} {amount:>8}  {_short(leftover.path)}: {problem or reasons[leftover.path]}")
    click.echo(f"{len(going) - num_failed} removed (of {size}), {len(verdicts) - len(going) + num_failed} kept")
    return num_failed


def _gc_cluster(policy: Any, dry_run: bool, *, host: str | None, namespace: str | None, experiment: str) -> int:
    from pipelines.client import connect
    from pipelines.gc import find_old, remove

    cluster = connect(host, namespace)
    old, kept = find_old(cluster, experiment=experiment, pipelines=PIPELINES, policy=policy)
    outcomes = [(each, "") for each in old] if dry_run else list(remove(cluster, old))
    for each, problem in outcomes:
        word = "would remove" if dry_run else "kept" if problem else "removed"
        click.echo(f"{word:<12} {each.kind} {each.name} ({each.identifier})" + (f": {problem}" if problem else ""))
    word = "would go" if dry_run else "were old"
    click.echo(f"{len(old)} {word}; {kept['run']} runs and {kept['version']} versions stay")
    return sum(bool(problem) for _, problem in outcomes)


def _check_cluster_anyhow(
    params: Any, host: str | None, namespace: str | None, package_path: Path | None, prefixes: tuple[str, ...]
) -> "list[Check]":
    """All checks of a cluster; where Kubeflow Pipelines itself does not answer, the others."""
    from ndpnet.doctor import Check
    from ndpnet.tracking.identity import run_identity
    from pipelines.client import ClusterError, connect
    from pipelines.preflight import check_cluster, check_prefix
    from pipelines.requests import load_package, pods_namespace

    package = load_package(package_path, params)
    try:
        cluster = connect(host, namespace)
    except ClusterError as error:
        cluster, server = None, Check("server", "FAILED", str(error), "check --host and the login")
    else:
        server = Check("server", "ok", f"{cluster.host}, namespace {cluster.namespace or 'of its only user'}")
    where = pods_namespace(cluster, namespace, params)
    commit = run_identity()["git_commit"]
    checks = check_cluster(cluster, package, commit=commit, namespace=where)
    return [server, *checks, *(check_prefix(prefix) for prefix in prefixes)]


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
