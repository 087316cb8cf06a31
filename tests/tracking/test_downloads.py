"""What is stored of a version is what comes back, or is refused; the verbs that register and download."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from pictures import as_base64
from processor import EXPORTED_NAMES
from registered import IDENTITY, NAME, stored_files
from repositories import commit_all
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.cli import main
from ndpnet.data.names import MAX_CATEGORY_BYTES, check_category
from ndpnet.inference import Inspector
from ndpnet.inference.identity import hash_without_engines, package_hash, sealed
from ndpnet.inference.package import read_package
from ndpnet.tracking import models
from ndpnet.tracking.client import connect
from ndpnet.tracking.flavor import PACKAGE_PATH
from ndpnet.tracking.identity import run_identity


def test_changed_files_in_the_store_are_refused_at_load(
    store: Path, pipeline: Pipeline, register: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    register()
    weights = stored_files(store)[f"{PACKAGE_PATH}/weights.safetensors"]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="version 1 is refused"):
        models.download_package(NAME, 1, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    with pytest.raises(ValueError, match="the stored files were changed"):
        mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    # an attacker who also mends the package's own hashes
    config = stored_files(store)[f"{PACKAGE_PATH}/config.json"]
    mended = json.loads(config.read_text())
    mended["files"]["weights.safetensors"] = models.sha256_of(weights)
    config.write_text(json.dumps(sealed(mended)))
    read_package(weights.parent)
    with pytest.raises(ValueError, match="is refused"):
        models.download_package(NAME, 1, tmp_path / "got")
    with pytest.raises(ValueError, match="the stored files were changed"):
        mlflow.pyfunc.load_model(f"models:/{NAME}/1")


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
    with pytest.raises(ValueError, match=rf"no {NAME} '2' in the registry \(it has 1, champion\)"):
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
    steps.evaluate(pipeline.prepared_dir, exported_dir, tmp_path / "evaluation", pipeline.params)
    record = models.register(exported_dir, tmp_path / "evaluation", identity=IDENTITY)
    assert (
        models.registered_origin(NAME, 1)["hash_without_engines"]
        == hash_without_engines(exported_dir)
        != record["package_hash"]
    )
    assert f"| engines | {', '.join(EXPORTED_NAMES)} |" in stored_files(store)["model_card.md"].read_text()
    out_dir = models.download_package(NAME, 1, tmp_path / "back")
    assert package_hash(out_dir) == package_hash(exported_dir) == record["package_hash"]
    picture = pipeline.data_dir / CATEGORY / "test/hole/wall_p80_1.png"
    by_engine = {engine: Inspector.load(out_dir, engine=engine).inspect(picture).score for engine in ("torch", "onnx")}
    # as MLflow loads it to serve it: with torch, or with the engine that its configuration names
    model_uri = f"models:/{NAME}/1"
    for engine, score in by_engine.items():
        served = mlflow.pyfunc.load_model(model_uri, model_config={"engine": engine})
        (row,) = served.predict(pd.DataFrame({"image": [as_base64(picture)]}))
        assert row["score"] == score
    inspectors = [Inspector.load(out_dir, engine=engine) for engine in by_engine]
    others = [pipeline.data_dir / CATEGORY / f"test/{name}.png" for name in ("scratch/wall_p81_1", "good/wall_p90_0")]
    assert any(len({inspector.inspect(path).score for inspector in inspectors}) == 2 for path in others)


def test_whatever_a_category_may_be_called_registers_and_loads(
    new_store: Callable[[str], Path], pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path
) -> None:
    new_store("Ordner ü (1)")
    category = "Stoff 7_ü.a-b+" + "x" * (MAX_CATEGORY_BYTES - 15)
    check_category(category)
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
    assert (record["name"], record["tags"]["ndpnet.category"]) == (f"ndpnet-{category}", category)
    assert models.register(model_dir, folder, identity={}) == record
    connect().set_registered_model_alias(record["name"], "champion", "1")
    models.download_package(record["name"], "champion", tmp_path / "got")
    for uri in (record["model_uri"], f"models:/{record['name']}@champion"):
        assert mlflow.pyfunc.load_model(uri).predict({"image": [b"x"]})[0]["verdict"] == "error"


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
    commit = commit_all(store)
    options = ("--model", pipeline.model_dir, "--evaluation", evaluation_dir)
    digest = package_hash(pipeline.model_dir)
    said = run("register", *options, "--out", tmp_path / "registered")
    assert said.splitlines() == [f"{NAME} version 1, package {digest[:12]}", f"next: ndpnet promote {NAME} --version 1"]
    record = json.loads((tmp_path / "registered/registered.json").read_text())
    assert record["tags"]["ndpnet.git_commit"] == commit
    assert record["tags"]["ndpnet.git_dirty"] == "false"
    assert record["tags"]["ndpnet.lock_hash"] == models.sha256_of(store / "requirements.lock")
    assert "Licence of the data: CC BY 4.0" in stored_files(store)["model_card.md"].read_text()
    before = (tmp_path / "registered/registered.json").read_bytes()
    assert run("register", *options, "--out", tmp_path / "registered") == said
    assert (tmp_path / "registered/registered.json").read_bytes() == before
    (store / "dvc.lock").write_text("")  # what DVC writes while it runs the pipeline
    assert run_identity()["git_dirty"] == "false"
    (store / "new.py").write_text("")
    assert (run_identity()["git_dirty"], run_identity()["git_changes"]) == ("true", "new.py")
    connect().set_registered_model_alias(NAME, "champion", "1")
    run("download", NAME, "@champion", "--out", tmp_path / "champion")
    assert package_hash(tmp_path / "champion") == digest
    failed = CliRunner().invoke(main, ["download", NAME, "7", "--out", str(tmp_path / "none")])
    assert failed.exit_code == 1
    assert failed.stderr == f"Error: no {NAME} '7' in the registry (it has 1, champion)\n"
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


def test_the_champion_is_read_for_the_report_and_may_be_missing(
    store: Path, register: Callable[..., dict[str, Any]], evaluation_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    assert models.champion_summary(CATEGORY) is None
    connect().set_registered_model_alias(NAME, "champion", "1")
    summary = json.loads((evaluation_dir / "metrics.json").read_text())
    assert models.champion_summary(CATEGORY) == {"version": 1, "summary": summary}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'none.db'}")
    assert models.champion_summary(CATEGORY) is None
    assert not (store / "none.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    assert models.champion_summary(CATEGORY) is None
