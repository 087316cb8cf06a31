"""Where the tracking server is, by the environment. MLflow is imported by the first connection."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ndpnet"
NOTE = "mlflow.note.content"  # what MLflow's pages show as the description
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # of machine learning, not of language models
    NOTE: "Surface inspection with ndpnet: a run for every pipeline, and in it one for every step.",
}
ARTIFACTS = "mlartifacts"
SWITCH, OFF = "NDPNET_TRACKING", ("off", "0", "false", "no")


def is_off() -> bool:
    """Whether the user has switched tracking off."""
    return os.environ.get(SWITCH, "").strip().lower() in OFF


def tracking_uri() -> str:
    """The tracking server, as the environment has it: by default a database in the working directory."""
    # DVC's `exp run --temp` and its queue run in a copy of the tree below it, and remove the copy
    tree, is_copy, _ = str(Path.cwd()).partition("/.dvc/tmp/exps/")
    database = f"{tree}/mlflow.db" if is_copy else "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{database}"


def has_server() -> bool:
    """Whether there is something to ask: a server, or a database that was made before."""
    database = local_database()
    return database is None or database.is_file()


def connect(*, is_begun: bool = True) -> "MlflowClient":
    """A client of the tracking server; its first call contacts it. ValueError: an address that MLflow refuses.

    is_begun: there must be records to read, else a local database that is not there; MLflow would make an empty one.
    """
    if is_begun and not has_server():
        raise ValueError(
            f"nothing is recorded in {local_database()} (go where you trained, or set MLFLOW_TRACKING_URI)"
        )
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # migrations of a new database, one line each
    uri = tracking_uri()
    if uri.startswith(("file:", ".", "/")) or ("://" not in uri and uri != "databricks"):
        # not shown: it may hold a password
        raise ValueError("MLFLOW_TRACKING_URI is a folder or no address (use sqlite:///mlflow.db or http://HOST:PORT)")
    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)  # `models:/` addresses are looked up there
    return mlflow.MlflowClient(uri)


def experiment_id(client: "MlflowClient") -> str:
    """Id of the experiment that all runs are in; it is made when missing. ValueError: somebody has deleted it."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        database = local_database()
        # a server decides for itself
        location = None if database is None else (database.parent / ARTIFACTS).as_uri()
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=location, tags=EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(EXPERIMENT)  # another process was faster
    if experiment is None or experiment.lifecycle_stage != "active":
        raise ValueError(f"the experiment {EXPERIMENT} was deleted (restore it: `mlflow experiments restore`)")
    return experiment.experiment_id


def local_database() -> Path | None:
    """The database file that stands for a server, by its whole path; None where there is a server."""
    uri = tracking_uri()
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).resolve()
