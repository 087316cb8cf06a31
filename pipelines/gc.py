"""Removing old runs and versions on the cluster; never what is active, scheduled, or not this project's."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.client import Cluster, ClusterError
from pipelines.schedule import DONE, list_schedules
from pipelines.submission import find_experiment, find_pipeline, versions_of

if TYPE_CHECKING:
    from ndpnet.gc import Policy


@dataclass(frozen=True)
class Old:
    """Something on the server: kind "run" or "version"; a version's pipeline_id."""

    kind: str
    name: str
    identifier: str
    pipeline_id: str = ""


def find_old(
    cluster: Cluster, *, experiment: str, pipelines: tuple[str, ...], policy: "Policy", now: float | None = None
) -> tuple[list[Old], dict[str, int]]:
    """What goes by the policy, and how many runs and versions stay. Looks at one experiment and these pipelines.

    A version stays while a run that stays, or any schedule, is of it.
    """
    now = time.time() if now is None else now
    experiment_id = find_experiment(cluster, experiment)
    old_runs, kept_runs = _split_runs(cluster, experiment_id, policy, now) if experiment_id else ([], [])
    used = {
        _version_of(each) for each in (*kept_runs, *list_schedules(cluster), *_runs_elsewhere(cluster, experiment_id))
    }
    old = [Old("run", run.display_name or "", run.run_id) for run in old_runs]
    num_kept_versions = 0
    for pipeline in pipelines:
        pipeline_id = find_pipeline(cluster, pipeline)
        versions = _newest_first(versions_of(cluster, pipeline_id)) if pipeline_id else []
        for number, version in enumerate(versions):
            is_kept = (
                number < policy.keep_last
                or version.pipeline_version_id in used
                or now - _seconds(version.created_at, now) < policy.older_than
            )
            num_kept_versions += is_kept
            if not is_kept:
                name = f"{pipeline} {version.display_name}"
                old.append(Old("version", name, version.pipeline_version_id, pipeline_id))
    return old, {"run": len(kept_runs), "version": num_kept_versions}


def remove(cluster: Cluster, old: list[Old]) -> Iterator[tuple[Old, str]]:
    """Delete them one by one. -> each, and what went wrong ("" if nothing)."""
    for each in old:
        try:
            _delete(cluster, each)
        except ClusterError as error:
            yield each, "" if error.status == 404 else str(error)
        else:
            yield each, ""


def _delete(cluster: Cluster, old: Old) -> None:
    if old.kind == "run":
        cluster.ask(cluster.client.runs.run_service_delete_run, old.identifier)
    else:
        call = cluster.client.pipelines.pipeline_service_delete_pipeline_version
        cluster.ask(call, old.pipeline_id, old.identifier)


def _split_runs(cluster: Cluster, experiment_id: str, policy: "Policy", now: float) -> tuple[list[Any], list[Any]]:
    runs = _newest_first(cluster.pages(cluster.client.runs.run_service_list_runs, "runs", experiment_id=experiment_id))
    old, kept = [], []
    for number, run in enumerate(runs):
        ended = _seconds(run.finished_at, 0.0) or _seconds(run.created_at, now)
        is_old = run.state in DONE and number >= policy.keep_last and now - ended >= policy.older_than
        (old if is_old else kept).append(run)
    return old, kept


def _runs_elsewhere(cluster: Cluster, experiment_id: str | None) -> Iterator[Any]:
    """Runs of other experiments: they may be of our versions."""
    options = {"namespace": cluster.namespace} if cluster.namespace else {}
    for run in cluster.pages(cluster.client.runs.run_service_list_runs, "runs", **options):
        if run.experiment_id != experiment_id:
            yield run


def _version_of(run: Any) -> str | None:
    reference = run.pipeline_version_reference
    return reference.pipeline_version_id if reference else None


def _newest_first(things: Any) -> list[Any]:
    return sorted(things, key=lambda each: _seconds(each.created_at, 0.0), reverse=True)


def _seconds(moment: Any, default: float) -> float:
    """Seconds since 1970; the default where there is no such moment: a server writes year 1 or 1970."""
    seconds = moment.timestamp() if moment is not None else 0.0
    return seconds if seconds > 0 else default
