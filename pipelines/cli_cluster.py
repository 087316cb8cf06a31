"""The verbs for a cluster: submit, follow, schedule."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndpnet.cli_base import FolderPath, end_interrupted, several, with_params

if TYPE_CHECKING:
    from ndpnet.pipelines.client import Cluster
    from ndpnet.pipelines.request import Package

COMMIT = re.compile("[0-9a-f]{7,64}")


SERVER = several(
    click.option("--host", help="Kubeflow Pipelines, as https://HOST/pipeline; else KF_PIPELINES_ENDPOINT."),
    click.option("--namespace", help="Of a server for many users; else KFP_NAMESPACE."),
)
WORK = several(
    SERVER,
    click.option("--package", "package_path", type=FolderPath, help="Compiled pipeline; compiled now if left out."),
    click.option("--category", "categories", multiple=True, help="Which of them; all that are pinned if left out."),
    click.option("--url", help="Git repository that pins the data; that of this clone if left out."),
    click.option("--revision", help="Branch, tag or commit there; its default branch if left out."),
    click.option("--path", default="data", show_default=True, help="The pinned folder there."),
    click.option("--prefix", metavar="S3_URL", help="Instead of a repository: where the files lie."),
    click.option("--manifest", metavar="S3_URL", help="What `data manifest` wrote: which of them to take."),
    click.option("--endpoint-url", help="S3 server other than AWS, as http://minio:9000."),
    click.option("-a", "further", multiple=True, metavar="NAME=VALUE", help="Further argument of the pipeline."),
    click.option("--service-account", default="", help="Of Kubernetes, that the pods run as."),
    click.option("--allow-dirty", is_flag=True, help="Although the sources differ from their commit."),
)


@click.command("submit")
@WORK
@click.option("--name", help="Of the run; pipeline and commit if left out.")
@click.option("--only-new-data", is_flag=True, help="Only categories with data new to the champion.")
@click.option("--wait", is_flag=True, help="Follow it; exit code 0 succeeded, 1 failed, 3 canceled.")
@with_params
def submit(params: Any, name: str | None, wait: bool, **asked: Any) -> None:
    """Start the training, or the pipeline in --package, on a cluster."""
    from ndpnet.pipelines.runs import start_run

    cluster, package, commit, how = _prepare(params, **asked)
    run_id = start_run(cluster, package, name=name or f"{package.name} {commit[:12]}", **how)
    click.echo(cluster.url_of(run_id))
    if wait:
        _follow(cluster, run_id)


@click.command("follow")
@click.argument("run_id")
@SERVER
def follow_command(run_id: str, host: str | None, namespace: str | None) -> None:
    """Follow a run to its end. Exit code 0: succeeded, 1: failed, 3: canceled."""
    from ndpnet.pipelines.client import connect

    _follow(connect(host, namespace), run_id)


@click.command("schedule")
@WORK
@click.option("--name", default="ndpnet-training", show_default=True, help="Of the schedule; there is one of each.")
@click.option("--cron", help="When: five fields, or six with seconds first. In the server's time zone.")
@click.option("--every", help="Or how often: 30m, 6h, 1d, 2w.")
@click.option("--on-new-data", "only_new_data", is_flag=True, help="Only categories with data new to the champion.")
@click.option("--catch-up", "is_catching_up", is_flag=True, help="Run missed times later, one after the other.")
@with_params
def schedule(
    params: Any,
    name: str,
    cron: str | None,
    every: str | None,
    is_catching_up: bool,
    **asked: Any,
) -> None:
    """Train again and again, each time with the newest data.

    There is one schedule of each name: the same command replaces it.
    """
    from ndpnet.pipelines.runs import parse_trigger, set_schedule

    trigger, revision = parse_trigger(cron, every), asked["revision"] or ""
    if COMMIT.fullmatch(revision):
        raise ValueError(f"--revision {revision} is a commit: every run would take the same data (pass a branch)")
    cluster, package, _, how = _prepare(params, **asked)
    how |= {"name": name, "trigger": trigger, "is_catching_up": is_catching_up}
    click.echo(f"{name}: {set_schedule(cluster, package, **how)}")


def _prepare(
    params: Any,
    *,
    host: str | None,
    namespace: str | None,
    service_account: str,
    package_path: Path | None,
    allow_dirty: bool,
    categories: tuple[str, ...],
    only_new_data: bool,
    further: tuple[str, ...],
    path: str,
    **place: str | None,
) -> "tuple[Cluster, Package, str, dict[str, Any]]":
    """Cluster, package, commit, and what a run and a schedule are told alike. path, place: where the data are."""
    from ndpnet.data.versions.version import DataSource
    from ndpnet.pipelines.client import connect
    from ndpnet.pipelines.request import arguments_of, committed, load_package

    commit = committed(allow_dirty=allow_dirty)
    package = load_package(package_path, params, commit)
    source = DataSource(path=path, **place)
    arguments = arguments_of(
        package, params, source, categories=categories, only_new_data=only_new_data, further=further
    )
    how = {"arguments": arguments, "service_account": service_account}
    return connect(host, namespace), package, commit, how


def _follow(cluster: "Cluster", run_id: str) -> None:
    from ndpnet.pipelines.client import ClusterError
    from ndpnet.pipelines.runs import follow

    later = f"the run goes on: ndpnet pipeline follow {run_id}"
    try:
        exit_code = follow(cluster, run_id, click.echo)
    except ClusterError as error:
        raise ValueError(f"{error}; {later}") from error
    except KeyboardInterrupt:
        end_interrupted(later)
    if exit_code:
        click.echo(f"why: {cluster.url_of(run_id)}", err=True)
    sys.exit(exit_code)
