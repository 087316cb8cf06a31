"""What the team server's files promise: pinned images, health checks, no password that stands in a file."""

import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import yaml
from documents import ROOT
from servers import DEPLOYED

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SECRETS = ("POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY")


def run_server(*options: object) -> "subprocess.CompletedProcess[str]":
    """Run server.py, which is to end by itself."""
    command = [sys.executable, str(DEPLOY / "server.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_service_has_a_health_check_and_a_pinned_image() -> None:
    assert set(COMPOSE["services"]) == {"postgres", "store", "mlflow"}
    for name, service in COMPOSE["services"].items():
        assert service["healthcheck"]["test"], name
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"]), name
    waits_for = COMPOSE["services"]["mlflow"]["depends_on"]
    assert {each["condition"] for each in waits_for.values()} == {"service_healthy"}
    assert set(waits_for) == {"postgres", "store"}
    lock = (DEPLOY.parent / "requirements.lock").read_text()
    for pin in ("mlflow", "boto3"):
        version = re.search(rf"^{pin}==(.+)$", lock, re.MULTILINE).group(1)
        assert f"{pin}=={version} " in COMPOSE["services"]["mlflow"]["build"]["dockerfile_inline"]


def test_no_secret_has_a_default_and_only_mlflow_can_be_reached() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for name in (*SECRETS, "ALLOWED_HOSTS"):
        uses = re.findall(rf"\$\{{{name}[^}}]*\}}", text)
        assert uses, name
        assert all(use.startswith(f"${{{name}:?") for use in uses), name
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["mlflow"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    (port,) = COMPOSE["services"]["mlflow"]["ports"]
    assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:")
    example = dict(
        line.split("=", 1) for line in (DEPLOY / "server.env.example").read_text().splitlines() if line[0] != "#"
    )
    assert all(example[name] == "" for name in SECRETS)
    assert "--allowed-hosts" in text
    assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS: ${ALLOWED_ORIGINS:-}" in text
    assert example["ALLOWED_ORIGINS"] == ""


def test_data_lies_in_volumes() -> None:
    for name in ("postgres", "store"):
        (mounted,) = COMPOSE["services"][name]["volumes"]
        assert mounted.partition(":")[0] in COMPOSE["volumes"]


def test_the_service_of_a_station_leaves_its_cameras_in_reach() -> None:
    unit = (DEPLOY / "station/ndpnet-station.service").read_text().splitlines()
    (families,) = (line for line in unit if line.startswith("RestrictAddressFamilies="))
    assert "AF_NETLINK" in families  # else getifaddrs fails, and with it Aravis's search for GigE cameras
    assert not [line for line in unit if line.startswith("PrivateDevices=")]


def test_the_keys_of_the_server_are_made_once_and_for_its_owner(tmp_path: Path) -> None:
    first = DEPLOYED.read_secrets(tmp_path)
    assert DEPLOYED.read_secrets(tmp_path) == first
    assert len(set(first.values())) == 3
    assert min(len(value) for value in first.values()) >= 32
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    DEPLOYED.weed_command(tmp_path, list(range(9000, 9009)), first)
    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600


def test_a_port_in_use_ends_in_one_line_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        finished = run_server("--folder", tmp_path / "server", "--port", port)
    assert finished.returncode == 1
    assert (
        finished.stderr == f"port {port} cannot be had: Address already in use (python deploy/server.py --port OTHER)\n"
    )
    assert list((tmp_path / "server").iterdir()) == []


def test_what_keeps_it_from_starting_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder of the store shall be")
    finished = run_server("--folder", tmp_path, "--port", 0, "--sqlite")
    assert finished.returncode == 1
    assert re.fullmatch(r"the server does not start: .+\n", finished.stderr)


def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    known = DEPLOYED.read_secrets(tmp_path)
    commands = [*DEPLOYED.weed_command(tmp_path, list(range(9000, 9009)), known), *DEPLOYED.mlflow_command(5000)]
    assert not [part for part in commands if any(value in part for value in known.values())]
    assert "localhost:5000,127.0.0.1:5000" in commands
