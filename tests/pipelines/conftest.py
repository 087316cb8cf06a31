"""A server that speaks KFP, and small compiled pipelines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from compiled import IMAGE, Compiled
from kfp import compiler, dsl
from kfp_server import KfpServer

from ndpnet.pipelines.client import Cluster, connect
from ndpnet.pipelines.request import Package


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's own server, token or kubeconfig."""
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KFP_TOKEN", "KFP_COOKIE", "KFP_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no kubeconfig"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def kfp_server() -> Iterator[KfpServer]:
    """A server that knows no run yet."""
    with KfpServer().running() as server:
        yield server


@pytest.fixture
def cluster(kfp_server: KfpServer) -> Cluster:
    """A connection to it."""
    return connect(kfp_server.url)


@pytest.fixture(scope="session")
def plain_training(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The training pipeline without GPU, volume, secrets and retries."""
    without = [f"cluster.{name}=''" for name in ("work_pvc", "s3_secret", "mlflow_secret")]
    overrides = ["runtime.accelerator=cpu", "cluster.num_retries=0", *without]
    return Compiled("training", tmp_path_factory.mktemp("compiled"), *overrides)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A pipeline of one step."""
    path = tmp_path_factory.mktemp("package") / "training.yaml"

    @dsl.component(base_image=IMAGE, install_kfp_package=False)
    def train(params: str) -> float:
        return float(len(params))

    @dsl.pipeline(name="ndpnet-training")
    def training(params: str, revision: str = "main", only_new_data: bool = False):
        train(params=params).set_retry(2)

    compiler.Compiler().compile(training, str(path))
    return Package(path)
