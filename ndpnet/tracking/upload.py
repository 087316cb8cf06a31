"""Bringing a package into the tracking server as a LoggedModel: PENDING until all of it is there and was read back."""

import logging
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ndpnet.inference.identity import package_hash
from ndpnet.inference.package import ModelPackage
from ndpnet.tracking.flavor import PACKAGE_PATH, write_mlflow_model
from ndpnet.tracking.versions import PACKAGE_HASH

logger = logging.getLogger(__name__)

HOST = "ndpnet.host"
STALE_SECONDS = 3600.0  # after which the unfinished upload of another machine counts as given up


def find_uploaded(client: MlflowClient, experiment: str, digest: str) -> LoggedModel | None:
    """The finished upload of a package. Removes what failed or was killed.

    Call it while no other process of this machine uploads the same package.
    """
    finished = None
    for model in client.search_logged_models([experiment], filter_string=f"tags.`{PACKAGE_HASH}` = '{digest}'"):
        if model.status != LoggedModelStatus.READY:
            _remove_if_given_up(client, model)
        else:
            finished = finished or model
    return finished


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
    """Upload a package as a new LoggedModel, read it back, mark it READY. ValueError: it did not arrive as it was."""
    model = client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags=dict(tags) | {HOST: platform.node()}, params=dict(params)
    )
    try:
        with tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
            folder = Path(scratch) / "model"
            ids = Model(artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id)
            ids.model_id = model.model_id
            write_mlflow_model(
                folder,
                package,
                package_hash=tags[PACKAGE_HASH],
                model=ids,
                card=card,
                evaluation_dir=evaluation_dir,
            )
            client.log_model_artifacts(model.model_id, str(folder))
            fetch_folder(client, model.model_id, PACKAGE_PATH, Path(scratch) / "back")
            if package_hash(Path(scratch) / "back") != tags[PACKAGE_HASH]:
                raise ValueError(f"{package.folder} did not arrive whole at the tracking server (register it again)")
        return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    except Exception:
        _mark_failed(client, model)
        raise


def fetch_folder(client: MlflowClient, model_id: str, stored_path: str, folder: Path) -> None:
    """Download what lies in one folder of a LoggedModel; what it must hold is the caller's to check, by its hash."""
    # not by a URI of each file: a `#` in the path of a local store would end it
    location = client.get_logged_model(model_id).artifact_location
    store = get_artifact_repository(location, tracking_uri=client.tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        for path in Path(store.download_artifacts(stored_path, dst_path=scratch)).iterdir():
            path.rename(folder / path.name)


def _remove_if_given_up(client: MlflowClient, model: LoggedModel) -> None:
    is_mine = model.tags.get(HOST) == platform.node()
    age = time.time() - model.last_updated_timestamp / 1000
    if not is_mine and model.status == LoggedModelStatus.PENDING and age < STALE_SECONDS:
        logger.info("model %s is being uploaded by another machine: left alone", model.model_id)
        return
    logger.info("removing model %s: its upload did not finish", model.model_id)
    client.delete_logged_model(model.model_id)


def _mark_failed(client: MlflowClient, model: LoggedModel) -> None:
    try:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    except Exception as error:  # the server that failed the upload may fail this, too: PENDING is no less unfinished
        logger.warning("model %s stays PENDING until the next call: %s", model.model_id, type(error).__name__)
