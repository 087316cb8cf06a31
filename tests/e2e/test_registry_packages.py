"""Unusual packages by way of a server that stores artifacts for its clients: an odd name, and half a gigabyte."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow_servers import MlflowServer
from processes import run_cli
from repositories import NDPNET
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.data.manifest import Manifest
from ndpnet.files import sha256_of
from ndpnet.inference.identity import package_hash
from ndpnet.inference.package import CONFIG, MANIFEST, WEIGHTS, read_package, write_config
from ndpnet.tracking.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("team")]

ODD = "Fläche 1"
LARGE, MUCH = 500 << 20, 150 << 20  # bytes: of the weights, and of memory that they may take


@pytest.fixture(scope="module")
def artifacts_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One with artifacts on its own disk."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def team(artifacts_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    for name, value in artifacts_server.environment().items():
        monkeypatch.setenv(name, value)
    yield
    mlflow.set_tracking_uri(before)


def test_a_category_with_a_space_and_an_umlaut(pipeline: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(pipeline.data_dir / CATEGORY, tmp_path / "data" / ODD)
    prepared, model, name = tmp_path / "build" / ODD / "prepared", tmp_path / ODD / "model", f"ndpnet-{ODD}"
    steps.prepare(tmp_path / "data", ODD, prepared, pipeline.params, allow_unpinned=True)
    shutil.copytree(pipeline.model_dir, model)
    Manifest(ODD, Manifest.load(model / MANIFEST).files).save(model / MANIFEST)
    write_config(model, json.loads((model / CONFIG).read_text()) | {"category": ODD})
    steps.evaluate(prepared, model, tmp_path / "evaluation", pipeline.params)

    def run(*arguments: object) -> str:
        finished = run_cli(arguments, tmp_path / "log")
        assert finished.exit_code == 0, finished.stderr
        return finished.stdout

    folders = ("--evaluation", tmp_path / "evaluation", "--out", tmp_path / "registered")
    assert f"{name} version 1, package " in run("register", "--model", model, *folders)
    asked = ("--prepared", prepared, "--force", "--reason", "first", "--params", pipeline.params_path)
    run("promote", name, "--version", "1", *asked, "--out", tmp_path / "promotion")
    assert json.loads((tmp_path / "promotion/promotion.json").read_text())["decision"] == "forced"
    run("download", name, "champion", "--out", tmp_path / "champion")
    assert package_hash(tmp_path / "champion") == package_hash(model)
    assert read_package(tmp_path / "champion").config["category"] == ODD
    version = connect().get_model_version_by_alias(name, "champion")
    assert ODD in version.description
    assert json.loads(run("history", name, "--as-json"))
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    picture = next((tmp_path / "data" / ODD / "test/good").glob("*.png"))
    (answer,) = loaded.predict([{"image": picture.read_bytes()}])
    assert answer["verdict"] in ("good", "defective")


def peak_of(arguments: Sequence[object], folder: Path) -> int:
    """Run a verb in a process of its own. -> the most memory that it had, in bytes"""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*NDPNET, *map(str, arguments)], cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "log").read_text()
    return usage.ru_maxrss << 10


def test_half_a_gigabyte_goes_there_and_back_in_little_memory(pipeline: Pipeline, tmp_path: Path) -> None:
    steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params)
    shutil.copytree(pipeline.model_dir, tmp_path / "large")
    with (tmp_path / "large" / WEIGHTS).open("ab") as weights:
        rng = np.random.default_rng(0)
        for _ in range(LARGE >> 20):
            weights.write(rng.bytes(1 << 20))
    write_config(tmp_path / "large", json.loads((tmp_path / "large" / CONFIG).read_text()))
    peaks = []
    for number, model in enumerate((pipeline.model_dir, tmp_path / "large"), start=1):
        path = tmp_path / "evaluation/metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_hash": read_package(model).model_hash}))
        folders = ("--evaluation", tmp_path / "evaluation", "--out", tmp_path / f"registered {number}")
        up = peak_of(["register", "--model", model, *folders], tmp_path)
        down = peak_of(["download", f"ndpnet-{CATEGORY}", number, "--out", tmp_path / f"copy {number}"], tmp_path)
        peaks.append(np.array([up, down]))
    assert sha256_of(tmp_path / "copy 2" / WEIGHTS) == sha256_of(tmp_path / "large" / WEIGHTS)
    assert package_hash(tmp_path / "copy 2") == package_hash(tmp_path / "large")
    assert (peaks[1] - peaks[0] < MUCH).all(), peaks
