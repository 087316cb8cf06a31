"""Versions of registered models: their names, how they are found, the registry's errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from ndpnet.redaction import redact
from ndpnet.storage.bucket import S3_ERRORS
from ndpnet.tracking.client import connect, has_server, is_off

PACKAGE_HASH, EVALUATION_HASH, CATEGORY = "ndpnet.package_hash", "ndpnet.evaluation_hash", "ndpnet.category"
GIT_COMMIT = "ndpnet.git_commit"
SOURCE_HASH = "ndpnet.source_hash"  # the pictures of its category, as their source names them
MAX_MESSAGE = 500


class RegistryError(ValueError):
    """The registry is away, refuses, or is switched off: what it has is not known."""


def registered_name(category: str) -> str:
    """Name in the registry: `ndpnet-<category>`; whoever prepares pictures has checked that it has no odd letters."""
    return f"ndpnet-{category}"


def find_at(client: MlflowClient, name: str, ref: str | int) -> ModelVersion | None:
    """The version that a number or an alias means now; None: there is none."""
    try:
        if str(ref).isdecimal():
            return client.get_model_version(name, str(ref))
        return client.get_model_version_by_alias(name, str(ref))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def get_version(client: MlflowClient, name: str, ref: str | int) -> ModelVersion:
    """A version by number or alias. ValueError names those there are."""
    if version := find_at(client, name, ref):
        return version
    known = [str(version.version) for version in entries_of(name)]
    if known:
        known += client.get_registered_model(name).aliases
    raise ValueError(f"no {name} {str(ref)!r} in the registry (it has {', '.join(known) or 'no version'})")


def resolve_version(name: str, ref: str | int) -> tuple[int, str, str]:
    """Number, package hash and commit of the version that a number or alias means now.

    The commit is of the code that trained it, "unknown" where nobody could tell. ValueError: none, or not known.
    """
    with in_one_line():
        version = get_version(connect(), name, ref)
        return int(version.version), package_hash_of(version), version.tags.get(GIT_COMMIT, "unknown")


def package_hash_of(version: ModelVersion) -> str:
    """Hash of the package that was registered. ValueError: it was registered by something else."""
    digest = version.tags.get(PACKAGE_HASH)
    if digest is None:
        raise ValueError(
            f"{version.name} version {version.version} has no tag {PACKAGE_HASH} (register it with ndpnet)"
        )
    return digest


def champion_tags(category: str) -> dict[str, str]:
    """The tags of a category's champion; none where there is no champion. ValueError: the registry fails."""
    if not has_server():
        return {}
    with in_one_line():
        version = find_at(connect(), registered_name(category), "champion")
        return dict(version.tags) if version else {}


def entries_of(name: str) -> list[ModelVersion]:
    """Every version of a registered model on the server that `connect` has chosen; without aliases."""
    own = "name = '{}'".format(name.replace("'", ""))
    versions = mlflow.search_model_versions(filter_string=own, order_by=["version_number ASC"])
    return [version for version in versions if version.name == name]


def find_version(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    """The version that holds the package with this hash: the oldest, if two machines registered it at once."""
    versions = client.search_model_versions(f"tags.`{PACKAGE_HASH}` = '{digest}'")
    return min(
        (version for version in versions if version.name == name),
        key=lambda version: int(version.version),
        default=None,
    )


def model_id_of(version: ModelVersion) -> str:
    """The LoggedModel behind a version."""
    return str(version.source).removeprefix("models:/")


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn the registry's errors into a RegistryError of one line, without credentials."""
    if is_off():
        raise RegistryError("tracking is switched off, and the model registry with it (unset NDPNET_TRACKING)")
    try:
        yield
    except (MlflowException, RequestException, ParseError, *S3_ERRORS) as error:
        text = redact(str(error))[:MAX_MESSAGE]
        fix = "check MLFLOW_TRACKING_URI and, if its files lie on S3, AWS_ACCESS_KEY_ID; then try again"
        raise RegistryError(f"the model registry failed: {text} ({fix})") from error
