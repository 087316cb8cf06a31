"""What a run or a schedule is asked for, made ready on the cluster: checked here, checked there, uploaded."""

import logging
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.client import NAMESPACE, Cluster, connect
from pipelines.image import check_image
from pipelines.package import Package
from pipelines.preflight import check_cluster
from pipelines.submission import Version, find_or_create_experiment, upload_version

if TYPE_CHECKING:
    from ndpnet.config import Params
    from ndpnet.doctor import Check

PACKAGES = Path("build/pipelines")
OWN_OPTIONS = {"params": "-P", "judging_params": "-P", "work_dir": "-P cluster.work_dir", "categories": "--category"}
OWN_OPTIONS |= {"only_new_data": "--only-new-data"}
SOURCE_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("url", "revision", "path", "prefix", "manifest")}
SOURCE_OPTIONS |= {"endpoint_url": "--endpoint-url"}

logger = logging.getLogger(__name__)
Show = Callable[[Iterable["Check"]], None]


@dataclass(frozen=True)
class Source:
    """Where a cluster finds the data. url: a git repository, by default the one that this clone is of."""

    url: str | None
    revision: str | None
    path: str
    prefix: str | None
    manifest: str | None
    endpoint_url: str | None

    @property
    def is_named(self) -> bool:
        """Whether any of it was said, but for the path, which has a default."""
        return any((self.url, self.revision, self.prefix, self.manifest, self.endpoint_url))

    def arguments(self) -> dict[str, str]:
        """As the training pipeline takes them. ValueError: a place that pods cannot reach, or that names a password."""
        from ndpnet.data.versions.fetching import check_source, checked_path

        url = self.url or (None if self.prefix else _origin())
        check_source(url, self.prefix, self.manifest)
        if url is not None:
            checked_path(url, self.path)
            _check_url(url)
        if self.manifest is not None and not self.manifest.startswith("s3://"):
            raise ValueError(f"pods cannot read manifest {self.manifest} (upload it, and pass s3://...)")
        named = {"url": url, "revision": self.revision, "path": self.path, "prefix": self.prefix}
        named |= {"manifest": self.manifest, "endpoint_url": self.endpoint_url}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Request:
    """What submit and schedule are asked for alike. further: NAME=VALUE of other parameters of the pipeline."""

    host: str | None
    namespace: str | None
    package_path: Path | None
    experiment: str
    categories: tuple[str, ...]
    source: Source
    further: tuple[str, ...]
    only_new_data: bool
    version_name: str | None
    service_account: str
    skip_preflight: bool


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, on the server."""

    cluster: Cluster
    pipeline: str
    version: Version
    experiment_id: str
    arguments: dict[str, Any]


def prepare(request: Request, params: "Params", show: Show) -> Prepared:
    """Check all that can be checked here, then the cluster; then upload. ValueError says what is in the way."""
    from ndpnet.doctor import has_failed

    commit, version_name = _commit(request.version_name)
    package = load_package(request.package_path, params)
    for image in package.images:
        check_image(image, commit)
    arguments = _arguments(request, package, params)
    cluster = connect(request.host, request.namespace)
    if not request.skip_preflight:
        where = pods_namespace(cluster, request.namespace, params)
        checks = list(check_cluster(cluster, package, commit=commit, namespace=where, arguments=arguments))
        show(checks)
        if has_failed(checks):
            raise ValueError("the cluster cannot run it, see above (mend it, or pass --skip-preflight)")
    version = upload_version(cluster, package, version_name)
    logger.info("pipeline %s, version %s%s", package.name, version.name, " (new)" if version.is_new else "")
    return Prepared(cluster, package.name, version, find_or_create_experiment(cluster, request.experiment), arguments)


def load_package(path: Path | None, params: "Params") -> Package:
    """A compiled pipeline; without a path the training, compiled now. ValueError: none there, or no image is named."""
    if path is not None:
        return Package.load(path)
    if not params.cluster.image:
        raise ValueError("cluster.image is empty (pass -P cluster.image=NAME@sha256:..., what `make image` has pushed)")
    from pipelines.compile import compile_training

    return Package.load(compile_training(params, PACKAGES))


def pods_namespace(cluster: Cluster | None, namespace: str | None, params: "Params") -> str:
    """The namespace that pods run in."""
    known = cluster.namespace if cluster is not None else ""
    return known or namespace or os.environ.get(NAMESPACE) or params.cluster.namespace


def _arguments(request: Request, package: Package, params: "Params") -> dict[str, Any]:
    implied = {
        "params": params.training_json(),
        "judging_params": params.to_json(),
        "work_dir": params.cluster.work_dir,
        "categories": [],
        "only_new_data": False,
    }
    arguments: dict[str, Any] = {name: value for name, value in implied.items() if name in package.parameters}
    arguments |= {"categories": list(request.categories)} if request.categories else {}
    arguments |= {"only_new_data": True} if request.only_new_data else {}
    has_source = "url" in package.parameters  # another pipeline may mean something else by prefix
    arguments |= request.source.arguments() if has_source or request.source.is_named else {}
    own_options = OWN_OPTIONS | (SOURCE_OPTIONS if has_source else {})
    for text in request.further:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"-a {text!r} is no NAME=VALUE")
        if name in own_options:
            raise ValueError(f"-a {name} has an option of its own (pass {own_options[name]})")
        arguments[name] = package.parse_argument(name, value)
    package.check_arguments(arguments)
    return arguments


def _check_url(url: str) -> None:
    if "://" in url and (urlsplit(url).password or urlsplit(url).username not in (None, "git")):
        raise ValueError("the git URL holds a login, which would be stored with the run (use git's credentials)")
    if "://" not in url and ":" not in url:
        raise ValueError(f"pods cannot reach {url} (pass --url https://... or --prefix s3://...)")


def _origin() -> str | None:
    """Where this clone is from; None where it is from nowhere."""
    command = ["git", "remote", "get-url", "origin"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _commit(version_name: str | None) -> tuple[str, str]:
    """The commit of these sources, and the name of the version. ValueError: they are not what the commit says."""
    from ndpnet.tracking.identity import run_identity

    identity = run_identity()
    commit = identity["git_commit"]
    if version_name:
        return commit, version_name
    if commit == "unknown":
        raise ValueError("no git commit names these sources (work in a clone, or pass --version-name)")
    if identity["git_dirty"] != "false":
        raise ValueError("there are changes that are not committed (git commit them, or pass --version-name)")
    return commit, commit
