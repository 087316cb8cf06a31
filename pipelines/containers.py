"""What a local run gives to its containers: the image by its content, this run's folders and settings, nothing else."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.pipelines.kubernetes import MLFLOW_VARIABLES, S3_VARIABLES, WEBHOOK_VARIABLE

if TYPE_CHECKING:
    from docker import DockerClient

    from ndpnet.config import Params
    from ndpnet.data.versions.version import DataSource

NAME, RUN_LABEL = "ndpnet", "ndpnet.run"
LOCAL_NAME = "ndpnet-local"  # tags by content: KFP's cache would take a tag that was built anew for the old one
# as in a pod, and what else decides how the tasks of `pipeline run` reach their servers, and their bits
PASSED = (
    *(*S3_VARIABLES, *MLFLOW_VARIABLES, WEBHOOK_VARIABLE, "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL"),
    *("NDPNET_TRACKING", "NDPNET_USER", "OMP_NUM_THREADS"),
)


def find_image(name: str, identity: Mapping[str, str]) -> tuple[str, str]:
    """The image of that name, else the one that `make image` builds of a commit. ValueError: no engine, no image.

    -> a name of its content, and its digest: of the registry, if it came from one or went there
    """
    import docker

    name = name or f"{NAME}:{identity['git_commit']}{'-dirty' if identity['git_dirty'] == 'true' else ''}"
    with closing(connect()) as engine:
        try:
            image = engine.images.get(name)
        except docker.errors.ImageNotFound as error:
            fix = "run `make image`, or name another one: -P cluster.image=NAME"
            raise ValueError(f"the container engine has no image {name} ({fix})") from error
        tag = image.id.partition(":")[2]
        image.tag(LOCAL_NAME, tag)
    digests = [reference.partition("@")[2] for reference in image.attrs["RepoDigests"] or ()]
    return f"{LOCAL_NAME}:{tag}", digests[0] if digests else image.id


def connect() -> "DockerClient":
    """A client of the engine that DOCKER_HOST names, or of the default one. ValueError: none answers."""
    import docker

    try:
        engine = docker.from_env()
        engine.ping()
    except docker.errors.DockerException as error:
        raise ValueError(f"no container engine answers (start one, or set DOCKER_HOST): {error}") from error
    return engine


def run_arguments(
    params: "Params", source: "DataSource", *, digest: str, run_id: str, folders: list[Path]
) -> dict[str, Any]:
    """What KFP's DockerRunner is told, as JSON: the caller's user, a read-only root, the host's network, folders.

    digest: of their image; folders: those that tasks write to.
    """
    from ndpnet.config_platform import cluster_of
    from ndpnet.tracking.client import local_database

    database = local_database()
    told = {name: os.environ[name] for name in PASSED if name in os.environ}
    if database is not None:  # by a path that holds in the container, too
        told["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    writable = [*folders, *([database.parent] if database else [])]
    return {
        "environment": told | {"NDPNET_KFP_RUN_ID": run_id, "NDPNET_IMAGE_DIGEST": digest},
        "mounts": _mounts(writable, _read_only_folders(params, source)),
        "labels": {RUN_LABEL: run_id},
        "user": f"{os.getuid()}:{os.getgid()}",
        "network_mode": "host",  # a server that listens on localhost is one for the tasks, too
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "shm_size": cluster_of(params).shm_size.removesuffix("i"),
    }


@contextmanager
def containers_removed(run_id: str) -> Iterator[None]:
    """No container of a run before this block, which a kill may have left and would hold the work folder, nor after."""
    _remove_containers(run_id)
    try:
        yield
    finally:
        _remove_containers(run_id)


def _remove_containers(run_id: str) -> None:
    with closing(connect()) as engine:
        for container in engine.containers.list(filters={"label": f"{RUN_LABEL}={run_id}"}):
            container.remove(force=True)


def _read_only_folders(params: "Params", source: "DataSource") -> list[Path]:
    """The data folder with the repository that pins it, and files that the parameters name."""
    named = [Path(text) for text in (params.losses.perceptual_weights, params.synthesis.sources) if text]
    folders = [path.resolve() for path in named if path.exists()]
    if source.folder is None:
        return folders
    data_dir = Path(source.folder).resolve()
    return [*folders, next((path for path in data_dir.parents if (path / ".dvc").is_dir()), data_dir)]


def _mounts(writable: list[Path], read_only: list[Path]) -> list[dict[str, Any]]:
    """Arguments of Docker's mounts, each folder where it is on the host, and once."""
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
    is_read_only = {path: True for path in read_only} | {path: False for path in writable}
    return [
        {"target": str(path), "source": str(path), "type": "bind", "read_only": flag}
        for path, flag in is_read_only.items()
    ]
