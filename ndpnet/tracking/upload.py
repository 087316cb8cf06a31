"""A package and its evaluation in the tracking server as a LoggedModel, which is PENDING until all of it is there."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from ndpnet.inference.package import ModelPackage
from ndpnet.tracking.client import experiment_id
from ndpnet.tracking.flat import flat_params
from ndpnet.tracking.flavor import write_mlflow_model
from ndpnet.tracking.versions import EVALUATION_HASH, PACKAGE_HASH, registered_name

MEASURED = ("image_auroc", "pixel_auroc", "pro_auc", "f1", "precision", "recall", "recall_overlap", "false_alarm_rate")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` wrote of a package. summary: metrics.json; timing: timing.json."""

    folder: Path
    summary: dict[str, Any]
    timing: dict[str, Any]


def read_evaluation(folder: Path, package: ModelPackage) -> Evaluation:
    """The evaluation of this very package. ValueError: there is none, or it is of another package."""
    folder = Path(folder)
    try:
        summary, timing = (json.loads((folder / name).read_bytes()) for name in ("metrics.json", "timing.json"))
        identity = (summary["category"], summary["model_hash"], summary["threshold"])
    except FileNotFoundError as error:
        raise ValueError(f"no metrics.json in {folder} (run `ndpnet evaluate`)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/metrics.json cannot be read: {error!r} (run `ndpnet evaluate` again)") from error
    if identity != (package.config["category"], package.model_hash, package.threshold):
        raise ValueError(f"{folder} is the evaluation of another model than {package.folder} (evaluate this one)")
    return Evaluation(folder, summary, timing)


def uploaded(
    client: MlflowClient,
    package: ModelPackage,
    evaluation: Evaluation,
    *,
    run_id: str,
    tags: Mapping[str, str],
    card: str,
) -> LoggedModel:
    """The LoggedModel of a package, uploaded if it is not there yet; its figures are in the run, too."""
    experiment = experiment_id(client)
    query = " AND ".join(f"tags.`{key}` = '{tags[key]}'" for key in (PACKAGE_HASH, EVALUATION_HASH))
    models = client.search_logged_models([experiment], filter_string=query)
    # what an upload that failed or was killed has left is filled
    model = min(models, key=lambda model: model.status != LoggedModelStatus.READY, default=None)
    if model is None:
        model = client.create_logged_model(
            experiment,
            name=registered_name(package.config["category"]).replace(".", "-"),
            source_run_id=run_id,
            tags=dict(tags),
            params=flat_params(package.config["params"]),
        )
    if model.status != LoggedModelStatus.READY:
        _send_files(client, model, package, evaluation, card)
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    # the model's own time: logging them again changes nothing
    rows = [
        Metric(f"{key}{suffix}", evaluation.summary[key][part], model.creation_timestamp, 0, model_id=model.model_id)
        for key in MEASURED
        if evaluation.summary.get(key) is not None
        for suffix, part in (("", "value"), (".low", "low"), (".high", "high"))
    ]
    client.log_batch(run_id, metrics=rows)
    return model


def _send_files(
    client: MlflowClient, model: LoggedModel, package: ModelPackage, evaluation: Evaluation, card: str
) -> None:
    ids = Model(artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=model.source_run_id)
    ids.model_id = model.model_id
    with tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
        folder, evidence, package_hash = Path(scratch) / "model", evaluation.folder, model.tags[PACKAGE_HASH]
        write_mlflow_model(folder, package, package_hash=package_hash, model=ids, card=card, evaluation_dir=evidence)
        client.log_model_artifacts(model.model_id, str(folder))


def fetch_folder(client: MlflowClient, model_id: str, stored_path: str, folder: Path) -> None:
    """Download what lies in one folder of a LoggedModel; what it must hold is the caller's to check, by its hash."""
    # not by a URI of each file: a `#` in the path of a local store would end it
    location = client.get_logged_model(model_id).artifact_location
    store = get_artifact_repository(location, tracking_uri=client.tracking_uri)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        for path in Path(store.download_artifacts(stored_path, dst_path=scratch)).iterdir():
            path.rename(folder / path.name)
