"""A small category and everything the steps make of it, once per session."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from repositories import Repository
from samples import CATEGORY, Pipeline, write_category, write_params
from servers import S3Server

from ndpnet.config import load_params


def pytest_configure() -> None:
    """Before torch is imported, here and in child processes: bits depend on the number of threads."""
    # a job in the background ignores Ctrl-C, and so would every process that the tests start and interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["NDPNET_TRACKING"] = "off"  # but where a test switches it on
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    settings.register_profile("any machine", deadline=None)  # a slow one fails no test
    settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _denormals_as_ieee_has_them() -> None:
    """Inference runtimes leave them flushed to zero in the thread that they ran in; hypothesis refuses to draw then."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_flush_denormal"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one small category."""
    from skimage.data import brick

    data_dir = tmp_path_factory.mktemp("pictures") / "data"
    write_category(data_dir / CATEGORY, brick())
    return data_dir


@pytest.fixture(scope="session")
def pipeline(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Every step up to a trained package, run once in this process. Read it, do not write into it."""
    from ndpnet import steps

    folder = tmp_path_factory.mktemp("pipeline")
    params_path = write_params(folder / "params.yaml")
    params = load_params(params_path)
    made = Pipeline(
        data_dir, params_path, params, folder / "prepared", folder / "bank", folder / "phase1", folder / "model", {}
    )
    inputs = (made.prepared_dir, made.bank_dir)
    made.metrics["prepare"] = steps.prepare(data_dir, CATEGORY, made.prepared_dir, params, allow_unpinned=True)
    made.metrics["synthesize"] = steps.synthesize(made.bank_dir, params)
    made.metrics["train_phase1"] = steps.train_phase1(*inputs, made.phase1_dir, params, folder / "work")
    made.metrics["train_phase2"] = steps.train_phase2(*inputs, made.phase1_dir, made.model_dir, params, folder / "work")
    return made


@pytest.fixture(scope="session")
def trained_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's phase 1, then a longer phase 2 with plain defects: scores lie apart, so bf16 keeps their order."""
    from ndpnet import steps

    folder = tmp_path_factory.mktemp("trained")
    plain = {"plain_share": 1.0, "plain_contrast": 0.6, "beta_max": 0.0, "edge_softness": 0.0, "surface_jitter": 0.05}
    train = {"phase2": {"epochs": 60, "learning_rate": 0.01}}
    path = write_params(folder / "params.yaml", synthesis=plain, train=train)
    inputs = (pipeline.prepared_dir, pipeline.bank_dir, pipeline.phase1_dir)
    steps.train_phase2(*inputs, folder / "model", load_params(path), folder / "work")
    return folder / "model"


@pytest.fixture(scope="session")
def exported_dir(trained_dir: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained package with the engines of `processor.EXPORTS`. Read it, do not write into it."""
    from processor import EXPORTS

    from ndpnet.inference.engines.export import export

    out = tmp_path_factory.mktemp("exported") / "model"
    inputs = {"prepared": pipeline.prepared_dir, "bank": pipeline.bank_dir}
    for engine, precision in EXPORTS:
        export(out if out.exists() else trained_dir, out, engine=engine, precision=precision, **inputs)
    return out


@pytest.fixture(scope="module")
def tracking_on() -> Iterator[None]:
    """For a whole file: the registry is there, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NDPNET_TRACKING")
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server for all tests of the session: make a bucket of your own, do not kill it."""
    yield from _running(S3Server(tmp_path_factory.mktemp("s3")))


@pytest.fixture
def private_s3(tmp_path: Path) -> Iterator[S3Server]:
    """A running S3 server for one test, which may kill it."""
    yield from _running(S3Server(tmp_path / "private s3"))


def _running(server: S3Server) -> Iterator[S3Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with pinned data, to copy."""
    return Repository.make(tmp_path_factory.mktemp("original") / "repository")


@pytest.fixture
def repository(original: Repository, tmp_path: Path) -> Repository:
    """A test's own copy of it."""
    return original.copy(tmp_path / "repository")
