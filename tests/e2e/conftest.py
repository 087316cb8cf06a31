"""The tracking server of a team, once for all tests that need one."""

from collections.abc import Iterator

import pytest
from mlflow_servers import MlflowServer, PostgresServer
from servers import S3Server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer | None]:
    """A running PostgreSQL; None where there can be none."""
    if PostgresServer.why_not():
        yield None
        return
    with PostgresServer().running() as server:
        yield server


@pytest.fixture(scope="session")
def server(
    postgres: PostgresServer | None, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """A running tracking server before PostgreSQL where there is one, which keeps artifacts on S3."""
    uri = postgres.uri if postgres else None
    with MlflowServer(tmp_path_factory.mktemp("mlflow"), backend_uri=uri, s3=s3, num_workers=2).running() as server:
        yield server
