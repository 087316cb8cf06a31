"""The images of this commit, where a container engine answers and has them; else everything here is skipped, loudly."""

import os
import subprocess
from collections.abc import Iterator

import docker
import pytest
from documents import ROOT
from images import BuiltImage


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [each for each in terminalreporter.stats.get("skipped", ()) if "containers" in each.keywords]
    reasons = [each.longrepr[2].removeprefix("Skipped: ") for each in skipped]
    for reason in sorted(set(reasons)):
        terminalreporter.write_line(f"NOT TESTED, {reasons.count(reason)} tests in containers: {reason}", yellow=True)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The container engine that DOCKER_HOST names, or the default one."""
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no container engine answers (start one, or set DOCKER_HOST): {error}")
    yield client
    client.close()


def _named(engine: docker.DockerClient, variable: str, name: str, target: str) -> BuiltImage:
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    wanted = os.environ.get(variable) or f"{name}:{commit}"
    try:
        return BuiltImage(engine, engine.images.get(wanted))
    except docker.errors.ImageNotFound:
        pytest.skip(f"no image {wanted} (run `make image TARGET={target}`, or name one in {variable})")


@pytest.fixture(scope="session")
def train_image(engine: docker.DockerClient) -> BuiltImage:
    """The image that runs every step."""
    return _named(engine, "NDPNET_TEST_IMAGE", "ndpnet", "train")


@pytest.fixture(scope="session")
def serve_image(engine: docker.DockerClient) -> BuiltImage:
    """The image that serves a registered model."""
    return _named(engine, "NDPNET_TEST_SERVE_IMAGE", "ndpnet-serve", "serve")


@pytest.fixture(scope="session")
def station_image(engine: docker.DockerClient) -> BuiltImage:
    """The image of a station."""
    return _named(engine, "NDPNET_TEST_STATION_IMAGE", "ndpnet-station", "station")
