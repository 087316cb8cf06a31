"""Registering: once, whole or not at all, and what is stored is what comes back or is refused."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from calls import Calls, Killed, end_here
from registered import IDENTITY, NAME, logged_models, stored_files
from samples import CATEGORY, Pipeline
from servers import set_only

from ndpnet.inference.identity import package_files, package_hash
from ndpnet.inference.package import read_package, write_config
from ndpnet.model_card import SHORTENED
from ndpnet.tracking import models, versions
from ndpnet.tracking.client import EXPERIMENT, connect, experiment_id
from ndpnet.tracking.flavor import PACKAGE_PATH

REGISTRY_CALLS = (
    "search_model_versions", "get_experiment_by_name", "search_runs", "create_run", "search_logged_models",
    "create_logged_model", "log_model_artifacts", "list_logged_model_artifacts", "finalize_logged_model", "log_batch",
    "create_registered_model", "create_model_version", "set_terminated",
)  # fmt: skip


def test_a_version_carries_identity_evidence_and_card(
    store: Path, pipeline: Pipeline, evaluation_dir: Path, register: Callable[..., dict[str, Any]]
) -> None:
    record = register(licence="CC BY 4.0")
    digest = package_hash(pipeline.model_dir)
    assert (record["name"], record["version"], record["package_hash"]) == (NAME, 1, digest)
    assert json.loads(json.dumps(record)) == record
    client = connect()
    version = client.get_model_version(NAME, "1")
    lineage = read_package(pipeline.model_dir).config["lineage"]
    assert version.tags == record["tags"]
    assert version.tags == {
        "ndpnet.package_hash": digest,
        "ndpnet.evaluation_hash": models.sha256_of(evaluation_dir / "metrics.json"),
        "ndpnet.category": CATEGORY,
        "ndpnet.git_commit": "c" * 40,
        "ndpnet.git_dirty": "false",
        "ndpnet.lock_hash": "d" * 64,
    }
    assert version.description.startswith(f"# {NAME}\n")
    assert len(version.description) <= models.MAX_DESCRIPTION
    assert version.description.endswith(SHORTENED)
    assert version.run_id == record["run_id"]
    of_run = client.get_run(record["run_id"]).data.tags
    for key in ("training_data_hash", "params_hash", "code_hash"):
        assert of_run[f"ndpnet.{key}"] == lineage[key]
    model = client.get_logged_model(record["model_id"])
    assert (client.get_run(record["run_id"]).info.status, str(model.status)) == ("FINISHED", "READY")
    summary = json.loads((evaluation_dir / "metrics.json").read_text())
    measured = {metric.key: metric.value for metric in model.metrics}
    assert measured["image_auroc"] == summary["image_auroc"]["value"]
    assert measured["recall.low"] == summary["recall"]["low"]
    assert model.params["train.phase1.epochs"] == "4.0"
    assert models.registered_metrics(NAME, 1) == summary


def test_what_is_stored_has_no_pickle_and_no_path_of_this_machine(
    store: Path, pipeline: Pipeline, register: Callable[..., dict[str, Any]]
) -> None:
    register(licence="CC BY 4.0")
    files = stored_files(store)
    inside = {name.rpartition("/")[2] for name in files if name.startswith(f"{PACKAGE_PATH}/")}
    assert inside == set(package_files(pipeline.model_dir))
    for name in inside:
        assert files[f"{PACKAGE_PATH}/{name}"].read_bytes() == (pipeline.model_dir / name).read_bytes()
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pyc", ".pt"))]
    assert {"code/ndpnet/inference/inspector.py", "code/ndpnet/params.yaml", "serving_model.py"} <= set(files)
    assert "Licence of the data: CC BY 4.0" in files["model_card.md"].read_text()
    assert files["evaluation/metrics.json"].is_file()
    for name in ("MLmodel", "requirements.txt", "conda.yaml", "model_card.md"):
        text = files[name].read_text().replace(str(store), "")  # the store's own place
        assert str(Path(models.__file__).parents[2]) not in text, name
        assert "/tmp/" not in text, name


def test_the_same_package_registers_once(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    first = register()
    assert register(identity={}) == first
    client = connect()
    assert [version.version for version in versions.entries_of(NAME)] == [1]
    assert logged_models(client) == [(first["model_id"], "READY")]
    assert len(client.search_runs([experiment_id(client)])) == 1


def test_the_same_package_of_newer_pictures_says_so(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    identity = {"source_hash": "a" * 64}
    first = register(identity=identity)
    assert first["tags"]["ndpnet.source_hash"] == "a" * 64
    again = register(identity={"source_hash": "b" * 64})
    assert (again["version"], again["tags"]["ndpnet.source_hash"]) == (first["version"], "b" * 64)
    # by hand, without a version of the data: what is known stays
    assert register(identity={})["tags"] == again["tags"]


@pytest.mark.slow
def test_killed_between_any_two_calls_and_called_again(
    new_store: Callable[[str], Path],
    register: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    calls = Calls(monkeypatch.setattr, REGISTRY_CALLS)
    calls.act = end_here
    for number in itertools.count(1):
        new_store(f"store{number}")
        calls.number, calls.at = 0, number
        try:
            register()
        except Killed:
            pass
        else:
            break
        calls.at = 0
        client = connect()
        # whatever is there already is whole
        for version in versions.entries_of(NAME):
            models.download_package(NAME, version.version, tmp_path / f"before{number}")
        record = register()
        assert record["version"] == 1, calls.broken
        assert logged_models(client) == [(record["model_id"], "READY")], calls.broken
        assert [version.version for version in versions.entries_of(NAME)] == [1], calls.broken
        (run,) = client.search_runs([experiment_id(client)])
        assert run.info.status == "FINISHED", calls.broken
        assert len(client.get_metric_history(record["run_id"], "image_auroc")) <= 2, calls.broken
        models.download_package(NAME, 1, tmp_path / f"after{number}")
    expected = {"create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_model_version"}
    assert expected <= set(calls.broken)


def test_what_a_killed_call_has_uploaded_with_another_evaluation_is_not_registered(
    store: Path,
    register: Callable[..., dict[str, Any]],
    pipeline: Pipeline,
    evaluation_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = Calls(monkeypatch.setattr, ["create_model_version"])
    calls.at, calls.act = 1, end_here
    with pytest.raises(Killed):
        register()
    newer = shutil.copytree(evaluation_dir, store / "newer")
    summary = json.loads((newer / "metrics.json").read_text()) | {"notes": ["evaluated again"]}
    (newer / "metrics.json").write_text(json.dumps(summary))
    models.register(pipeline.model_dir, newer, identity=IDENTITY)
    assert models.registered_metrics(NAME, 1) == summary


def test_the_evaluation_must_be_of_this_package(
    store: Path, pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path
) -> None:
    def register(folder: Path) -> None:
        models.register(pipeline.model_dir, folder, identity={})

    with pytest.raises(ValueError, match=r"no metrics.json in .*evaluate"):
        register(tmp_path)
    other_dir = shutil.copytree(evaluation_dir, tmp_path / "other")
    summary = json.loads((other_dir / "metrics.json").read_text())
    other_threshold = {"threshold": summary["threshold"] | {"value": 0.1}}
    for change in ({"category": "floor"}, {"model_hash": "0" * 64}, other_threshold, {"threshold": None}):
        (other_dir / "metrics.json").write_text(json.dumps(summary | change))
        with pytest.raises(ValueError, match="is the evaluation of another model"):
            register(other_dir)
    for damaged in ("{", "[]", "{}"):
        (other_dir / "metrics.json").write_text(damaged)
        with pytest.raises(ValueError, match="cannot be read"):
            register(other_dir)
    client = connect()
    assert logged_models(client) == []


def test_what_was_uncommitted_gets_its_commit_by_registering_again(
    store: Path, register: Callable[..., dict[str, Any]]
) -> None:
    dirty = register(identity={"git_commit": "b" * 40, "git_dirty": "true", "git_changes": "new.py"})
    assert register(identity={"git_commit": "c" * 40, "git_dirty": "true"}) == dirty
    clean = register()
    assert dirty["tags"].pop("ndpnet.git_changes") == "new.py"
    assert (clean["version"], clean["tags"]) == (1, dirty["tags"] | {f"ndpnet.{k}": v for k, v in IDENTITY.items()})
    assert register(identity={"git_commit": "e" * 40, "git_dirty": "false"}) == clean, "once known it stays"
    card = stored_files(store)["model_card.md"].read_text()
    assert ("c" * 40 in card, "uncommitted" in card) == (True, False)
    assert connect().get_model_version(NAME, "1").description.startswith(card[:500])


def test_a_model_of_other_code_has_no_commit(
    store: Path, pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(pipeline.model_dir, tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    config["lineage"]["code_hash"] = "0" * 64
    write_config(folder, config)
    tags = models.register(folder, evaluation_dir, identity=IDENTITY)["tags"]
    assert (tags["ndpnet.git_commit"], tags["ndpnet.git_dirty"]) == ("unknown", "unknown")
    assert "was trained by other code than this" in caplog.text


def test_the_run_is_part_of_its_pipelines_run(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    client = connect()
    own = {"ndpnet.plan": "kfp-1", "ndpnet.step": "pipeline"}
    parent = client.create_run(experiment_id(client), tags=own).info.run_id
    record = register(identity=IDENTITY | {"kfp_run_id": "kfp-1"})
    assert client.get_run(record["run_id"]).data.tags["mlflow.parentRunId"] == parent


def test_no_secret_becomes_a_tag(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="no identity 'AWS_SECRET_ACCESS_KEY'") as caught:
        register(identity={"AWS_SECRET_ACCESS_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_tracking_switched_off_has_no_registry(
    register: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDPNET_TRACKING", "off")
    for call in (register, lambda: models.download_package(NAME, 1, tmp_path / "got")):
        with pytest.raises(ValueError, match="unset NDPNET_TRACKING"):
            call()


def test_several_at_once_give_one_version(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    with ThreadPoolExecutor(3) as threads:
        records = list(threads.map(lambda _: register(), range(3)))
    assert records[0] == records[1] == records[2]
    client = connect()
    assert logged_models(client) == [(records[0]["model_id"], "READY")]
    assert [version.version for version in versions.entries_of(NAME)] == [1]


def test_two_machines_at_once_keep_the_first_version(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    record = register()
    client = connect()
    # what the slower machine does: its search was before the other's version
    model = client.get_logged_model(record["model_id"])
    assert int(models._create_version(client, NAME, model, record["tags"], "card").version) == 1
    assert [version.version for version in versions.entries_of(NAME)] == [1]
    assert register() == record


def test_a_server_that_does_not_answer_is_named_without_its_password(
    register: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hunter2@127.0.0.1:9")
    with pytest.raises(ValueError, match=r"registry failed.*127\.0\.0\.1") as caught:
        register()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_registry_whose_files_lie_on_s3_names_what_s3_refuses(
    register: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    without_keys = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
    set_only(monkeypatch, without_keys | {"AWS_SHARED_CREDENTIALS_FILE": os.devnull})
    connect(is_begun=False).create_experiment(EXPERIMENT, artifact_location="s3://models/ndpnet")
    with pytest.raises(ValueError, match=r"registry failed: Unable to locate credentials .*AWS_ACCESS_KEY_ID"):
        register()
