"""How a pipeline's run ended: on its run in MLflow, and by a webhook, if one is set up."""

import os

from ndpnet.redaction import redact
from ndpnet.tracking.client import connect, experiment_id, is_off
from ndpnet.tracking.identity import KFP_RUN_VARIABLE

WEBHOOK_VARIABLE = "NDPNET_WEBHOOK_URL"
SUCCEEDED = "SUCCEEDED"
OUTCOME, REASON = "ndpnet.outcome", "ndpnet.outcome.reason"
TIMEOUT_SECONDS = 10.0
MAX_REASON = 2000  # characters


def tell(state: str, job: str, reason: str) -> str:
    """Note in MLflow how a run ended and tell the webhook, each whatever the other does. -> the state

    state: KFP's, as SUCCEEDED or FAILED; job: KFP's name of the run; reason: why it failed. ValueError: one of them
    could not be told; Kubeflow tries again.
    """
    run_id, reason = os.environ.get(KFP_RUN_VARIABLE) or job, redact(reason)[:MAX_REASON]
    problems = []
    content = {"run": run_id, "job": job, "state": state, "reason": reason}
    for what, act in (("MLflow", _note), ("the webhook", _call)):
        try:
            act(content)
        except Exception as error:  # whatever the network comes up with: the other one is still told
            problems.append(f"{what}: {redact(str(error))[:MAX_REASON]}")
    if problems:
        raise ValueError(f"the run ended {state}, but this could not be told to {'; '.join(problems)}")
    return state


def _note(content: dict[str, str]) -> None:
    if is_off():
        return
    from ndpnet.tracking.runs import PIPELINE, PLAN, STEP, find_or_make

    client, run_id = connect(), content["run"]
    own = {PLAN: run_id, STEP: PIPELINE}
    # a run that failed before its first step was tracked has none yet
    run = find_or_make(client, experiment_id(client), own, name=f"pipeline {run_id[:40]}", tags={})
    client.set_tag(run.info.run_id, OUTCOME, content["state"])
    client.set_tag(run.info.run_id, REASON, content["reason"])
    client.set_terminated(run.info.run_id, "FINISHED" if content["state"] == SUCCEEDED else "FAILED")


def _call(content: dict[str, str]) -> None:
    if not (url := os.environ.get(WEBHOOK_VARIABLE, "")):
        return
    import requests

    try:
        requests.post(url, json=content, timeout=TIMEOUT_SECONDS).raise_for_status()
    except OSError as error:  # every error of requests is one; the address itself is a secret
        raise ValueError(f"no answer ({type(error).__name__})") from None
