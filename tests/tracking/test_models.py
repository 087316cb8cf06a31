"""Registering: once, whole or not at all, and what is stored is what comes back or is refused."""

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from processes import SERVER, TIME_LIMIT, kill_when
from processor import EXPORTED_NAMES
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.cli import main
from ndpnet.inference import Inspector
from ndpnet.inference.identity import model_hash, package_files, package_hash, sealed
from ndpnet.inference.package import read_package, write_config
from ndpnet.tracking import models, upload, versions
from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.flavor import PACKAGE_PATH
from ndpnet.tracking.identity import run_identity

NAME = f"ndpnet-{CATEGORY}"
IDENTITY = {"git_commit": "c" * 40, "git_dirty": "false", "lock_hash": "d" * 64}
REGISTRY_CALLS = (
    "search_model_versions", "get_experiment_by_name", "search_runs", "create_run", "search_logged_models",
    "create_logged_model", "log_model_artifacts", "list_logged_model_artifacts", "finalize_logged_model", "log_batch",
    "create_registered_model", "create_model_version", "set_terminated",
)  # fmt: skip


class Killed(BaseException):
    """The process ends here: no handler of the library may catch it."""


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables: making them takes seconds."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def new_store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """A function that makes an empty store of its own the current one. -> its folder"""
    before = mlflow.get_tracking_uri()

    def make(name: str = "here") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copyfile(empty_store, folder / "mlflow.db")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        monkeypatch.delenv("NDPNET_TRACKING", raising=False)
        return folder

    yield make
    mlflow.set_tracking_uri(before)


@pytest.fixture
def store(new_store: Callable[[str], Path]) -> Path:
    """An empty store; its folder is the working directory."""
    return new_store("here")


@pytest.fixture(scope="module")
def evaluation_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate` says of the pipeline's package."""
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, folder, pipeline.params, {})
    return folder


@pytest.fixture
def register(pipeline: Pipeline, evaluation_dir: Path) -> Callable[..., dict[str, Any]]:
    """Register the pipeline's package."""
    return lambda **kwargs: models.register(pipeline.model_dir, evaluation_dir, **({"identity": IDENTITY} | kwargs))


def stored_files(folder: Path) -> dict[str, Path]:
    """Files of the one stored model by their path in it."""
    roots = [path.parent for path in folder.rglob("MLmodel")]
    assert len(roots) == 1
    return {path.relative_to(roots[0]).as_posix(): path for path in sorted(roots[0].rglob("*")) if path.is_file()}


def logged_models(client: MlflowClient) -> list[tuple[str, str]]:
    """(id, status) of every LoggedModel that is not deleted."""
    return [(str(m.model_id), str(m.status)) for m in client.search_logged_models([experiment_id(client)])]


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
        "ndpnet.training_data_hash": lineage["training_data_hash"],
        "ndpnet.params_hash": lineage["params_hash"],
        "ndpnet.code_hash": lineage["code_hash"],
        "ndpnet.evaluation_hash": models.sha256_of(evaluation_dir / "metrics.json"),
        "ndpnet.processor": lineage["processor"],
        "ndpnet.is_data_pinned": "true" if lineage.get("is_data_pinned") else "false",
        "ndpnet.category": CATEGORY,
        "ndpnet.git_commit": "c" * 40,
        "ndpnet.git_dirty": "false",
        "ndpnet.lock_hash": "d" * 64,
    }
    assert version.description.startswith(f"# {NAME}\n")
    assert len(version.description) <= models.MAX_DESCRIPTION
    assert version.run_id == record["run_id"]
    assert client.get_run(record["run_id"]).info.status == "FINISHED"
    model = client.get_logged_model(record["model_id"])
    assert str(model.status) == "READY"
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
    assert [version.version for version in versions.versions_of(client, NAME)] == [1]
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


def test_another_package_is_the_next_version(
    store: Path, pipeline: Pipeline, evaluation_dir: Path, register: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = register()
    other_dir = shutil.copytree(pipeline.model_dir, tmp_path / "other")
    (other_dir / "history_phase2.jsonl").write_text("")
    second = models.register(other_dir, evaluation_dir, identity=IDENTITY)
    assert (first["version"], second["version"]) == (1, 2)
    assert first["package_hash"] != second["package_hash"]
    for version, folder in ((1, pipeline.model_dir), (2, other_dir)):
        got = models.download_package(NAME, version, tmp_path / f"got{version}")
        assert package_hash(got) == package_hash(folder)


@pytest.mark.slow
def test_killed_between_any_two_calls_and_called_again(
    new_store: Callable[[str], Path],
    register: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    num_left, calls = [-1], []

    def killing(name: str) -> Callable[..., Any]:
        call = getattr(MlflowClient, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if num_left[0] == 0:
                calls.append(name)
                raise Killed
            num_left[0] -= 1
            return call(*args, **kwargs)

        return wrapped

    for name in REGISTRY_CALLS:
        monkeypatch.setattr(MlflowClient, name, killing(name))
    for number in range(100):
        new_store(f"store{number}")
        num_left[0] = number
        try:
            register()
        except Killed:
            pass
        else:
            break
        num_left[0] = -1
        client = connect()
        # whatever is there already is whole
        for version in versions.versions_of(client, NAME):
            models.download_package(NAME, version.version, tmp_path / f"before{number}")
        record = register()
        assert record["version"] == 1, calls
        assert logged_models(client) == [(record["model_id"], "READY")], calls
        assert [version.version for version in versions.versions_of(client, NAME)] == [1], calls
        assert len(client.search_runs([experiment_id(client)])) == 1, calls
        assert len(client.get_metric_history(record["run_id"], "image_auroc")) <= 2, calls
        models.download_package(NAME, 1, tmp_path / f"after{number}")
    assert {"create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_model_version"} <= set(calls)


def test_a_failed_upload_is_marked_and_cleaned_by_the_next_call(
    store: Path, register: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    client = connect()
    root = Path(client.get_experiment(experiment_id(client)).artifact_location.removeprefix("file://"))
    root.mkdir(parents=True, exist_ok=True)
    (root / "models").write_text("in the way")
    with pytest.raises((ValueError, OSError)):
        register()
    assert [status for _, status in logged_models(client)] == ["FAILED"]
    assert versions.versions_of(client, NAME) == []
    (root / "models").unlink()
    record = register()
    assert logged_models(client) == [(record["model_id"], "READY")]


def test_an_upload_of_another_machine_is_left_alone_until_it_is_old(
    store: Path, register: Callable[..., dict[str, Any]], pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    tags = {"ndpnet.package_hash": package_hash(pipeline.model_dir), "ndpnet.host": "another"}
    pending = client.create_logged_model(experiment_id(client), "other", tags=tags)
    record = register()
    assert sorted(logged_models(client)) == sorted([(pending.model_id, "PENDING"), (record["model_id"], "READY")])
    client.delete_model_version(NAME, "1")
    monkeypatch.setattr(upload, "STALE_SECONDS", -1.0)
    register()
    assert logged_models(client) == [(record["model_id"], "READY")]


def test_changed_files_in_the_store_are_refused_at_load_and_mended_by_registering_again(
    store: Path, pipeline: Pipeline, register: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    register()
    weights = stored_files(store)[f"{PACKAGE_PATH}/weights.safetensors"]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{NAME} version 1 is refused: its stored files have hash \w+, registered"):
        models.download_package(NAME, 1, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    with pytest.raises(ValueError, match="the stored files were changed"):
        mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    # an attacker who also mends the package's own hashes
    config = stored_files(store)[f"{PACKAGE_PATH}/config.json"]
    mended = config.read_text().replace(upload_hash(pipeline.model_dir), models.sha256_of(weights))
    config.write_text(json.dumps(sealed(json.loads(mended))))
    read_package(weights.parent)
    with pytest.raises(ValueError, match="is refused"):
        models.download_package(NAME, 1, tmp_path / "got")
    with pytest.raises(ValueError, match="the stored files were changed"):
        mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    register()
    assert package_hash(models.download_package(NAME, 1, tmp_path / "got")) == package_hash(pipeline.model_dir)


def upload_hash(model_dir: Path) -> str:
    """Hash of the weights as config.json has it."""
    return json.loads((model_dir / "config.json").read_text())["files"]["weights.safetensors"]


def test_a_folder_in_the_stored_package_is_refused(
    store: Path, register: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    register()
    package_dir = stored_files(store)[f"{PACKAGE_PATH}/config.json"].parent
    (package_dir / "more").mkdir()
    (package_dir / "more/file").write_text("x")
    with pytest.raises(ValueError, match="refused the artifact 'artifacts/package/more'"):
        models.download_package(NAME, 1, tmp_path / "got")


@pytest.mark.parametrize(
    "path",
    [
        "../config.json", "/etc/passwd", "artifacts/package/../../MLmodel", "artifacts/package/..",
        "artifacts/package/", "artifacts/package/a/b", "artifacts/package/a\\b", "artifacts/package/.hidden",
        "artifacts/package/%2e%2e",
        "artifacts/package/C:x", "artifacts/package/a\nb", "artifacts/other/config.json", "config.json",
    ],
)  # fmt: skip
def test_names_that_leave_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="refused the artifact"):
        upload.checked_name(path, PACKAGE_PATH)
    assert upload.checked_name(f"{PACKAGE_PATH}/config.json", PACKAGE_PATH) == "config.json"
    with pytest.raises(ValueError, match="refused the artifact"):
        upload.checked_name(f"{PACKAGE_PATH}/config.json", PACKAGE_PATH, is_folder=True)


def test_download_by_number_or_alias_scores_as_the_package(
    store: Path, pipeline: Pipeline, register: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    register()
    connect().set_registered_model_alias(NAME, "champion", "1")
    picture = pipeline.data_dir / CATEGORY / "test/hole/wall_p80_1.png"
    expected = Inspector.load(pipeline.model_dir).inspect(picture)
    for ref in (1, "1", "champion"):
        out_dir = models.download_package(NAME, ref, tmp_path / f"by {ref}")
        verdict = Inspector.load(out_dir).inspect(picture)
        assert (verdict.score, verdict.regions) == (expected.score, expected.regions)
    with pytest.raises(ValueError, match=rf"no {NAME} '2' in the registry \(it has 1 @champion\)"):
        models.download_package(NAME, 2, tmp_path / "none")
    with pytest.raises(ValueError, match="no ndpnet-floor 'champion' in the registry"):
        models.download_package("ndpnet-floor", "champion", tmp_path / "none")
    # a folder that has it already is left as it is, one that has something else is not replaced
    before = (tmp_path / "by 1/config.json").stat().st_mtime_ns
    models.download_package(NAME, 1, tmp_path / "by 1")
    assert (tmp_path / "by 1/config.json").stat().st_mtime_ns == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="will not replace folder"):
        models.download_package(NAME, 1, tmp_path / "mine")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_engines_go_along_and_come_back(store: Path, exported_dir: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    steps.evaluate(pipeline.prepared_dir, exported_dir, tmp_path / "evaluation", pipeline.params, {})
    tags = models.register(exported_dir, tmp_path / "evaluation", identity=IDENTITY)["tags"]
    assert tags["ndpnet.engines"] == ", ".join(EXPORTED_NAMES)
    assert tags["ndpnet.model_hash"] == model_hash(exported_dir) != tags["ndpnet.package_hash"]
    out_dir = models.download_package(NAME, 1, tmp_path / "back")
    assert package_hash(out_dir) == package_hash(exported_dir) == tags["ndpnet.package_hash"]
    picture = pipeline.data_dir / CATEGORY / "test/hole/wall_p80_1.png"
    by_engine = {engine: Inspector.load(out_dir, engine=engine).inspect(picture).score for engine in ("torch", "onnx")}
    # as MLflow loads it to serve it: with torch, or with the engine that its configuration names
    model_uri = f"models:/{NAME}/1"
    for engine, score in by_engine.items():
        served = mlflow.pyfunc.load_model(model_uri, model_config={"engine": engine})
        (row,) = served.predict(pd.DataFrame({"image": [base64.b64encode(picture.read_bytes()).decode("ascii")]}))
        assert row["score"] == score
    inspectors = [Inspector.load(out_dir, engine=engine) for engine in by_engine]
    others = [pipeline.data_dir / CATEGORY / f"test/{name}.png" for name in ("scratch/wall_p81_1", "good/wall_p90_0")]
    assert any(len({inspector.inspect(path).score for inspector in inspectors}) == 2 for path in others)


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
    dirty = register(identity={"git_commit": "b" * 40, "git_dirty": "true"})
    assert register(identity={"git_commit": "c" * 40, "git_dirty": "true"}) == dirty
    clean = register()
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
    with pytest.raises(ValueError, match="registry failed") as caught, versions.in_one_line():
        raise MlflowException("API request to http://ada:hunter2@host:5000/api failed\nwith 503")
    assert "API request to http://host:5000/api failed with 503" in str(caught.value)


def test_tracking_switched_off_has_no_registry(
    register: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDPNET_TRACKING", "off")
    for call in (register, lambda: models.download_package(NAME, 1, tmp_path / "got")):
        with pytest.raises(ValueError, match="unset NDPNET_TRACKING"):
            call()


def test_names_that_a_uri_or_the_registry_would_not_take() -> None:
    assert versions.registered_name("brick") == "ndpnet-brick"
    assert versions.registered_name("Stoff 7_ü.a-b") == "ndpnet-Stoff 7_ü.a-b"
    odd = [
        "o'ring",
        "o ring ",
        "a@b",
        "a-b",
        "a:b",
        "a#b",
        "a%b",
        "a\nb",
        "x" * 255,
        "x" * 254 + "y",
        os.fsdecode(b"\xff"),
    ]
    names = [versions.registered_name(category) for category in odd]
    assert len(set(names)) == len(odd)
    for name in names:
        assert not set(name) & set("/:@#%?'\"\n")
        assert len(name) <= 250
        name.encode()


def test_an_odd_category_registers_and_loads(
    new_store: Callable[[str], Path], pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path
) -> None:
    new_store("Ordner ü (1)")
    category = 'o\'ring @50% #1: "ü"'
    model_dir, folder = tmp_path / "model", tmp_path / "evaluation"
    for source, target, name in (
        (pipeline.model_dir, model_dir, "config.json"),
        (evaluation_dir, folder, "metrics.json"),
    ):
        shutil.copytree(source, target)
        content = json.loads((target / name).read_text())
        changed = content | {"category": category}
        (target / name).write_text(json.dumps(sealed(changed) if name == "config.json" else changed))
    record = models.register(model_dir, folder, identity={})
    assert record["tags"]["ndpnet.category"] == category
    assert models.register(model_dir, folder, identity={}) == record
    connect().set_registered_model_alias(record["name"], "champion", "1")
    models.download_package(record["name"], "champion", tmp_path / "got")
    for uri in (record["model_uri"], f"models:/{record['name']}@champion"):
        assert mlflow.pyfunc.load_model(uri).predict({"image": [b"x"]})[0]["verdict"] == "error"


def git(*arguments: str) -> str:
    """Run git as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_verbs_register_and_download(store: Path, pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    report = store / "data" / CATEGORY / "import.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"licence": "CC BY 4.0"}))
    (store / ".gitignore").write_text("mlflow.db\nmlartifacts/\n")
    (store / "requirements.lock").write_text("torch==1\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    options = ("--model", pipeline.model_dir, "--evaluation", evaluation_dir)
    digest = package_hash(pipeline.model_dir)
    said = run("register", *options, "--out", tmp_path / "registered")
    assert said.splitlines() == [
        f"{NAME} version 1, package {digest[:12]}",
        f"next: ndpnet promote {NAME} --version 1",
    ]
    record = json.loads((tmp_path / "registered/registered.json").read_text())
    assert record["tags"]["ndpnet.git_commit"] == git("rev-parse", "HEAD").strip()
    assert record["tags"]["ndpnet.git_dirty"] == "false"
    assert record["tags"]["ndpnet.lock_hash"] == models.sha256_of(store / "requirements.lock")
    assert "Licence of the data: CC BY 4.0" in stored_files(store)["model_card.md"].read_text()
    before = (tmp_path / "registered/registered.json").read_bytes()
    assert run("register", *options, "--out", tmp_path / "registered") == said
    assert (tmp_path / "registered/registered.json").read_bytes() == before
    (store / "dvc.lock").write_text("")  # what DVC writes while it runs the pipeline
    assert run_identity()["git_dirty"] == "false"
    (store / "new.py").write_text("")
    assert run_identity()["git_dirty"] == "true"
    connect().set_registered_model_alias(NAME, "champion", "1")
    run("download", NAME, "@champion", "--out", tmp_path / "champion")
    assert package_hash(tmp_path / "champion") == digest
    failed = CliRunner().invoke(main, ["download", NAME, "7", "--out", str(tmp_path / "none")])
    assert failed.exit_code == 1
    assert failed.stderr == f"Error: no {NAME} '7' in the registry (it has 1 @champion)\n"
    # refused before anything is sent
    refused = CliRunner().invoke(main, ["register", *map(str, options), "--out", str(store / "data")])
    assert (refused.exit_code, "will not replace folder" in refused.output) == (1, True)


def test_outside_of_git_the_identity_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("NDPNET_IMAGE_DIGEST", "sha256:1")
    identity = run_identity()
    assert identity["git_commit"] == identity["git_dirty"] == identity["lock_hash"] == "unknown"
    assert identity["image_digest"] == "sha256:1"


def _register_in_child(model_dir: Path, evaluation_dir: Path, folder: Path, out_path: Path) -> None:
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ.pop("NDPNET_TRACKING", None)
    out_path.write_text(json.dumps(models.register(model_dir, evaluation_dir, identity={})))


@pytest.mark.slow
def test_a_process_killed_while_it_uploads_leaves_nothing_that_counts(
    store: Path, pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path, register: Callable[..., dict[str, Any]]
) -> None:
    arguments = (pipeline.model_dir, evaluation_dir, store, tmp_path / "record.json")
    process = SERVER.Process(target=_register_in_child, args=arguments)
    process.start()
    client = connect()
    assert kill_when(process, lambda: bool(logged_models(client)))
    assert [status for _, status in logged_models(client)] == ["PENDING"]
    assert versions.versions_of(client, NAME) == []
    record = register()
    assert record["version"] == 1
    assert logged_models(client) == [(record["model_id"], "READY")]
    models.download_package(NAME, 1, tmp_path / "got")


def test_several_at_once_give_one_version(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    records: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: records.append(register())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIME_LIMIT)
    assert len(records) == 3
    assert records[0] == records[1] == records[2]
    client = connect()
    assert logged_models(client) == [(records[0]["model_id"], "READY")]
    assert [version.version for version in versions.versions_of(client, NAME)] == [1]


def test_two_machines_at_once_keep_the_first_version(store: Path, register: Callable[..., dict[str, Any]]) -> None:
    record = register()
    client = connect()
    # what the slower machine does: its search was before the other's version
    model = client.get_logged_model(record["model_id"])
    assert int(models._create_version(client, NAME, model, record["tags"], "card").version) == 1
    assert [version.version for version in versions.versions_of(client, NAME)] == [1]
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
