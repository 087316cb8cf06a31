"""Tracking and registry of a team: a real server, PostgreSQL, an S3 store."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from documents import ROOT
from mlflow_servers import MlflowServer, PostgresServer, stored_runs
from processes import TIME_LIMIT, wait_until
from samples import CATEGORY, Pipeline
from scripts import load_script
from servers import S3Server, free_port, set_only

from ndpnet import tracked_steps
from ndpnet.config_platform import promotion_of
from ndpnet.inference.identity import package_hash
from ndpnet.promotion.promote import PromotionRequest, promote, rollback
from ndpnet.tracking import models
from ndpnet.tracking.client import connect
from ndpnet.tracking.delivery import flush
from ndpnet.tracking.moves import Author
from ndpnet.tracking.registry import CHAMPION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("tracking_on")]

ADA = Author("ada@here", "2026-01-01T00:00:00Z")


@pytest.fixture
def server(s3: S3Server, tmp_path: Path) -> Iterator[MlflowServer]:
    """A running tracking server before PostgreSQL where there can be one, which keeps artifacts on S3."""
    with ExitStack() as stack:
        uri = None if PostgresServer.why_not() else stack.enter_context(PostgresServer().running()).uri
        yield stack.enter_context(MlflowServer(tmp_path / "mlflow", backend_uri=uri, s3=s3, num_workers=2).running())


def test_from_a_package_to_the_champion_and_back_by_way_of_the_server(
    server: MlflowServer, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # clients have no keys of the store
    set_only(monkeypatch, server.environment() | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    inputs = (pipeline.prepared_dir, pipeline.model_dir)
    tracked_steps.evaluate(*inputs, tmp_path / "evaluation", pipeline.params)
    list(flush(tmp_path))  # what a busy server had not yet taken
    assert stored_runs(connect())[f"evaluate {CATEGORY}"]["status"] == "FINISHED"
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
    assert "/presigned/" not in (server.folder / "server.log").read_text()


@pytest.mark.skipif(bool(PostgresServer.why_not()), reason=PostgresServer.why_not())
def test_a_first_start_that_was_stopped_is_done_again() -> None:
    import psycopg

    folder = Path(tempfile.mkdtemp(prefix="ndpnet-server-"))  # pytest's are closed to the user postgres
    server, running = load_script("deploy/server.py"), {}
    command = [sys.executable, ROOT / "deploy/server.py", "--folder", folder, "--port", str(free_port())]
    try:
        stopped = subprocess.Popen(command)
        wait_until(lambda: list(folder.glob("postgres*/PG_VERSION")))
        stopped.terminate()
        stopped.wait(TIME_LIMIT)
        uri = server.start_postgres(running, folder, free_port(), "password")
        with psycopg.connect(uri.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop_all(running)
        shutil.rmtree(folder)
