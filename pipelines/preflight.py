"""Before a run is started: would the cluster run it? What is asked, and from where, is said in every line."""

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipelines.checks import attempt, make_check
from pipelines.client import Cluster
from pipelines.image import check_image
from pipelines.image_registry import find_image
from pipelines.kubernetes_checks import check_kubernetes
from pipelines.package import Package

if TYPE_CHECKING:
    from ndpnet.doctor import Check


def check_cluster(
    cluster: Cluster | None,
    package: Package,
    *,
    commit: str,
    namespace: str,
    arguments: Mapping[str, Any] | None = None,
) -> "Iterator[Check]":
    """Yield the checks, one by one: most ask a server. namespace: that the pods run in; cluster: None if it is away."""
    if cluster is not None:
        yield check_versions(cluster.server_version)
    for image in package.images:
        yield attempt("image", lambda image=image: check_image_is_there(image, commit))
    yield from check_kubernetes(package, namespace)
    yield attempt("MLflow", _check_mlflow)
    for prefix in _prefixes(arguments or {}):
        yield attempt("S3", lambda prefix=prefix: check_prefix(prefix))


def check_versions(server: str) -> "Check":
    """Whether server and SDK are of one major version, and the server is not the older one."""
    sdk = version("kfp")
    found = f"kfp {sdk}, server {server or 'of unknown version'}"
    numbers = [_numbers(text) for text in (server, sdk)]
    if not all(numbers):
        return make_check("versions", "not checked", found)
    if numbers[0][0] != numbers[1][0]:
        return make_check("versions", "FAILED", found, f"install kfp {numbers[0][0]}.x")
    if numbers[0] < numbers[1]:
        return make_check("versions", "warning", found, "update the server: it may not know all that is compiled")
    return make_check("versions", "ok", found)


def check_image_is_there(image: str, commit: str) -> "Check":
    """Whether an image's name is of this code for certain, and its registry has it, as seen from here."""
    try:
        check_image(image, commit)
    except ValueError as error:
        return make_check("image", "FAILED", str(error), "compile with another image")
    try:
        digest = find_image(image)
    except (ConnectionError, PermissionError) as error:
        return make_check("image", "not checked", str(error))
    except ValueError as error:
        return make_check("image", "FAILED", str(error), "no node could pull it")
    return make_check("image", "ok", f"{image} is there, seen from here" + ("" if "@" in image else f": {digest}"))


def check_prefix(prefix: str) -> "Check":
    """Whether an S3 prefix can be listed, from here and with the credentials of this environment."""
    from ndpnet.storage.bucket import Retries
    from ndpnet.storage.s3 import open_bucket, parse_url

    bucket, key = parse_url(prefix)
    retries = Retries(num_attempts=1, num_first_attempts=1, connect_timeout=5, read_timeout=15)
    try:
        is_empty = next(open_bucket(bucket, num_connections=1, retries=retries).list(key), None) is None
    except ValueError as error:
        return make_check("S3", "FAILED", str(error), "check AWS_ENDPOINT_URL and the keys")
    return make_check("S3", "ok", f"{prefix} can be listed from here" + (", it is empty" if is_empty else ""))


def _check_mlflow() -> "Check":
    from ndpnet.doctor import check_tracking_server

    check = check_tracking_server()
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return make_check(
            "MLflow", "not checked", "MLFLOW_TRACKING_URI is not set here; pods take theirs from a secret"
        )
    return make_check("MLflow", check.verdict, f"{check.found}, from here", check.mend)


def _prefixes(arguments: Mapping[str, Any]) -> list[str]:
    return sorted({value for value in arguments.values() if isinstance(value, str) and value.startswith("s3://")})


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.removeprefix("v").split("-")[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) and text else ()
