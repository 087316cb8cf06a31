"""What is registered of the session's package."""

from pathlib import Path

from mlflow import MlflowClient
from samples import CATEGORY

from ndpnet.tracking.client import experiment_id

NAME = f"ndpnet-{CATEGORY}"
IDENTITY = {"git_commit": "c" * 40, "git_dirty": "false", "lock_hash": "d" * 64}


def stored_files(folder: Path) -> dict[str, Path]:
    """Files of the one stored model by their path in it."""
    roots = [path.parent for path in folder.rglob("MLmodel")]
    assert len(roots) == 1
    return {path.relative_to(roots[0]).as_posix(): path for path in sorted(roots[0].rglob("*")) if path.is_file()}


def logged_models(client: MlflowClient) -> list[tuple[str, str]]:
    """(id, status) of every LoggedModel that is not deleted."""
    return [(str(m.model_id), str(m.status)) for m in client.search_logged_models([experiment_id(client)])]
