"""Recurring runs by their names: one of each. KFP cannot edit one, so a new one takes its place."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ndpnet.pipelines.client import Cluster
from ndpnet.pipelines.package import Package
from ndpnet.pipelines.runs import EXIT_CODES

if TYPE_CHECKING:
    from kfp_server_api import V2beta1RecurringRun

DISABLE = "DISABLE"  # a mode of KFP


def parse_trigger(cron: str | None, every: str | None) -> dict[str, Any]:
    """When a schedule runs, as kfp's client takes it; cron of five fields gets second 0. ValueError: not one time."""
    from ndpnet.gc import parse_age

    if (cron is None) == (every is None):
        raise ValueError("when is it to run? (pass either --cron '0 2 * * *' or --every 6h)")
    if every is not None:
        seconds = int(parse_age(every))
        if not seconds:
            raise ValueError(f"--every {every} is no interval (write 30m, 6h, 1d or 2w)")
        return {"interval_second": seconds}
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise ValueError(f"cron {cron!r} has {len(fields)} fields (five, as '0 2 * * 1-5', or six with seconds first)")
    return {"cron_expression": " ".join(fields if len(fields) == 6 else ["0", *fields])}


def set_schedule(
    cluster: Cluster,
    package: Package,
    *,
    name: str,
    trigger: Mapping[str, Any],
    experiment: str,
    arguments: Mapping[str, Any],
    is_catching_up: bool = False,
    service_account: str = "",
    even_if_active: bool = False,
) -> str:
    """Have this schedule under its name, in place of any other; a paused one stays paused. -> created or replaced

    The new one is made before the old one is deleted: a call that is killed between leaves both, and the next one
    removes them. ValueError: a run of the old one is active, and `even_if_active` was not said.
    """
    earlier = [each for each in list_schedules(cluster) if each.display_name == name]
    if not even_if_active:
        _refuse_active(cluster, earlier)
    with cluster.asking() as client:
        client.create_recurring_run(
            client.create_experiment(experiment, namespace=cluster.namespace).experiment_id,
            name,
            **trigger,
            max_concurrency=1,  # two trainings at once would share checkpoints and the champion
            no_catchup=not is_catching_up,
            params=dict(arguments),
            pipeline_package_path=str(package.path),
            enabled=not earlier or any(each.mode != DISABLE for each in earlier),
            service_account=service_account or None,
        )
    _apply(cluster, earlier, "delete")
    return "replaced" if earlier else "created"


def list_schedules(cluster: Cluster) -> "list[V2beta1RecurringRun]":
    """All of them, by name."""
    found = cluster.pages("list_recurring_runs", "recurring_runs", namespace=cluster.namespace)
    return sorted(found, key=lambda each: each.display_name)


def describe_trigger(recurring: "V2beta1RecurringRun") -> str:
    """When a recurring run starts runs, for people."""
    if recurring.trigger.cron_schedule is not None:
        return f"cron {recurring.trigger.cron_schedule.cron}"
    return f"every {recurring.trigger.periodic_schedule.interval_second} s"


def change_schedule(cluster: Cluster, name: str, verb: str, *, even_if_active: bool = True) -> None:
    """Enable, disable or delete a schedule; a run of it goes on. ValueError: no such schedule, or a run is active."""
    schedules = list_schedules(cluster)
    named = [each for each in schedules if each.display_name == name]
    if not named:
        names = ", ".join(sorted({each.display_name for each in schedules})) or "none"
        raise ValueError(f"no schedule is named {name} (there are: {names})")
    if not even_if_active:
        _refuse_active(cluster, named)
    _apply(cluster, named, verb)


def _refuse_active(cluster: Cluster, schedules: "list[V2beta1RecurringRun]") -> None:
    for schedule in schedules:
        for run in cluster.pages("list_runs", "runs", experiment_id=schedule.experiment_id):
            if run.recurring_run_id == schedule.recurring_run_id and run.state not in EXIT_CODES:
                raise ValueError(
                    f"run {run.run_id} of schedule {schedule.display_name} is {(run.state or 'pending').lower()} "
                    "(wait for it, or pass --even-if-active: it goes on)"
                )


def _apply(cluster: Cluster, schedules: "list[V2beta1RecurringRun]", verb: str) -> None:
    for each in schedules:
        with cluster.asking() as client:
            getattr(client, f"{verb}_recurring_run")(each.recurring_run_id)
