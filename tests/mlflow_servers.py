"""Real tracking servers for the tests: `mlflow server` on a free loopback port, before sqlite or PostgreSQL and S3."""

import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servers import S3Server, _end_with_parent

START_LIMIT = 120.0  # seconds until it answers; 20 to 45 on busy cores
STOP_LIMIT = 5.0
POSTGRES_BINARIES = Path("/usr/lib/postgresql")
POSTGRES_LIMIT = 60.0


class MlflowServer:
    """One `mlflow server` with a folder of its own. `start` waits until it answers."""

    def __init__(
        self, folder: Path, *, backend_uri: str | None = None, s3: S3Server | None = None, num_workers: int = 1
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.backend_uri = backend_uri or f"sqlite:///{self.folder / 'server.db'}"
        self.s3, self.num_workers = s3, num_workers
        self.artifacts = f"s3://{s3.make_bucket()}/artifacts" if s3 else str(self.folder / "artifacts")
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, url: str | None = None) -> dict[str, str]:
        """What a client needs to reach it, or a proxy before it at `url`; it needs no keys of the store."""
        return {"MLFLOW_TRACKING_URI": url or self.url, "NDPNET_TRACKING": "on"}

    def start(self) -> None:
        """Start it on a new port, or after `kill` and `stop` on the same one."""
        is_restart = bool(self.port)
        deadline = time.monotonic() + START_LIMIT
        while True:
            self.port = self.port if is_restart else free_port()
            self._launch()
            if self._becomes_ready(deadline):
                return
            self.kill()  # another process may have taken the port
            if time.monotonic() > deadline:
                raise TimeoutError(f"mlflow server did not start:\n{self.log()}")

    def kill(self) -> None:
        """SIGKILL it and its workers, and wait until they are gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(START_LIMIT)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections are taken, nothing is answered."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start it again after `kill`: same port, same data."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it: politely, then by force."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT)
            self.kill()

    def log(self) -> str:
        """The end of what it printed."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def _launch(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "AWS_"))}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if self.s3:
            environment |= self.s3.environment() | {"MLFLOW_S3_ENDPOINT_URL": self.s3.endpoint_url}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call into libc
            )

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self.num_workers)),
            *("--backend-store-uri", self.backend_uri),
            *("--artifacts-destination", self.artifacts, "--serve-artifacts"),
        ]

    def _becomes_ready(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                time.sleep(0.2)
        return False


class PostgresServer:
    """One PostgreSQL with a random password; it refuses root, so root starts it as the user postgres."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ndpnet-postgres-"))  # pytest's folders are closed to that user
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.password = secrets.token_hex(12)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

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

    def start(self) -> None:
        """Make its data folder once, start it, wait until it answers."""
        data_dir = self.folder / "data"
        if not data_dir.exists():
            password_path = self.folder / "password"
            password_path.write_text(self.password)
            if self.user:
                shutil.chown(password_path, self.user)
            options = ["--username=ndpnet", "--auth=scram-sha-256", f"--pwfile={password_path}", "--no-sync"]
            self._run(postgres_binary("initdb"), "--pgdata", data_dir, "--encoding=UTF8", *options)
        self.port = self.port or free_port()
        command = [postgres_binary("postgres"), "-D", data_dir, "-p", str(self.port)]
        command += [
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={self.folder}",
            "-c",
            "fsync=off",
        ]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self.user,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call into libc, after the change of user
            )
        self._wait_until_ready()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(POSTGRES_LIMIT)
            self._process = None

    def restart(self) -> None:
        """Start it again: same port, same data."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + POSTGRES_LIMIT
        command = [postgres_binary("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "2"]
        while subprocess.run(command, capture_output=True, check=False, timeout=10).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError((self.folder / "postgres.log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)

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


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def stored_runs(client: Any, run_ids: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Everything that the tracking server has of all runs, or of these, by their names, which must differ."""
    from ndpnet.tracking.client import experiment_id

    found: dict[str, dict[str, Any]] = {}
    runs = map(client.get_run, run_ids) if run_ids else client.search_runs([experiment_id(client)])
    for run in runs:
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
