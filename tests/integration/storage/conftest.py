"""A bucket, the environment that leads to it, and a proxy on the way."""

from collections.abc import Iterator

import pytest
from proxy import Proxy
from servers import S3Server, set_only


@pytest.fixture(scope="session")
def bucket(s3: S3Server) -> str:
    """One bucket for all: each test has its own prefix."""
    return s3.make_bucket()


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this server and its keys."""
    set_only(monkeypatch, s3.environment() | {"AWS_MAX_ATTEMPTS": "2"})  # the waits between them are seconds


@pytest.fixture
def proxy(s3: S3Server, s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server; downloads go through it."""
    with Proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
