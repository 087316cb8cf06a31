"""Registering a model package with its evidence, once, and getting it back unchanged."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ndpnet.files import sha256_of
from ndpnet.folders import atomic_folder
from ndpnet.inference.identity import hash_without_engines, package_hash
from ndpnet.inference.package import CONFIG, REFERENCE, ModelPackage, read_package
from ndpnet.lineage import code_hash
from ndpnet.locks import locked
from ndpnet.model_card import shorten, write_card
from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.flavor import CARD, EVALUATION_PATH, PACKAGE_PATH
from ndpnet.tracking.record import KFP_RUN, records_of
from ndpnet.tracking.runs import PARENT, STEP, find_or_make, find_pipeline
from ndpnet.tracking.upload import Evaluation, fetch_folder, read_evaluation, uploaded
from ndpnet.tracking.versions import (
    CATEGORY,
    EVALUATION_HASH,
    GIT_COMMIT,
    PACKAGE_HASH,
    SOURCE_HASH,
    find_at,
    find_version,
    get_version,
    in_one_line,
    model_id_of,
    package_hash_of,
    registered_name,
)

logger = logging.getLogger(__name__)

# what a caller may say of the run that made a model; the rest is read from the package
RUN_IDENTITY = ("git_commit", "git_dirty", "git_changes", "lock_hash", "image_digest", "kfp_run_id", "source_hash")
# of what it was made from: in the package, so under its hash
IDENTITIES = ("training_data_hash", "params_hash", "code_hash")
MAX_DESCRIPTION, MAX_TAG = 5000, 500  # characters: below the registry's columns
GIT_DIRTY, LOCK_HASH = "ndpnet.git_dirty", "ndpnet.lock_hash"
GIT_CHANGES = "ndpnet.git_changes"
LOCK_SECONDS = 600.0


def register(
    package_dir: Path, evaluation_dir: Path, *, identity: Mapping[str, str], licence: str = ""
) -> dict[str, Any]:
    """Register a package as the next version of `ndpnet-<category>`; a package that has a version keeps it.

    identity: what RUN_IDENTITY names, as text; licence: of the data, for the card. A kill at any moment leaves nothing
    that looks registered; the next call finishes. -> name, version, run_id, model_id, package_hash, tags, ...
    ValueError: the folders do not belong together, the server cannot be reached or refuses.
    """
    package = read_package(package_dir)
    evaluation = read_evaluation(evaluation_dir, package)
    tags = version_tags(package, evaluation, identity)
    name = registered_name(package.config["category"])
    # of several processes one registers, and the others find it registered; the file stays, for the next ones
    place = Path(tempfile.gettempdir()) / f"ndpnet-register-{os.getuid()}-{tags[PACKAGE_HASH][:16]}.lock"
    busy = f"another process has been registering this package for long ({place})"
    with in_one_line(), locked(place, busy, wait_seconds=LOCK_SECONDS):
        client = connect(is_begun=False)
        version = find_version(client, name, tags[PACKAGE_HASH])
        card = write_card(package, evaluation.summary, evaluation.timing, name=name, tags=tags, licence=licence)
        if version is None:
            run_id = _run_of(client, package, tags)
            model = uploaded(client, package, evaluation, run_id=run_id, tags=tags, card=card)
            client.set_terminated(run_id)  # before: the next call of a killed one looks no further than the version
            version = _create_version(client, name, model, tags, card)
        else:
            version = _add_what_is_known_now(client, version, tags, card)
        return _record(version)


def download_package(name: str, ref: str | int, out_dir: Path) -> Path:
    """Write the package of a version (number or alias) to `out_dir`. -> `out_dir`

    ValueError: no such version, or what is stored is not what was registered.
    """
    with in_one_line():
        client = connect()
        version = get_version(client, name, ref)
        expected = package_hash_of(version)
        out_dir = Path(out_dir)
        if (out_dir / REFERENCE).is_file() and package_hash(out_dir) == expected:
            return out_dir
        with atomic_folder(out_dir, marker=REFERENCE) as folder:
            _fetch_package(client, version, folder)
            read_package(folder)
        return out_dir


def registered_origin(name: str, ref: str | int) -> dict[str, Any]:
    """What a version's package, of any format, says of its origin: lineage, is_recalibrated, hash_without_engines.

    ValueError: no such version, or what is stored is not what was registered.
    """
    with in_one_line(), tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
        client, folder = connect(), Path(scratch)
        _fetch_package(client, get_version(client, name, ref), folder)
        package = ModelPackage(folder, json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        own = {"is_recalibrated": package.is_recalibrated, "hash_without_engines": hash_without_engines(folder)}
        return package.config["lineage"] | own


def registered_metrics(name: str, ref: str | int) -> dict[str, Any]:
    """The metrics.json that a version was registered with. ValueError: none, or changed since."""
    with in_one_line(), tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
        client = connect()
        version = get_version(client, name, ref)
        fetch_folder(client, model_id_of(version), EVALUATION_PATH, Path(scratch) / "evaluation")
        path = Path(scratch) / "evaluation/metrics.json"
        if not path.is_file() or sha256_of(path) != version.tags.get(EVALUATION_HASH):
            raise ValueError(f"{name} version {version.version} has no metrics.json as registered (evaluate it again)")
        return json.loads(path.read_text(encoding="utf-8"))


def champion_summary(category: str) -> dict[str, Any] | None:
    """`version` and `summary` (metrics.json) of a category's champion; None: there is none, or it cannot be read."""
    name = registered_name(category)
    try:
        with in_one_line():
            version = find_at(connect(), name, "champion")
        if version is None:
            return None
        return {"version": int(version.version), "summary": registered_metrics(name, version.version)}
    except (ValueError, OSError) as error:
        logger.info("the report shows no champion: %s", error)
        return None


def version_tags(package: ModelPackage, evaluation: Evaluation, identity: Mapping[str, str]) -> dict[str, str]:
    """The tags of a version. ValueError: an identity that is not in RUN_IDENTITY, so that no secret slips in."""
    known = dict(identity)
    unknown = sorted(known.keys() - set(RUN_IDENTITY))
    if unknown:
        raise ValueError(f"no identity {unknown[0]!r} (one of {', '.join(RUN_IDENTITY)})")
    lineage = package.config["lineage"]
    tags = {"git_commit": "unknown", "git_dirty": "unknown", "lock_hash": "unknown"}
    if lineage["code_hash"] != code_hash():
        # the caller knows the commit that is checked out now, not the one whose code has trained
        known |= {"git_commit": "", "git_dirty": "", "git_changes": ""}
        logger.warning("%s was trained by other code than this: its commit is unknown", package.folder)
    tags |= {key: str(value)[:MAX_TAG] for key, value in known.items() if value}
    metrics_hash = sha256_of(evaluation.folder / "metrics.json")
    tags |= {"package_hash": package_hash(package.folder), "evaluation_hash": metrics_hash}
    tags["category"] = package.config["category"]
    return {f"ndpnet.{key}": value for key, value in sorted(tags.items())}


def _fetch_package(client: MlflowClient, version: ModelVersion, folder: Path) -> None:
    """Download a version's package. ValueError: it is not what was registered."""
    fetch_folder(client, model_id_of(version), PACKAGE_PATH, folder)
    digest, expected = package_hash(folder), package_hash_of(version)
    if digest != expected:
        raise ValueError(
            f"{version.name} version {version.version} is refused: its stored files have hash {digest}, registered was "
            f"{expected} (the store was changed: register the package again)"
        )


def _run_of(client: MlflowClient, package: ModelPackage, tags: Mapping[str, str]) -> str:
    """The run that registering this package logs to: found by its tags, else made, in the run of its pipeline."""
    experiment = experiment_id(client)
    own = {STEP: "register", PACKAGE_HASH: tags[PACKAGE_HASH]}
    pipeline = find_pipeline(client, experiment, tags.get(KFP_RUN) or _plan_of(package))
    lineage = {f"ndpnet.{key}": package.config["lineage"][key] for key in IDENTITIES}
    known = {**lineage, **tags, PARENT: pipeline or ""}
    return find_or_make(client, experiment, own, name=f"register {tags[CATEGORY]}", tags=known).info.run_id


def _plan_of(package: ModelPackage) -> str:
    """The plan of the pipeline whose step has left its record beside the package; "" without one."""
    made = [record for record in records_of(package.folder) if record.status == "finished"]
    return max(made, key=lambda record: record.ended_at or 0).plan if made else ""


def _create_version(
    client: MlflowClient, name: str, model: LoggedModel, tags: Mapping[str, str], card: str
) -> ModelVersion:
    """The one call that makes a model registered, with tags and description. -> the version that holds the package."""
    try:
        client.create_registered_model(name, tags={CATEGORY: tags[CATEGORY]})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id=model.source_run_id,
        tags=dict(tags),
        description=shorten(card, MAX_DESCRIPTION),
        model_id=model.model_id,
    )
    first = find_version(client, name, tags[PACKAGE_HASH])
    if first is not None and int(first.version) < int(created.version):
        client.delete_model_version(name, str(created.version))  # another machine was faster
        return first
    return created


def _add_what_is_known_now(
    client: MlflowClient, version: ModelVersion, tags: Mapping[str, str], card: str
) -> ModelVersion:
    """The commit that changed sources are in by now, and the newer pictures that gave the same package."""
    name, number = version.name, str(version.version)
    if version.tags.get(EVALUATION_HASH) != tags[EVALUATION_HASH]:
        logger.warning("%s version %s keeps the evidence of an earlier evaluation", name, number)
    elif version.tags.get(GIT_DIRTY) != "false" and tags[GIT_DIRTY] == "false":
        logger.info("%s version %s: its sources are committed by now", name, number)
        _replace_card(client, version, card)
        if GIT_CHANGES in version.tags:
            client.delete_model_version_tag(name, number, GIT_CHANGES)
        for key in (GIT_COMMIT, LOCK_HASH, GIT_DIRTY):  # what counts as clean comes last
            client.set_model_version_tag(name, number, key, tags[key])
    if SOURCE_HASH in tags:  # so that a run for new data need not train it again
        client.set_model_version_tag(name, number, SOURCE_HASH, tags[SOURCE_HASH])
    return client.get_model_version(name, number)


def _replace_card(client: MlflowClient, version: ModelVersion, card: str) -> None:
    client.update_model_version(version.name, str(version.version), shorten(card, MAX_DESCRIPTION))
    with tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
        (Path(scratch) / CARD).write_text(card, encoding="utf-8", newline="\n")
        client.log_model_artifact(model_id_of(version), str(Path(scratch) / CARD))


def _record(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": int(version.version),
        "run_id": version.run_id,
        "model_id": model_id_of(version),
        "model_uri": f"models:/{version.name}/{version.version}",
        "package_hash": version.tags[PACKAGE_HASH],
        "tags": dict(sorted(version.tags.items())),
    }
