"""What a run in containers is given; real containers: tests/containers/."""

import os
from pathlib import Path

import pytest

from ndpnet.config import load_params
from ndpnet.data.versions.version import DataSource
from ndpnet.pipelines import containers


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with DVC's, tracking into a database in it."""
    for name in (".dvc", "data"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NDPNET_TRACKING", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def arguments(repository: Path, *overrides: str) -> dict:
    """Arguments of the containers of a run on data/."""
    folders = [repository / "build/kfp", repository / ".work"]
    what = {"digest": "sha256:1", "run_id": "local-1", "folders": folders}
    return containers.run_arguments(load_params(overrides=overrides), DataSource(folder="data"), **what)


def test_a_container_can_write_to_the_folders_of_the_run_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "vgg.npz").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    told = arguments(repository, f"losses.perceptual_weights={elsewhere / 'vgg.npz'}")
    is_read_only = {mount["target"]: mount["read_only"] for mount in told["mounts"]}
    assert is_read_only == {
        str(repository / "build/kfp"): False,
        str(repository / ".work"): False,
        str(repository): True,
        str(elsewhere / "vgg.npz"): True,
    }
    assert all(mount["source"] == mount["target"] for mount in told["mounts"])
    assert (repository / ".work").is_dir()  # Docker would make it, as root
    assert told["read_only"] is True
    assert told["user"] == f"{os.getuid()}:{os.getgid()}"
    assert told["environment"]["MLFLOW_TRACKING_URI"] == "http://localhost:5000"


def test_a_database_that_stands_for_a_server_is_reached_by_its_whole_path(repository: Path) -> None:
    told = arguments(repository)
    assert told["environment"]["MLFLOW_TRACKING_URI"] == f"sqlite:///{repository}/mlflow.db"
    assert {mount["target"]: mount["read_only"] for mount in told["mounts"]}[str(repository)] is False


def test_only_what_pods_get_too_is_taken_from_the_environment(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in containers.PASSED:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SECRET_ACCESS_KEY", "OMP_NUM_THREADS", "PYTHONPATH", "AWS_CA_BUNDLE", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "x")
    environment = arguments(repository)["environment"]
    passed = {"AWS_SECRET_ACCESS_KEY", "OMP_NUM_THREADS"}
    told = {"MLFLOW_TRACKING_URI", "NDPNET_KFP_RUN_ID", "NDPNET_IMAGE_DIGEST"}
    assert set(environment) == passed | told
    assert (environment["NDPNET_KFP_RUN_ID"], environment["NDPNET_IMAGE_DIGEST"]) == ("local-1", "sha256:1")


def test_without_an_engine_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ValueError, match=r"^no container engine answers \(start one, or set DOCKER_HOST\)"):
        containers.find_image("ndpnet:1", {"git_commit": "a" * 40, "git_dirty": "false"})
