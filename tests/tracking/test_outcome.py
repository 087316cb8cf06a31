"""How a pipeline's run ended: told to MLflow and to a webhook, each whatever the other does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_servers import Answer, Request, serving
from mlflow.entities import Run
from mlflow_servers import new_database

from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.outcome import tell

pytestmark = pytest.mark.usefixtures("tracking_on")

FAILED = ("FAILED", "projects/1/jobs/x", "train-phase2 failed: no\nimages, password=hunter22")


class Webhook:
    """A receiver that answers with `status`, and keeps what it was told."""

    def __init__(self) -> None:
        self.status, self.told = 200, []

    def answer(self, request: Request) -> Answer:
        self.told.append(json.loads(request.body))
        return Answer(self.status)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    receiver = Webhook()
    with serving(receiver.answer) as address:
        monkeypatch.setenv("NDPNET_WEBHOOK_URL", f"http://{address}/hooks/s3cr3t-path")
        yield receiver


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(tmp_path))
    monkeypatch.setenv("NDPNET_KFP_RUN_ID", "run-7")
    return tmp_path


def run_of_pipeline() -> Run:
    client = connect()
    (run,) = client.search_runs([experiment_id(client)], "tags.`ndpnet.step` = 'pipeline'")
    return run


def test_both_are_told_and_no_secret_with_it(store: Path, webhook: Webhook) -> None:
    assert tell(*FAILED) == "FAILED"
    run = run_of_pipeline()
    assert run.info.status == "FAILED"
    assert run.data.tags["ndpnet.plan"] == "run-7"
    assert run.data.tags["ndpnet.outcome"] == "FAILED"
    assert run.data.tags["ndpnet.outcome.reason"] == "train-phase2 failed: no images, password=***"
    told = {"run": "run-7", "job": "projects/1/jobs/x", "state": "FAILED"}
    assert webhook.told == [told | {"reason": "train-phase2 failed: no images, password=***"}]
    tell("SUCCEEDED", "projects/1/jobs/x", "")  # the run again, now well: no second one
    assert run_of_pipeline().info.status == "FINISHED"
    assert run_of_pipeline().data.tags["ndpnet.outcome.reason"] == ""


NO_ADDRESSES = ["hooks.example.com/s3cr3t", "http://h/s3cr3t path", "http://[s3cr3t", "ftp://s3cr3t"]


@pytest.mark.parametrize("address", [None, *NO_ADDRESSES], ids=["dead", *NO_ADDRESSES])
def test_mlflow_is_told_though_the_webhook_is_dead_and_its_address_stays_secret(
    store: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    webhook.status = 500
    if address:
        monkeypatch.setenv("NDPNET_WEBHOOK_URL", address)
    with pytest.raises(ValueError, match="the webhook: no answer") as raised:
        tell(*FAILED)
    assert "s3cr3t" not in str(raised.value)
    assert run_of_pipeline().data.tags["ndpnet.outcome"] == "FAILED"


def test_the_webhook_is_told_though_mlflow_is_away(
    tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path))  # a folder, which MLflow refuses
    with pytest.raises(ValueError, match=r"told to MLflow: MLFLOW_TRACKING_URI is a folder"):
        tell(*FAILED)
    assert [each["run"] for each in webhook.told] == [FAILED[1]]
