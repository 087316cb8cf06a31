"""A real PostgreSQL and tracking databases for the tests, and what one has of its runs."""

import functools
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers import DEPLOYED, Server, free_port


class PostgresServer(Server):
    """One PostgreSQL with a random password, as deploy/server.py starts it."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="ndpnet-postgres-")))  # pytest's are closed to its user
        self.password, self.port, self.uri = secrets.token_hex(12), 0, ""

    def start(self) -> None:
        running: dict[str, Any] = {}
        self.port = self.port or free_port()
        self.uri = DEPLOYED.start_postgres(running, self.folder, self.port, self.password)
        self._process = running["postgres"]

    def stop(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def _empty_database() -> bytes:
    """A database with MLflow's tables and nothing in them: making them takes seconds."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        MlflowClient(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def new_database(folder: Path) -> str:
    """Write an empty tracking database to `folder`. -> its address"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow.db").write_bytes(_empty_database())
    return f"sqlite:///{folder / 'mlflow.db'}"


def stored_runs(client: Any) -> dict[str, dict[str, Any]]:
    """Everything that the tracking server has of all runs, by their names, which must differ."""
    from ndpnet.tracking.client import experiment_id

    found: dict[str, dict[str, Any]] = {}
    for run in client.search_runs([experiment_id(client)]):
        name = run.data.tags["mlflow.runName"]
        assert name not in found, f"{name} is there twice"
        histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        found[name] = {
            "run_id": run.info.run_id,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {
                key: sorted((row.step, row.timestamp, row.value) for row in rows) for key, rows in histories.items()
            },
            "inputs": [each.dataset.to_dictionary() for each in run.inputs.dataset_inputs],
            "artifacts": sorted(_artifacts(client, run.info.run_id)),
        }
    return found


def _artifacts(client: Any, run_id: str, path: str | None = None) -> Iterator[tuple[str, int]]:
    for info in client.list_artifacts(run_id, path):
        if info.is_dir:
            yield from _artifacts(client, run_id, info.path)
        else:
            yield info.path, info.file_size
