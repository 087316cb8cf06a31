"""The verbs for a cluster: submit, follow, schedule; doctor and gc are for a machine alike."""

import re
import sys
import uuid
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli_options import EVEN_IF_ACTIVE, SERVER, WORK, Decorator, options, with_params
from pipelines.cli_upkeep import doctor, gc

if TYPE_CHECKING:
    from pipelines.client import Cluster
    from pipelines.requests import Prepared, Request

COMMIT = re.compile("[0-9a-f]{7,64}")

__all__ = ["doctor", "follow_command", "gc", "schedule", "submit"]


@click.command("submit")
@WORK
@click.option("--name", "job_name", help="Of the run; pipeline and commit if left out.")
@click.option("--only-new-data", is_flag=True, help="Only categories with data new to the champion.")
@click.option("--request-id", help="The same request is not started twice; a new one if left out.")
@click.option("--wait", is_flag=True, help="Follow it; exit code 0 succeeded, 1 failed, 3 canceled.")
@with_params
def submit(params: Any, job_name: str | None, request_id: str | None, wait: bool, **asked: Any) -> None:
    """Start the training, or the pipeline in --package, once the cluster is known to fit; print where to see it."""
    from pipelines.submission import create_run

    request, prepared = _prepare(asked, params)
    submitted = create_run(
        prepared.cluster,
        prepared.version,
        experiment_id=prepared.experiment_id,
        job_name=job_name or f"{prepared.pipeline} {prepared.version.name[:12]}",
        arguments=prepared.arguments,
        request_id=request_id or uuid.uuid4().hex,
        service_account=request.service_account,
    )
    if not submitted.is_new:
        click.echo("this request was submitted before", err=True)
    click.echo(submitted.url)
    if wait:
        _follow(prepared.cluster, submitted.run_id)


@click.command("follow")
@click.argument("run_id")
@SERVER
def follow_command(run_id: str, host: str | None, namespace: str | None) -> None:
    """Follow a run to its end. Exit code 0: succeeded, 1: failed, 3: canceled."""
    from pipelines.client import connect

    _follow(connect(host, namespace), run_id)


@click.group("schedule", invoke_without_command=True)
@WORK
@click.option("--name", default="ndpnet-training", show_default=True, help="Of the schedule; there is one of each.")
@click.option("--cron", help="When: five fields, or six with seconds first. In the server's time zone.")
@click.option("--every", help="Or how often: 30m, 6h, 1d, 2w.")
@click.option("--on-new-data", "only_new_data", is_flag=True, help="Only categories with data new to the champion.")
@click.option("--catch-up", is_flag=True, help="Run missed times later, one after the other.")
@EVEN_IF_ACTIVE
@with_params
def schedule(
    params: Any,
    name: str,
    cron: str | None,
    every: str | None,
    catch_up: bool,
    even_if_active: bool,
    **asked: Any,
) -> None:
    """Train again and again: one schedule of each name, one run at a time, each with the newest data of its branch."""
    if click.get_current_context().invoked_subcommand:
        return
    from pipelines.cron import parse_cron, parse_interval
    from pipelines.schedule import Schedule, set_schedule

    if (cron is None) == (every is None):
        raise ValueError("when is it to run? (pass either --cron '0 2 * * *' or --every 6h)")
    trigger = parse_cron(cron) if cron is not None else parse_interval(every)
    if COMMIT.fullmatch(asked["revision"] or ""):
        raise ValueError(
            f"--revision {asked['revision']} is a commit: every run would take the same data (pass a branch)"
        )
    request, prepared = _prepare(asked, params)
    wanted = Schedule(
        name,
        trigger,
        prepared.version,
        prepared.experiment_id,
        prepared.arguments,
        is_catching_up=catch_up,
        service_account=request.service_account,
    )
    click.echo(f"{name}: {set_schedule(prepared.cluster, wanted, even_if_active=even_if_active)}, {trigger}")


@schedule.command("list")
@SERVER
def schedule_list(host: str | None, namespace: str | None) -> None:
    """List the schedules."""
    from ndpnet.promotion.table import format_rows
    from pipelines.schedule import DISABLE, list_schedules, trigger_of

    found = list_schedules(_connect(host, namespace))
    rows = [("name", "when", "state", "created")]
    rows += [
        (
            each.display_name,
            str(trigger_of(each)),
            "paused" if each.mode == DISABLE else "on",
            f"{each.created_at:%Y-%m-%d %H:%M}" if each.created_at else "",
        )
        for each in found
    ]
    click.echo("\n".join(format_rows(rows)) if found else "no schedule")


def _change_schedule(verb: str, done: str, text: str, *decorators: Decorator) -> None:
    """Add a verb that changes the schedule of a name."""

    def change(name: str, host: str | None, namespace: str | None, **kwargs: Any) -> None:
        from pipelines import schedule as schedules

        getattr(schedules, verb)(_connect(host, namespace), name, **kwargs)
        click.echo(f"{name}: {done}")

    change.__doc__ = text
    schedule.command(verb)(options(click.argument("name"), SERVER, *decorators)(change))


_change_schedule("pause", "paused", "Start no more runs of it; one that runs goes on.")
_change_schedule("resume", "on", "Start runs of it again.")
_change_schedule("delete", "deleted", "Delete it.", EVEN_IF_ACTIVE)


def _connect(host: str | None, namespace: str | None) -> "Cluster":
    """As the verb says, else as `schedule` before it."""
    from pipelines.client import connect

    before = click.get_current_context().parent.params
    return connect(host or before["host"], namespace or before["namespace"])


def _prepare(asked: dict[str, Any], params: Any) -> "tuple[Request, Prepared]":
    from ndpnet.doctor import format_checks
    from pipelines.requests import Request, Source, prepare

    def show(checks: Any) -> None:
        click.echo(format_checks(checks), err=True)

    source = Source(**{each.name: asked.pop(each.name) for each in fields(Source)})
    request = Request(source=source, **asked)
    return request, prepare(request, params, show)


def _follow(cluster: "Cluster", run_id: str) -> None:
    from pipelines.client import ClusterError
    from pipelines.follow import follow, format_outcome
    from pipelines.progress import progress_on

    later = f"the run goes on: ndpnet pipeline follow {run_id}"
    try:
        outcome = follow(cluster, run_id, progress_on(sys.stdout))
    except ClusterError as error:
        raise ValueError(f"{error}; {later}") from error
    except KeyboardInterrupt:
        click.echo(f"\n{later}", err=True)
        sys.exit(130)
    click.echo("\n".join(format_outcome(outcome)), err=bool(outcome.exit_code))
    sys.exit(outcome.exit_code)
