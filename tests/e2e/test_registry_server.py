"""Tracking and registry of a team: a real server, PostgreSQL, an S3 store."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from mlflow_servers import stored_runs
from processes import TIME_LIMIT, wait_until
from samples import CATEGORY, Pipeline
from servers import DEPLOYED, free_port, set_only

from ndpnet import steps
from ndpnet.config_platform import promotion_of
from ndpnet.inference.identity import package_hash
from ndpnet.promotion.promote import PromotionRequest, promote, rollback
from ndpnet.tracking import models
from ndpnet.tracking.client import connect
from ndpnet.tracking.delivery import flush
from ndpnet.tracking.registry import CHAMPION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("tracking_on")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of a server that keeps its data there; pytest's are closed to the user postgres."""
    with tempfile.TemporaryDirectory(prefix="ndpnet-server-") as folder:
        yield Path(folder)


@pytest.fixture
def url(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running server before PostgreSQL where there can be one, which keeps artifacts on S3. -> its address"""
    running, port = {}, free_port()
    monkeypatch.setattr(DEPLOYED, "STOP_SECONDS", 1.0)  # the store takes a quarter of a minute to end, and is removed
    try:
        DEPLOYED.start_all(running, folder, port, use_postgres=not DEPLOYED.why_no_postgres())
        yield f"http://127.0.0.1:{port}"
    finally:
        DEPLOYED.stop_all(running)


def test_from_a_package_to_the_champion_and_back_by_way_of_the_server(
    url: str, folder: Path, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # clients have no keys of the store
    set_only(monkeypatch, {"MLFLOW_TRACKING_URI": url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    inputs = (pipeline.prepared_dir, pipeline.model_dir)
    steps.evaluate(*inputs, tmp_path / "evaluation", pipeline.params)
    list(flush(tmp_path))  # what a busy server had not yet taken
    assert stored_runs(connect())[f"evaluate {CATEGORY}"]["status"] == "FINISHED"
    record = models.register(pipeline.model_dir, tmp_path / "evaluation", identity={})
    name = record["name"]
    asked = PromotionRequest(name, promotion_of(pipeline.params), 1, pipeline.prepared_dir)
    assert promote(asked)["decision"] == "refused"
    promote(replace(asked, prepared_dir=None, force_reason="first"))
    got = models.download_package(name, CHAMPION, tmp_path / "champion")
    assert package_hash(got) == record["package_hash"]
    assert models.registered_metrics(name, 1)["model_hash"]
    with pytest.raises(ValueError, match="no champion before version 1"):
        rollback(name, "x")
    # addresses of the store itself, which clients need not reach
    assert "/presigned/" not in (folder / "mlflow.log").read_text()


@pytest.mark.skipif(bool(DEPLOYED.why_no_postgres()), reason=DEPLOYED.why_no_postgres())
def test_a_first_start_that_was_stopped_is_done_again(folder: Path) -> None:
    import psycopg

    running: dict[str, Any] = {}
    command = [sys.executable, ROOT / "deploy/server.py", "--folder", folder, "--port", str(free_port())]
    stopped = subprocess.Popen(command)
    wait_until(lambda: list(folder.glob("postgres*/PG_VERSION")))
    stopped.terminate()
    stopped.wait(TIME_LIMIT)
    try:
        uri = DEPLOYED.start_postgres(running, folder, free_port(), "password")
        with psycopg.connect(uri.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        DEPLOYED.stop_all(running)
