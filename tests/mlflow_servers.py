"""Real tracking servers for the tests: `mlflow server` on a free loopback port, before sqlite or PostgreSQL and S3."""

import functools
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers import S3Server, ServerProcess

POSTGRES_BINARIES = Path("/usr/lib/postgresql")
POSTGRES_LIMIT = 60.0


class MlflowServer(ServerProcess):
    """One `mlflow server` with a folder of its own. `start` waits until it answers."""

    name, start_limit, stop_limit = "server", 120.0, 5.0  # 20 to 45 seconds on busy cores

    def __init__(
        self, folder: Path, *, backend_uri: str | None = None, s3: S3Server | None = None, num_workers: int = 1
    ) -> None:
        super().__init__(folder)
        self.backend_uri = backend_uri or f"sqlite:///{self.folder / 'server.db'}"
        self.s3, self.num_workers = s3, num_workers
        self.artifacts = f"s3://{s3.make_bucket()}/artifacts" if s3 else str(self.folder / "artifacts")

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What a client needs to reach it; it needs no keys of the store."""
        return {"MLFLOW_TRACKING_URI": self.url, "NDPNET_TRACKING": "on"}

    def variables(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "AWS_"))}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if self.s3:
            environment |= self.s3.environment() | {"MLFLOW_S3_ENDPOINT_URL": self.s3.endpoint_url}
        return environment

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self.num_workers)),
            *("--backend-store-uri", self.backend_uri),
            *("--artifacts-destination", self.artifacts, "--serve-artifacts"),
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


class PostgresServer(ServerProcess):
    """One PostgreSQL with a random password; it refuses root, so root starts it as the user postgres."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix="ndpnet-postgres-")))  # pytest's are closed to that user
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.password = secrets.token_hex(12)

    @staticmethod
    def why_not() -> str:
        """Why there can be none here; "" if there can."""
        if postgres_binary("initdb") is None:
            return f"no PostgreSQL under {POSTGRES_BINARIES}"
        if importlib.util.find_spec("psycopg") is None:
            return "no psycopg, MLflow's way to PostgreSQL (pip install 'psycopg[binary]')"
        return ""

    @property
    def uri(self) -> str:
        """For `mlflow server --backend-store-uri`."""
        return f"postgresql+psycopg://ndpnet:{self.password}@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        """Make its data folder once."""
        data_dir = self.folder / "data"
        if not data_dir.exists():
            password_path = self.folder / "password"
            password_path.write_text(self.password)
            if self.user:
                shutil.chown(password_path, self.user)
            options = ["--username=ndpnet", "--auth=scram-sha-256", f"--pwfile={password_path}", "--no-sync"]
            self._run(postgres_binary("initdb"), "--pgdata", data_dir, "--encoding=UTF8", *options)
        settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", "fsync=off")
        options = [part for setting in settings for part in ("-c", setting)]
        return [str(postgres_binary("postgres")), "-D", str(data_dir), "-p", str(self.port), *options]

    def answers(self) -> bool:
        command = [postgres_binary("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "2"]
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0

    def stop(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: object) -> None:
        subprocess.run(
            [str(each) for each in command],
            cwd=self.folder,
            user=self.user,
            check=True,
            capture_output=True,
            timeout=POSTGRES_LIMIT,
        )


def postgres_binary(name: str) -> Path | None:
    """The newest PostgreSQL's program of this name."""
    found = sorted(POSTGRES_BINARIES.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return found[-1] if found else None


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
