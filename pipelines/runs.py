"""Runs on a cluster: start one, follow one to its end, or have them started again and again."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ndpnet.pipelines.client import Cluster, LostError
from ndpnet.pipelines.request import Package

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

EXPERIMENT = "ndpnet"  # where runs are listed
EXIT_CODES = {"SUCCEEDED": 0, "SKIPPED": 0, "FAILED": 1, "CANCELED": 3}  # of the states in which a run is over
AWAY_SECONDS = 900.0  # a run goes on while its server restarts
# KFP's own nodes, and groups of tasks that have no name of their author's
HIDDEN = re.compile(r".*-driver(\(\d+\))?|executor.*|root|(for-loop|condition|exit-handler|iteration)-.*")

logger = logging.getLogger(__name__)


def start_run(
    cluster: Cluster,
    package: Package,
    *,
    name: str,
    arguments: Mapping[str, Any],
    service_account: str = "",
) -> str:
    """Start a run. -> its id. LostError: whether it was started is not known."""
    with cluster.asking() as client:
        return client.create_run_from_pipeline_package(
            str(package.path),
            dict(arguments),
            run_name=name,
            experiment_name=EXPERIMENT,
            namespace=cluster.namespace,
            service_account=service_account or None,
        ).run_id


def follow(cluster: Cluster, run_id: str, show: Callable[[str], None], *, poll_seconds: float = 5.0) -> int:
    """Show every change of a state until the run is over. -> exit code, 0: succeeded, 1: failed, 3: canceled.

    A server that is away for a while is waited for. ClusterError: refused.
    """
    shown: dict[str, str] = {}
    last_seen = time.monotonic()
    while True:
        try:
            with cluster.asking() as client:
                run = client.get_run(run_id)
        except LostError as error:
            if time.monotonic() - last_seen > AWAY_SECONDS:
                raise
            logger.warning("%s; the run goes on meanwhile", error)
        else:
            last_seen = time.monotonic()
            changes = {node: line for node, line in _states(run).items() if shown.get(node) != line}
            for line in changes.values():
                show(line)
            shown |= changes
            if run.state in EXIT_CODES:
                return EXIT_CODES[run.state]
        time.sleep(poll_seconds)


def _states(run: "V2beta1Run") -> dict[str, str]:
    """A line for people of each task, by its node, and of the run, by ""."""
    details = (run.run_details.task_details if run.run_details else None) or []
    states = {
        detail.pod_name or detail.task_id: f"{detail.display_name}: {(detail.state or 'PENDING').lower()}"
        for detail in details
        if not HIDDEN.fullmatch(detail.display_name or "")
    }
    reason = f": {' '.join((run.error.message or '').split())}" if run.error else ""
    return states | {"": f"run: {(run.state or 'PENDING').lower()}{reason}"}


def parse_trigger(cron: str | None, every: str | None) -> dict[str, Any]:
    """When a schedule runs, as kfp's client takes it; cron of five fields gets second 0. ValueError: not one time."""
    from ndpnet.gc import parse_age

    if (cron is None) == (every is None):
        raise ValueError("when is it to run? (pass either --cron '0 2 * * *' or --every 6h)")
    if every is not None:
        if not (seconds := int(parse_age(every))):
            raise ValueError(f"--every {every} is never (write 30m, 6h or 1d)")
        return {"interval_second": seconds}
    assert cron is not None
    return {"cron_expression": f"0 {cron}" if len(cron.split()) == 5 else cron}


def set_schedule(
    cluster: Cluster,
    package: Package,
    *,
    name: str,
    trigger: Mapping[str, Any],
    arguments: Mapping[str, Any],
    is_catching_up: bool = False,
    service_account: str = "",
) -> str:
    """Have this schedule under its name, in place of any other; a paused one stays paused. -> created or replaced

    KFP cannot edit one. The new one is made before the old one is deleted: a call that is killed between leaves both,
    and the next one removes them.
    """
    named = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    with cluster.asking() as client:
        page = client.list_recurring_runs(
            namespace=cluster.namespace, filter=json.dumps({"predicates": [named]}), page_size=100
        )
        earlier = page.recurring_runs or []
        client.create_recurring_run(
            client.create_experiment(EXPERIMENT, namespace=cluster.namespace).experiment_id,
            name,
            **trigger,
            max_concurrency=1,  # two trainings at once would share checkpoints and the champion
            no_catchup=not is_catching_up,
            params=dict(arguments),
            pipeline_package_path=str(package.path),
            enabled=not earlier or any(recurring.mode != "DISABLE" for recurring in earlier),
            service_account=service_account or None,
        )
        for recurring in earlier:
            client.delete_recurring_run(recurring.recurring_run_id)
    return "replaced" if earlier else "created"
