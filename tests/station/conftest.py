"""One running station for the tests that only ask it, and databases for journals."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from mlflow_servers import PostgresServer
from samples import Pipeline
from servers import DEPLOYED
from stations import config_of, served


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL for all tests."""
    if reason := DEPLOYED.why_no_postgres():
        pytest.skip(reason)
    with PostgresServer().running() as server:
        yield server


@pytest.fixture
def journal_url(postgres: PostgresServer) -> str:
    """The address of its database, emptied."""
    with sa.create_engine(postgres.uri, isolation_level="AUTOCOMMIT").connect() as db:
        db.execute(sa.text("DROP SCHEMA public CASCADE"))
        db.execute(sa.text("CREATE SCHEMA public"))
    return postgres.uri.replace("+psycopg", "")


@pytest.fixture(scope="module")
def station(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A station and the address of its page; its model is the session's small one."""
    folder = tmp_path_factory.mktemp("station")
    server = {"port": 0, "max_megabytes": 1, "max_megapixels": 1}
    with served(config_of(folder, pipeline.model_dir, server=server)) as running:
        yield running
