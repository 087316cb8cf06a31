"""Recurring runs by their names: one of each, made anew when something differs. KFP can't edit them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipelines.client import Cluster, ClusterError, filter_by_name
from pipelines.cron import Trigger
from pipelines.submission import Version

if TYPE_CHECKING:
    from kfp_server_api import V2beta1RecurringRun

DONE = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")  # states of a run that is over
ENABLE, DISABLE = "ENABLE", "DISABLE"
MAX_CONCURRENCY = 1  # two trainings at once would share checkpoints and the champion

logger = logging.getLogger(__name__)
Outcome = Literal["created", "replaced", "unchanged"]


@dataclass(frozen=True)
class Schedule:
    """What is to run, and when. is_catching_up: missed times are run later, one after the other."""

    name: str
    trigger: Trigger
    version: Version
    experiment_id: str
    arguments: Mapping[str, Any]
    is_catching_up: bool = False
    service_account: str = ""


def set_schedule(cluster: Cluster, schedule: Schedule, *, even_if_active: bool = False) -> Outcome:
    """Have exactly this schedule under its name; a paused one stays paused.

    The new one is made before the old one is deleted: a call that is killed between leaves both, and the next one
    removes the old one. ValueError: a run of the old one is active, and `even_if_active` was not said.
    """
    earlier = _of_name(cluster, schedule.name)
    wanted = [each for each in earlier if _is_same(each, schedule)]
    kept = wanted[0] if wanted else None
    others = [each for each in earlier if each is not kept]
    if kept is not None and not others:
        return "unchanged"
    if not even_if_active:
        _refuse_active(cluster, others)
    if kept is None:
        is_paused = bool(earlier) and all(each.mode == DISABLE for each in earlier)
        _create(cluster, schedule, is_paused=is_paused)
    for each in others:
        _delete(cluster, each.recurring_run_id)
    return "replaced" if others else "created"


def list_schedules(cluster: Cluster) -> "list[V2beta1RecurringRun]":
    """All of them, by name."""
    options = {"namespace": cluster.namespace} if cluster.namespace else {}
    call = cluster.client.recurring_runs.recurring_run_service_list_recurring_runs
    return sorted(cluster.pages(call, "recurring_runs", **options), key=lambda each: each.display_name)


def pause(cluster: Cluster, name: str) -> None:
    """Start no more runs until `resume`; one that runs goes on. ValueError: no schedule has this name."""
    for each in _known(cluster, name):
        cluster.ask(cluster.client.recurring_runs.recurring_run_service_disable_recurring_run, each.recurring_run_id)


def resume(cluster: Cluster, name: str) -> None:
    """Start runs again. ValueError: no schedule has this name."""
    for each in _known(cluster, name):
        cluster.ask(cluster.client.recurring_runs.recurring_run_service_enable_recurring_run, each.recurring_run_id)


def delete(cluster: Cluster, name: str, *, even_if_active: bool = False) -> None:
    """Delete a schedule. ValueError: no schedule has this name, or a run of it is active."""
    found = _known(cluster, name)
    if not even_if_active:
        _refuse_active(cluster, found)
    for each in found:
        _delete(cluster, each.recurring_run_id)


def trigger_of(recurring: "V2beta1RecurringRun") -> Trigger:
    """When a recurring run starts runs."""
    trigger = recurring.trigger
    if trigger is not None and trigger.cron_schedule is not None:
        return Trigger(cron=trigger.cron_schedule.cron or "")
    periodic = trigger.periodic_schedule if trigger is not None else None
    return Trigger(interval=int(periodic.interval_second) if periodic is not None else 0)


def _create(cluster: Cluster, schedule: Schedule, *, is_paused: bool) -> None:
    import kfp_server_api as api

    if schedule.trigger.cron:
        trigger = api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule.trigger.cron))
    else:
        interval = api.V2beta1PeriodicSchedule(interval_second=str(schedule.trigger.interval))
        trigger = api.V2beta1Trigger(periodic_schedule=interval)
    version = schedule.version
    recurring = api.V2beta1RecurringRun(
        display_name=schedule.name,
        experiment_id=schedule.experiment_id,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(version.pipeline_id, version.version_id),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(schedule.arguments)),
        trigger=trigger,
        max_concurrency=str(MAX_CONCURRENCY),
        no_catchup=not schedule.is_catching_up,
        mode=DISABLE if is_paused else ENABLE,
        service_account=schedule.service_account or None,
    )

    def create(**options: Any) -> Any:
        return cluster.client.recurring_runs.recurring_run_service_create_recurring_run(recurring, **options)

    def find() -> Any:
        return next((each for each in _of_name(cluster, schedule.name) if _is_same(each, schedule)), None)

    cluster.tell_or_find(create, find)


def _is_same(recurring: "V2beta1RecurringRun", schedule: Schedule) -> bool:
    reference, config = recurring.pipeline_version_reference, recurring.runtime_config
    there = (
        trigger_of(recurring),
        reference.pipeline_version_id if reference else None,
        recurring.experiment_id,
        (config.parameters if config else None) or {},
        int(recurring.max_concurrency or 0),
        bool(recurring.no_catchup),
        # where none is asked for, the server fills in its own
        recurring.service_account if schedule.service_account else "",
    )
    return there == (
        schedule.trigger,
        schedule.version.version_id,
        schedule.experiment_id,
        dict(schedule.arguments),
        MAX_CONCURRENCY,
        not schedule.is_catching_up,
        schedule.service_account,
    )


def _of_name(cluster: Cluster, name: str) -> "list[V2beta1RecurringRun]":
    options = {"namespace": cluster.namespace} if cluster.namespace else {}
    call = cluster.client.recurring_runs.recurring_run_service_list_recurring_runs
    found = cluster.pages(call, "recurring_runs", filter=filter_by_name(name), **options)
    return [each for each in found if each.display_name == name]


def _known(cluster: Cluster, name: str) -> "list[V2beta1RecurringRun]":
    found = _of_name(cluster, name)
    if not found:
        names = ", ".join(sorted({each.display_name for each in list_schedules(cluster)})) or "none"
        raise ValueError(f"no schedule is named {name} (there are: {names})")
    return found


def _refuse_active(cluster: Cluster, schedules: "list[V2beta1RecurringRun]") -> None:
    for schedule in schedules:
        options = {"experiment_id": schedule.experiment_id}
        for run in cluster.pages(cluster.client.runs.run_service_list_runs, "runs", **options):
            if run.recurring_run_id == schedule.recurring_run_id and run.state not in DONE:
                raise ValueError(
                    f"run {run.run_id} of schedule {schedule.display_name} is {(run.state or 'pending').lower()} "
                    "(wait for it, or pass --even-if-active: it goes on)"
                )


def _delete(cluster: Cluster, recurring_run_id: str) -> None:
    try:
        cluster.ask(cluster.client.recurring_runs.recurring_run_service_delete_recurring_run, recurring_run_id)
    except ClusterError as error:
        if error.status != 404:  # a lost answer's second attempt finds it gone
            raise
