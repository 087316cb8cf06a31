"""A server that speaks KFP, and small compiled pipelines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import compiler, dsl, kubernetes
from kfp_server import KfpServer

from pipelines.client import Cluster, Patience, connect
from pipelines.package import Package

IMAGE = "registry.example/ndpnet@sha256:" + "a" * 64
QUICK = Patience(num_attempts=3, first_wait=0.01, longest_wait=0.02, connect_seconds=1.0, read_seconds=0.4)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's own server, token or kubeconfig."""
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KFP_TOKEN", "KFP_COOKIE", "KFP_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no kubeconfig"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def kfp_server() -> Iterator[KfpServer]:
    """A server; the test fails if a call or an answer was not as the API's models have it."""
    with KfpServer().running() as server:
        yield server
    assert server.violations == []


@pytest.fixture
def cluster(kfp_server: KfpServer) -> Cluster:
    """A connection to it, with little patience."""
    return connect(kfp_server.url, patience=QUICK)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A pipeline of two steps that asks for a GPU, secrets and a volume."""
    return compile_pipeline(tmp_path_factory.mktemp("package") / "training.yaml")


@pytest.fixture(scope="session")
def other_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The same pipeline, but for its second step's memory."""
    return compile_pipeline(tmp_path_factory.mktemp("package") / "training.yaml", memory="9Gi")


def compile_pipeline(path: Path, *, memory: str = "8Gi", image: str = IMAGE) -> Package:
    """Compile the pipeline of these tests."""

    @dsl.component(base_image=image, install_kfp_package=False)
    def prepare(params: str) -> str:
        return params

    @dsl.component(base_image=image, install_kfp_package=False)
    def train(params: str) -> float:
        return float(len(params))

    @dsl.pipeline(name="ndpnet-training")
    def training(params: str, revision: str = "main", only_new_data: bool = False):
        prepared = prepare(params=params)
        trained = train(params=prepared.output)
        trained.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
        trained.set_cpu_request("2").set_memory_request(memory).set_retry(2)
        kubernetes.use_secret_as_env(trained, "s3-keys", {"id": "AWS_ACCESS_KEY_ID", "key": "AWS_SECRET_ACCESS_KEY"})
        kubernetes.mount_pvc(trained, "checkpoints", "/work")
        kubernetes.add_node_selector(trained, "pool", "gpu")
        kubernetes.add_toleration(trained, key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
        kubernetes.set_image_pull_secrets(trained, ["registry-login"])

    compiler.Compiler().compile(training, str(path))
    return Package.load(path)
