"""Stores to track into, one that goes away, and the session's package to be registered."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_servers import new_database
from registered import IDENTITY
from samples import Pipeline
from servers import free_port

from ndpnet.tracking import live, models


@pytest.fixture
def new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that makes an empty store of its own the current one. -> its folder, the working directory"""

    def make(name: str) -> Path:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(tmp_path / name))
        monkeypatch.setenv("NDPNET_TRACKING", "on")
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def store(new_store: Callable[[str], Path]) -> Path:
    """An empty store; its folder is the working directory."""
    return new_store("here")


@pytest.fixture
def register(pipeline: Pipeline, evaluation_dir: Path) -> Callable[..., dict[str, Any]]:
    """Register the pipeline's package."""
    return lambda **kwargs: models.register(pipeline.model_dir, evaluation_dir, **({"identity": IDENTITY} | kwargs))


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that makes the tracking server one that nobody listens at; calling it again brings back the store."""
    there = os.environ.get("MLFLOW_TRACKING_URI", "")

    def switch() -> None:
        is_down = os.environ["MLFLOW_TRACKING_URI"].startswith("http")
        uri = there if is_down else f"http://127.0.0.1:{free_port()}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    monkeypatch.setattr(live, "FLUSH_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return switch
