"""Finding the run of a pipeline and the run of a step by their tags; making them when missing, once."""

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from ndpnet.tracking.client import NOTE
from ndpnet.tracking.flat import MAX_TAG, shorten
from ndpnet.tracking.identity import user_name
from ndpnet.tracking.record import Record, is_plan

PLAN, STEP, CATEGORY, KEY = "ndpnet.plan", "ndpnet.step", "ndpnet.category", "ndpnet.key"
PARENT = "mlflow.parentRunId"
PIPELINE = "pipeline"  # the parent's step
MAX_CHILDREN = 1000
DESCRIPTIONS = {
    PIPELINE: "All steps from pictures to a model, a run each; here are the parameters, and figures by category.",
    "version-data": "Which version of the data the steps read.",
    "prepare": "Pictures, decoded and split for training, calibration and test.",
    "synthesize": "The stock of artificial defects that training paints on good pictures.",
    "train-phase1": "First half of a training: encoder and decoder.",
    "train-phase2": "Second half of a training: what finds defects, then the threshold and the model package.",
    "evaluate": "The model judged on test pictures; report.html among the artifacts is for people.",
    "register": "A model package with its evaluation, brought into the registry.",
    "promote": "A version judged against the champion: promotion.txt has every check.",
}


def pipeline_run(client: MlflowClient, experiment: str, record: Record) -> Run:
    """The parent: one per KFP run, else per resolved plan."""
    own = {PLAN: record.plan, STEP: PIPELINE}
    name = record.title or f"pipeline {record.plan[:8]}"
    tags = record.tags | {"mlflow.source.name": "ndpnet"}
    return find_or_make(client, experiment, own, name=name, tags=tags, started_at=record.started_at)


def find_pipeline(client: MlflowClient, experiment: str, plan: str) -> str | None:
    """Id of the parent's run, if there is one."""
    runs = find_runs(client, experiment, {PLAN: plan, STEP: PIPELINE}) if is_plan(plan) else []
    return runs[0].info.run_id if runs else None


def step_run(client: MlflowClient, experiment: str, record: Record, parent: Run) -> Run:
    """The child of a record."""
    tags = {**record.tags, PARENT: parent.info.run_id, CATEGORY: record.category}
    own = {PLAN: record.plan, STEP: record.step, KEY: record.key}
    run = find_or_make(client, experiment, own, name=record.name, tags=tags, started_at=record.started_at)
    if run.data.tags.get(PARENT) != parent.info.run_id:
        client.set_tag(run.info.run_id, PARENT, parent.info.run_id)
    return run


def find_step(client: MlflowClient, experiment: str, record: Record) -> Run | None:
    """The run of a record that some process has delivered."""
    return next(iter(find_runs(client, experiment, {PLAN: record.plan, STEP: record.step, KEY: record.key})), None)


def find_runs(client: MlflowClient, experiment: str, own: Mapping[str, str]) -> list[Run]:
    """The runs with these tags, the earliest first: where two processes made one at once, it counts for everybody."""
    query = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in own.items())
    runs = client.search_runs([experiment], query, ViewType.ACTIVE_ONLY, max_results=MAX_CHILDREN)
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def update_parent(client: MlflowClient, experiment: str, parent: Run) -> None:
    """A pipeline is running while a step of it is; else it ended as the latest runs of its steps did."""
    written = None
    # looked at again: a step that has ended meanwhile may have written before
    while (seen := _end_of_steps(client, experiment, parent)) != written:
        written = seen
        if seen[0] == "RUNNING":
            client.update_run(parent.info.run_id, status=seen[0])
        else:
            client.set_terminated(parent.info.run_id, *seen)


def _end_of_steps(client: MlflowClient, experiment: str, parent: Run) -> tuple[str, int]:
    """Status and time of the latest runs of a pipeline's steps together."""
    children = find_runs(client, experiment, {PARENT: parent.info.run_id})
    latest = {(run.data.tags.get(STEP), run.data.tags.get(CATEGORY)): run for run in children}
    ends = [run.info.status for run in latest.values()]
    status = next((end for end in ("RUNNING", "FAILED", "KILLED") if end in ends), "FINISHED")
    return status, max(run.info.end_time or run.info.start_time for run in latest.values())


def find_or_make(
    client: MlflowClient,
    experiment: str,
    own: Mapping[str, str],
    *,
    name: str,
    tags: Mapping[str, str],
    started_at: int | None = None,
) -> Run:
    """The run with the tags `own`; where there is none yet it is made, with more tags, since now or `started_at`."""
    if runs := find_runs(client, experiment, own):
        return runs[0]
    note = DESCRIPTIONS.get(own[STEP], "")
    everything = {key: shorten(value, MAX_TAG) for key, value in {**tags, **own, NOTE: note}.items() if value}
    everything |= {"mlflow.user": user_name()}
    made = client.create_run(experiment, start_time=started_at, tags=everything, run_name=name)
    # looked for again: another process, or a request that was sent twice, may have made it too
    first, *others = find_runs(client, experiment, own) or [made]
    for run in others:
        client.delete_run(run.info.run_id)
    return first
