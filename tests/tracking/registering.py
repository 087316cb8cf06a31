"""An empty registry and the session's package with its evidence, to be registered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_servers import new_database
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.tracking import models
from ndpnet.tracking.client import experiment_id

NAME = f"ndpnet-{CATEGORY}"
IDENTITY = {"git_commit": "c" * 40, "git_dirty": "false", "lock_hash": "d" * 64}


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


@pytest.fixture(scope="module")
def evaluation_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate` says of the pipeline's package."""
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, folder, pipeline.params, {})
    return folder


@pytest.fixture
def register(pipeline: Pipeline, evaluation_dir: Path) -> Callable[..., dict[str, Any]]:
    """Register the pipeline's package."""
    return lambda **kwargs: models.register(pipeline.model_dir, evaluation_dir, **({"identity": IDENTITY} | kwargs))


def stored_files(folder: Path) -> dict[str, Path]:
    """Files of the one stored model by their path in it."""
    roots = [path.parent for path in folder.rglob("MLmodel")]
    assert len(roots) == 1
    return {path.relative_to(roots[0]).as_posix(): path for path in sorted(roots[0].rglob("*")) if path.is_file()}


def logged_models(client: MlflowClient) -> list[tuple[str, str]]:
    """(id, status) of every LoggedModel that is not deleted."""
    return [(str(m.model_id), str(m.status)) for m in client.search_logged_models([experiment_id(client)])]
