"""Finding the run of a pipeline and the run of a step by their tags; making them when missing, once."""

import getpass
import logging
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from ndpnet.tracking.flat import MAX_TAG, shorten
from ndpnet.tracking.record import Record, is_plan

PLAN, STEP, CATEGORY, KEY = "ndpnet.plan", "ndpnet.step", "ndpnet.category", "ndpnet.key"
PROCESS = "ndpnet.process"
PARENT = "mlflow.parentRunId"
PIPELINE = "pipeline"  # the parent's step
MAX_CHILDREN = 1000
MAX_NAME = 200  # characters of a run's name
ENDS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}

logger = logging.getLogger(__name__)


def pipeline_run(client: MlflowClient, experiment: str, record: Record) -> Run:
    """The parent: one per KFP run, else per resolved plan."""
    own = {PLAN: record.plan, STEP: PIPELINE}
    name = record.title or f"pipeline {record.plan[:8]}"
    tags = {key: value for key, value in record.tags.items() if not key.startswith("ndpnet.result.")}
    return _find_or_make(client, experiment, own, record, name=name, tags={**tags, "mlflow.source.name": "ndpnet"})


def find_pipeline(client: MlflowClient, experiment: str, plan: str) -> str | None:
    """Id of the parent's run, if there is one."""
    found = _find(client, experiment, {PLAN: plan, STEP: PIPELINE}) if is_plan(plan) else None
    return found.info.run_id if found else None


def step_run(client: MlflowClient, experiment: str, record: Record, parent: Run) -> tuple[Run, bool]:
    """The child of a record, and whether it was there already."""
    own = {PLAN: record.plan, STEP: record.step, KEY: record.key}
    found = _find(client, experiment, own)
    tags = {**record.tags, PARENT: parent.info.run_id, CATEGORY: record.category}
    run = found or _find_or_make(client, experiment, own, record, name=record.name, tags=tags)
    if found and found.data.tags.get(PARENT) != parent.info.run_id:
        client.set_tag(found.info.run_id, PARENT, parent.info.run_id)
    return run, found is not None


def find_step(client: MlflowClient, experiment: str, record: Record) -> Run | None:
    """The run of a record that some process has delivered."""
    return _find(client, experiment, {PLAN: record.plan, STEP: record.step, KEY: record.key})


def update_parent(client: MlflowClient, experiment: str, parent: Run) -> None:
    """A pipeline is running while a step of it is; else it ended as the latest runs of its steps did."""
    wanted = f"tags.`{PARENT}` = '{parent.info.run_id}'"
    children = client.search_runs([experiment], wanted, max_results=MAX_CHILDREN, order_by=["start_time ASC"])
    latest = {(run.data.tags.get(STEP), run.data.tags.get(CATEGORY)): run for run in children}
    ends = [run.info.status for run in latest.values()]
    status = next((each for each in ("RUNNING", "FAILED", "KILLED") if each in ends), "FINISHED")
    if status == "RUNNING":
        client.update_run(parent.info.run_id, status=status)
    else:
        end_time = max(run.info.end_time or run.info.start_time for run in latest.values())
        client.set_terminated(parent.info.run_id, status, end_time)


def _find_or_make(
    client: MlflowClient, experiment: str, own: Mapping[str, str], record: Record, *, name: str, tags: Mapping[str, str]
) -> Run:
    found = _find(client, experiment, own)
    if found:
        return found
    every = {key: shorten(value, MAX_TAG) for key, value in {**tags, **own}.items() if value}
    every |= {"mlflow.user": _user()}
    made = client.create_run(experiment, start_time=record.started_at, tags=every, run_name=shorten(name, MAX_NAME))
    # looked for again: another process, or a request that was sent twice, may have made it too
    return _find(client, experiment, own) or made


def _find(client: MlflowClient, experiment: str, own: Mapping[str, str]) -> Run | None:
    """The run with these tags. MLflow cannot keep two from being made at once: the earlier one stays, whoever looks."""
    wanted = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in own.items())
    runs = client.search_runs([experiment], wanted, ViewType.ACTIVE_ONLY, max_results=MAX_CHILDREN)
    runs = sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    for extra in runs[1:]:
        _remove(client, experiment, extra, runs[0])
    return runs[0] if runs else None


def _remove(client: MlflowClient, experiment: str, extra: Run, kept: Run) -> None:
    """Delete a second run of the same thing; its children move, its rows are delivered again by whoever has them."""
    logger.info("run %s was made twice: %s is removed", kept.info.run_id, extra.info.run_id)
    for child in client.search_runs([experiment], f"tags.`{PARENT}` = '{extra.info.run_id}'"):
        client.set_tag(child.info.run_id, PARENT, kept.info.run_id)
    client.delete_run(extra.info.run_id)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
