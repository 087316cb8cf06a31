"""How a pipeline's run ended: on its run in MLflow, and by a webhook, if one is set up."""

import json
import logging
import os
import urllib.request
from dataclasses import dataclass

from ndpnet.redaction import redact
from ndpnet.tracking.client import connect, experiment_id, is_off, prepare_environment
from ndpnet.tracking.identity import KFP_RUN_VARIABLE

WEBHOOK_VARIABLE = "NDPNET_WEBHOOK_URL"
SUCCEEDED = "SUCCEEDED"
OUTCOME, REASON = "ndpnet.outcome", "ndpnet.outcome.reason"
TIMEOUT_SECONDS = 10.0
MAX_REASON = 2000  # characters

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The end of a run: KFP's state, as SUCCEEDED or FAILED; job: KFP's name of the run; reason: why it failed."""

    state: str
    job: str
    reason: str


def tell(outcome: Outcome) -> str:
    """Note the outcome in MLflow and tell the webhook, each whatever the other does. -> the state

    ValueError: one of them could not be told; Kubeflow tries again.
    """
    run_id = os.environ.get(KFP_RUN_VARIABLE) or outcome.job
    problems = []
    for what, act in (("MLflow", _note), ("the webhook", _call)):
        try:
            act(run_id, outcome)
        except Exception as error:  # whatever the network comes up with: the other one is still told
            problems.append(f"{what}: {redact(str(error))[:MAX_REASON]}")
    if problems:
        raise ValueError(f"the run ended {outcome.state}, but this could not be told to {'; '.join(problems)}")
    return outcome.state


def _note(run_id: str, outcome: Outcome) -> None:
    if is_off():
        return
    prepare_environment()  # before MLflow is imported
    from ndpnet.tracking.runs import PIPELINE, PLAN, STEP, find_runs

    client = connect()
    experiment = experiment_id(client)
    own = {PLAN: run_id, STEP: PIPELINE}
    runs = find_runs(client, experiment, own)
    # a run that failed before its first step was tracked has none yet
    run = runs[0] if runs else client.create_run(experiment, tags=own, run_name=f"pipeline {run_id[:40]}")
    client.set_tag(run.info.run_id, OUTCOME, outcome.state)
    client.set_tag(run.info.run_id, REASON, redact(outcome.reason)[:MAX_REASON])
    client.set_terminated(run.info.run_id, "FINISHED" if outcome.state == SUCCEEDED else "FAILED")


def _call(run_id: str, outcome: Outcome) -> None:
    url = os.environ.get(WEBHOOK_VARIABLE, "")
    if not url:
        return
    content = {"run": run_id, "job": outcome.job, "state": outcome.state, "reason": redact(outcome.reason)[:MAX_REASON]}
    request = urllib.request.Request(
        url, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return
    except OSError as error:  # the address itself is a secret
        raise ValueError(f"no answer ({type(error).__name__})") from None
