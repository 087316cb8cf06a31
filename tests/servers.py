"""Real servers for the tests, on free ports, that can be killed and started again; S3 is that of deploy/server.py."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from scripts import load_script

DEPLOYED = load_script("deploy/server.py")  # its processes end with this one
SERVICES = ("master", "volume", "filer", "s3")  # each listens to HTTP and to gRPC


class Server(ABC):
    """A process that leads a group of its own, with a folder for its data."""

    start_limit, stop_limit = 60.0, 1.0  # seconds until it answers, and to end by itself

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it on new ports, or after `stop` and `kill` on the same ones with the same data."""

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


class ServerProcess(Server):
    """One that is started by a command, and asked whether it answers."""

    name, num_ports = "server", 1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ports: list[int] = []  # where it listens, once it was started

    @property
    def port(self) -> int:
        """The first of its ports."""
        return self.ports[0]

    def start(self) -> None:
        deadline = time.monotonic() + self.start_limit
        is_restart = bool(self.ports)
        while True:
            if not is_restart:
                self.ports = DEPLOYED.free_ports(self.num_ports)
            self._process = launch(self.name, self.command(), self.folder, self.variables())
            while time.monotonic() < deadline and self._process.poll() is None:
                if self.answers():
                    return
                time.sleep(0.1)
            self.kill()  # another process may have taken a port
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not start:\n{self._log()}")

    def _log(self) -> str:
        path = self.folder / f"{self.name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    @abstractmethod
    def command(self) -> list[str]:
        """What is run."""

    def variables(self) -> dict[str, str]:
        """Its environment: that of the tests."""
        return os.environ.copy()

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used now."""


class S3Server(ServerProcess):
    """One SeaweedFS with its own keys and data folder. `start` waits until it can be written to."""

    name, num_ports = "weed", 2 * len(SERVICES)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.access_key, self.secret_key = secrets.token_hex(8), secrets.token_hex(16)
        self.other_keys = secrets.token_hex(8), secrets.token_hex(16)  # of one who may do nothing
        self.reader_keys = secrets.token_hex(8), secrets.token_hex(16)
        self._client: Any = None

    @property
    def port(self) -> int:
        """That of S3 itself, behind those of what it needs."""
        return self.ports[-2]

    @property
    def endpoint_url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

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

    def client(self) -> Any:
        """A boto3 client with its keys. One for all threads: it takes long to make."""
        import boto3
        from botocore.config import Config

        if self._client is None or self._client.meta.endpoint_url != self.endpoint_url:
            self._client = boto3.session.Session().client(
                "s3",
                endpoint_url=self.endpoint_url,
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                region_name="us-east-1",
                config=Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 3}),
            )
        return self._client

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Store an object in one request: its ETag is the md5."""
        self.client().put_object(Bucket=bucket, Key=key, Body=content)

    def make_bucket(self) -> str:
        """Make an empty bucket. -> its name. Each takes 7 of the 1000 volumes."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def kill(self) -> None:
        """SIGKILL, and remove the sockets that a killed one leaves."""
        super().kill()
        for name, port in zip(SERVICES, self.ports[1::2], strict=True):
            Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)

    def command(self) -> list[str]:
        known = {"access_key": self.access_key, "secret_key": self.secret_key}
        command = DEPLOYED.weed_command(self.folder, self.ports, known)
        path = self.folder / "s3.json"
        identities = [
            *json.loads(path.read_text())["identities"],
            _identity("reader", *self.reader_keys, ["Read", "List"]),
            _identity("nobody", *self.other_keys, ["Read:another-bucket"]),
        ]
        path.write_text(json.dumps({"identities": identities}))
        return [*command, "-volume.minFreeSpace=1GiB", "-s3.autoCreateBucket=false"]

    def answers(self) -> bool:
        """Write and read an object: the port answers long before the volumes do."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not is_listening(self.port):
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


def launch(name: str, command: list[str], folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a process that ends with this one; it prints to FOLDER/NAME.log."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    DEPLOYED.start(running, name, command, folder, environment)
    return running[name]


def set_only(patch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set these variables; nothing else in the environment leads to S3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in variables.items():
        patch.setenv(name, value)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    return DEPLOYED.free_ports(1)[0]


def is_listening(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
