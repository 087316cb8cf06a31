"""A bucket, the environment that leads to it, and a proxy on the way."""

import os
from collections.abc import Iterator

import pytest
from proxy import Proxy
from servers import S3Server


@pytest.fixture(scope="session")
def bucket(s3: S3Server) -> str:
    """One bucket for all: each test has its own prefix."""
    return s3.make_bucket()


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this server and its keys."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # the waits between them are seconds


@pytest.fixture
def proxy(s3: S3Server, s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server; downloads go through it."""
    with Proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
