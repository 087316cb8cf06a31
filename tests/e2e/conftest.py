"""The tracking server of a team, once for all tests that need one."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from mlflow_servers import MlflowServer, PostgresServer
from servers import S3Server


@pytest.fixture(scope="session")
def server(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running tracking server before PostgreSQL where there can be one, which keeps artifacts on S3."""
    with ExitStack() as stack:
        uri = None if PostgresServer.why_not() else stack.enter_context(PostgresServer().running()).uri
        server = MlflowServer(tmp_path_factory.mktemp("mlflow"), backend_uri=uri, s3=s3, num_workers=2)
        yield stack.enter_context(server.running())
