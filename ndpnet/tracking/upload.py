"""Bringing a package into the tracking server as a LoggedModel, which is PENDING until all of it is there."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ndpnet.inference.package import ModelPackage
from ndpnet.tracking.flavor import write_mlflow_model
from ndpnet.tracking.versions import PACKAGE_HASH


def find_uploaded(client: MlflowClient, experiment: str, digest: str) -> LoggedModel | None:
    """The finished upload of a package; one that failed or was killed does not count."""
    models = client.search_logged_models([experiment], filter_string=f"tags.`{PACKAGE_HASH}` = '{digest}'")
    return next((model for model in models if model.status == LoggedModelStatus.READY), None)


def upload(
    client: MlflowClient,
    experiment: str,
    package: ModelPackage,
    *,
    name: str,
    run_id: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    card: str,
    evaluation_dir: Path,
) -> LoggedModel:
    """Upload a package as a new LoggedModel, and mark it READY."""
    model = client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=dict(tags), params=dict(params)
    )
    with tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
        ids = Model(artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id)
        ids.model_id = model.model_id
        digest, folder = tags[PACKAGE_HASH], Path(scratch) / "model"
        write_mlflow_model(folder, package, package_hash=digest, model=ids, card=card, evaluation_dir=evaluation_dir)
        client.log_model_artifacts(model.model_id, str(folder))
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def fetch_folder(client: MlflowClient, model_id: str, stored_path: str, folder: Path) -> None:
    """Download what lies in one folder of a LoggedModel; what it must hold is the caller's to check, by its hash."""
    # not by a URI of each file: a `#` in the path of a local store would end it
    location = client.get_logged_model(model_id).artifact_location
    store = get_artifact_repository(location, tracking_uri=client.tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        for path in Path(store.download_artifacts(stored_path, dst_path=scratch)).iterdir():
            path.rename(folder / path.name)
