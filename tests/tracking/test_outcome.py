"""How a pipeline's run ended: told to MLflow and to a webhook, each whatever the other does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow_servers import new_database

from ndpnet.tracking import outcome
from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.outcome import Outcome, tell

pytestmark = pytest.mark.usefixtures("tracking_on")

FAILED = Outcome("FAILED", "projects/1/jobs/x", "train-phase2 failed: no\nimages, password=hunter22")


class Webhook(ThreadingHTTPServer):
    """A receiver that answers with the next of `answers`, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.told: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hooks/s3cr3t-path"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    server = Webhook()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NDPNET_WEBHOOK_URL", server.url)
    monkeypatch.setattr(outcome, "PAUSE_SECONDS", 0.01)
    yield server
    server.shutdown()
    server.server_close()


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
    assert tell(FAILED) == "FAILED"
    run = run_of_pipeline()
    assert run.info.status == "FAILED"
    assert run.data.tags["ndpnet.plan"] == "run-7"
    assert run.data.tags["ndpnet.outcome"] == "FAILED"
    assert run.data.tags["ndpnet.outcome.reason"] == "train-phase2 failed: no images, password=***"
    told = {"run": "run-7", "job": "projects/1/jobs/x", "state": "FAILED"}
    assert webhook.told == [told | {"reason": "train-phase2 failed: no images, password=***"}]
    tell(Outcome("SUCCEEDED", "projects/1/jobs/x", ""))  # the run again, now well: no second one
    assert run_of_pipeline().info.status == "FINISHED"
    assert run_of_pipeline().data.tags["ndpnet.outcome.reason"] == ""


def test_a_webhook_that_fails_twice_is_told_the_third_time(store: Path, webhook: Webhook) -> None:
    webhook.answers = [500, 503]
    tell(FAILED)
    assert len(webhook.told) == 3


def test_mlflow_is_told_though_the_webhook_is_dead_and_its_address_stays_secret(store: Path, webhook: Webhook) -> None:
    webhook.answers = [500, 500, 500]
    with pytest.raises(ValueError, match="the webhook: no answer after 3 tries") as raised:
        tell(FAILED)
    assert "s3cr3t" not in str(raised.value)
    assert run_of_pipeline().data.tags["ndpnet.outcome"] == "FAILED"


def test_the_webhook_is_told_though_mlflow_is_away(
    tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path))  # a folder, which MLflow refuses
    with pytest.raises(ValueError, match=r"told to MLflow: MLFLOW_TRACKING_URI .* is a folder"):
        tell(FAILED)
    assert [each["run"] for each in webhook.told] == [FAILED.job]
