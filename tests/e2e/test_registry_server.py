"""The registry of a team: a real server, PostgreSQL, an S3 store; answers without sense."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from http_faults import Faults
from mlflow.entities import LoggedModelStatus
from mlflow_servers import MlflowServer
from samples import Pipeline

from ndpnet import steps
from ndpnet.config_platform import promotion_of
from ndpnet.inference.identity import package_hash
from ndpnet.promotion.promote import PromotionRequest, promote, rollback
from ndpnet.tracking import models
from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.moves import Author
from ndpnet.tracking.registry import CHAMPION, Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("tracking_on")]

ADA = Author("ada@here", "2026-01-01T00:00:00Z")


@pytest.fixture
def team(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """The server as this process's registry; clients have no keys of the store."""
    before = mlflow.get_tracking_uri()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (server.environment() | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}).items():
        monkeypatch.setenv(name, value)
    yield server
    mlflow.set_tracking_uri(before)


def with_versions(name: str, count: int) -> str:
    """Make a registered model of so many versions, each a LoggedModel without files. -> its name"""
    client = connect()
    client.create_registered_model(name)
    for _ in range(count):
        model_id = client.create_logged_model(experiment_id(client), name="m").model_id
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        client.create_model_version(name, f"models:/{model_id}", model_id=model_id)
    return name


def move(registry: Registry, version: int, *, gate: str = "passed") -> None:
    """All that a promotion tells the registry."""
    champion = registry.settle().champion
    registry.nominate(version)
    run_id = registry.keep_evidence(version, {"promotion.json": "{}"}, {"ndpnet.gate": gate}, "card")
    if gate == "passed":
        registry.move("promote", version, source=champion, author=ADA, run_id=run_id, evidence={})


def test_from_a_package_to_the_champion_and_back_by_way_of_the_server(
    team: MlflowServer, pipeline: Pipeline, tmp_path: Path
) -> None:
    steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params, {})
    record = models.register(pipeline.model_dir, tmp_path / "evaluation", identity={})
    name = record["name"]
    asked = PromotionRequest(name, promotion_of(pipeline.params), 1, pipeline.prepared_dir)
    assert promote(asked, ADA)["decision"] == "refused"
    promote(replace(asked, prepared_dir=None, force_reason="first"), ADA)
    got = models.download_package(name, CHAMPION, tmp_path / "champion")
    assert package_hash(got) == record["package_hash"]
    assert models.registered_metrics(name, 1)["model_hash"]
    with pytest.raises(ValueError, match="no champion before version 1"):
        rollback(name, "x", ADA)
    # addresses of the store itself, which clients need not reach
    assert "/presigned/" not in (team.folder / "server.log").read_text()


@pytest.mark.parametrize("answer", [(500, b"<html>"), (200, b"<html>sign in</html>"), (200, b'{"model_versions": 7}')])
def test_nonsense_is_one_line_and_moves_nothing(team: MlflowServer, answer: tuple[int, bytes]) -> None:
    name = with_versions(f"ndpnet-nonsense-{len(answer[1])}", 2)
    move(Registry(name), 1)
    with Faults(team.url) as faults:
        os.environ["MLFLOW_TRACKING_URI"] = faults.url
        faults.spoil(0, *answer)
        assert Registry(name).timeline().champion == 1
        for number in range(1, faults.number + 1):
            faults.spoil(number, *answer)
            if answer[1].startswith(b"{") and number == 1:
                continue  # a model without aliases, as far as anyone can tell
            with pytest.raises(ValueError, match=r"^[^\n]+$"):
                Registry(name).timeline()
        registry = Registry(name)
        move(registry, 2, gate="refused")
        faults.spoil(0, *answer)
        move(registry, 2, gate="refused")  # the same requests as of the move below, up to the upload
        uploads = [asked.startswith("PUT ") and asked.endswith("/promotion.json") for asked in faults.asked]
        faults.spoil(uploads.index(True) + 1, *answer)
        with pytest.raises(ValueError, match=r"registry failed|has not kept promotion.json"):
            move(registry, 2)
    os.environ["MLFLOW_TRACKING_URI"] = team.url
    assert Registry(name).aliases()[CHAMPION] == Registry(name).timeline().champion == 1
