"""What a run or a schedule is asked for, made ready on the cluster: checked here, checked there, uploaded."""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndpnet.cli_registry import run_identity
from ndpnet.doctor import Check, has_failed
from pipelines.client import NAMESPACE, Cluster, connect
from pipelines.image import check_image
from pipelines.package import Package
from pipelines.preflight import check_cluster
from pipelines.submission import Version, find_or_create_experiment, params_argument, upload_version

SINGLE_USER_NAMESPACE = "kubeflow"  # where pods of a server for one user run

logger = logging.getLogger(__name__)
Show = Callable[[Iterable[Check]], None]


@dataclass(frozen=True)
class Request:
    """What submit and schedule are asked for alike."""

    host: str | None
    namespace: str | None
    package_path: Path | None
    experiment: str
    revision: str
    arguments: tuple[str, ...]
    version_name: str | None
    service_account: str
    skip_preflight: bool


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, on the server."""

    cluster: Cluster
    version: Version
    experiment_id: str
    arguments: dict[str, Any]


def prepare(request: Request, params: dict[str, Any], *, only_new_data: bool, show: Show) -> Prepared:
    """Check all that can be checked here, then the cluster; then upload. ValueError says what is in the way."""
    commit, version_name = _commit(request.version_name)
    package = load_package(request.package_path)
    for image in package.images:
        check_image(image, commit)
    arguments = _arguments(request, package, params, only_new_data=only_new_data)
    cluster = connect(request.host, request.namespace)
    if not request.skip_preflight:
        where = pods_namespace(cluster, request.namespace)
        checks = list(check_cluster(cluster, package, commit=commit, namespace=where, arguments=arguments))
        show(checks)
        if has_failed(checks):
            raise ValueError("the cluster cannot run it, see above (mend it, or pass --skip-preflight)")
    version = upload_version(cluster, package, version_name)
    logger.info("pipeline %s, version %s%s", package.name, version.name, " (new)" if version.is_new else "")
    return Prepared(cluster, version, find_or_create_experiment(cluster, request.experiment), arguments)


def load_package(path: Path | None) -> Package:
    """The compiled pipeline. ValueError: none is named, or it is none."""
    if path is None:
        raise ValueError("no compiled pipeline is named (pass --package build/pipelines/ndpnet-training.yaml)")
    return Package.load(path)


def pods_namespace(cluster: Cluster | None, namespace: str | None) -> str:
    """The namespace that pods run in."""
    known = cluster.namespace if cluster is not None else ""
    return known or namespace or os.environ.get(NAMESPACE) or SINGLE_USER_NAMESPACE


def _arguments(request: Request, package: Package, params: dict[str, Any], *, only_new_data: bool) -> dict[str, Any]:
    arguments: dict[str, Any] = {"params": params_argument(params), "revision": request.revision}
    if only_new_data:
        arguments["only_new_data"] = True
    for text in request.arguments:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"-a {text!r} is no NAME=VALUE")
        if name in ("params", "revision", "only_new_data"):
            raise ValueError(f"-a {name} has an option of its own (-P, --profile, --revision, --only-new-data)")
        arguments[name] = package.parse_argument(name, value)
    package.check_arguments(arguments)
    return arguments


def _commit(version_name: str | None) -> tuple[str, str]:
    """The commit of these sources, and the name of the version. ValueError: they are not what the commit says."""
    identity = run_identity()
    commit = identity["git_commit"]
    if version_name:
        return commit, version_name
    if commit == "unknown":
        raise ValueError("no git commit names these sources (work in a clone, or pass --version-name)")
    if identity["git_dirty"] != "false":
        raise ValueError("there are changes that are not committed (git commit them, or pass --version-name)")
    return commit, commit
