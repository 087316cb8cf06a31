"""A registry for the tests with versions of the session's small package, and what is registered of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_servers import new_database
from samples import CATEGORY, Pipeline

from ndpnet.inference.package import write_config
from ndpnet.tracking import models
from ndpnet.tracking.client import experiment_id

NAME = f"ndpnet-{CATEGORY}"
IDENTITY = {"git_commit": "c" * 40, "git_dirty": "false", "lock_hash": "d" * 64}


def register_thresholds(pipeline: Pipeline, evaluation_dir: Path, folder: Path, thresholds: list[float | None]) -> str:
    """Register a version of the package per threshold; the first one is the champion. -> the registry's address"""
    packages = [
        with_threshold(pipeline.model_dir, folder / f"package {number}", threshold)
        for number, threshold in enumerate(thresholds, start=1)
    ]
    uri = register_all(evaluation_dir, folder, packages)
    MlflowClient(uri).set_registered_model_alias(NAME, "champion", "1")
    return uri


def register_all(evaluation_dir: Path, folder: Path, packages: list[Path]) -> str:
    """Register packages of the pipeline's network, in their order. -> the registry's address"""
    shutil.copytree(evaluation_dir, folder / "evaluated")
    summary = json.loads((folder / "evaluated/metrics.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_database(folder))
        patch.delenv("NDPNET_TRACKING", raising=False)
        for number, package_dir in enumerate(packages, start=1):
            config: dict[str, Any] = json.loads((package_dir / "config.json").read_text())
            changed = summary | {"threshold": config["threshold"]}
            (folder / "evaluated/metrics.json").write_text(json.dumps(changed))
            assert models.register(package_dir, folder / "evaluated", identity=IDENTITY)["version"] == number
        return os.environ["MLFLOW_TRACKING_URI"]


def with_threshold(package_dir: Path, folder: Path, threshold: float | None, **lineage: Any) -> Path:
    """A copy of a package with another calibrated threshold; lineage: what it claims of its origin."""
    shutil.copytree(package_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    config["threshold"] = None if threshold is None else config["threshold"] | {"value": threshold}
    config["lineage"] |= lineage
    write_config(folder, config)
    return folder


def stored_files(folder: Path) -> dict[str, Path]:
    """Files of the one stored model by their path in it."""
    roots = [path.parent for path in folder.rglob("MLmodel")]
    assert len(roots) == 1
    return {path.relative_to(roots[0]).as_posix(): path for path in sorted(roots[0].rglob("*")) if path.is_file()}


def logged_models(client: MlflowClient) -> list[tuple[str, str]]:
    """(id, status) of every LoggedModel that is not deleted."""
    return [(str(m.model_id), str(m.status)) for m in client.search_logged_models([experiment_id(client)])]
