"""A small category and everything the steps make of it, once in a session, for all its processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from repositories import Repository
from samples import CATEGORY, Pipeline, pipeline_in, run_steps, write_category, write_params
from servers import S3Server

from ndpnet.config import load_params
from ndpnet.locks import locked

WAIT_SECONDS = 540.0  # for another process that makes what all share, below a test's own limit


def pytest_configure() -> None:
    """Before torch is imported, here and in child processes: bits depend on the number of threads."""
    # a job in the background ignores Ctrl-C, and so would every process that the tests start and interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["NDPNET_TRACKING"] = "off"  # but where a test switches it on
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    settings.register_profile("any machine", deadline=None)  # a slow one fails no test
    settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first: else one process ends with them alone."""

    def files_with(*marks: str) -> set[Path]:
        return {item.path for item in items if any(item.get_closest_marker(mark) for mark in marks)}

    longest, long = files_with("timeout"), files_with("slow", "peers")
    items.sort(key=lambda item: (item.path not in longest, item.path not in long))


@pytest.fixture(autouse=True)
def _torch_as_it_begins() -> None:
    """Weights that a test draws are the same in any order of tests; denormals are as IEEE has them.

    Inference runtimes leave these flushed to zero in the thread that they ran in; hypothesis refuses to draw then.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_flush_denormal"):
        torch.set_flush_denormal(False)
        torch.manual_seed(0)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process which asks for it has `make` fill; the others wait, and read it."""
    own = factory.getbasetemp()
    session_dir = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, unfinished = session_dir / name, session_dir / f"{name}.unfinished"
    with locked(session_dir / f"{name}.lock", f"{name} is being made", wait_seconds=WAIT_SECONDS):
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one small category."""
    from skimage.data import brick

    folder = made_once(tmp_path_factory, "pictures", lambda folder: write_category(folder / "data" / CATEGORY, brick()))
    return folder / "data"


@pytest.fixture(scope="session")
def pipeline(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Every step up to a trained package, run once in a session. Read it, do not write into it."""

    def make(folder: Path) -> None:
        (folder / "metrics.json").write_text(json.dumps(run_steps(folder / "made", data_dir).metrics))

    folder = made_once(tmp_path_factory, "pipeline", make)
    return pipeline_in(folder / "made", data_dir, json.loads((folder / "metrics.json").read_text()))


@pytest.fixture(scope="session")
def evaluation_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `evaluate` says of the pipeline's package. Read it, do not write into it."""
    from ndpnet import steps

    def evaluate(folder: Path) -> None:
        steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, folder / "evaluation", pipeline.params)

    return made_once(tmp_path_factory, "evaluated", evaluate) / "evaluation"


@pytest.fixture(scope="session")
def trained_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's phase 1, then a longer phase 2 with plain defects: scores lie apart, so bf16 keeps their order."""
    from ndpnet import steps

    def train(folder: Path) -> None:
        plain = {"plain_share": 1.0, "plain_contrast": 0.6, "beta_max": 0.0, "edge_softness": 0.0}
        training = {"phase2": {"epochs": 60, "learning_rate": 0.01}}
        path = write_params(folder / "params.yaml", synthesis=plain | {"surface_jitter": 0.05}, train=training)
        inputs = (pipeline.prepared_dir, pipeline.bank_dir, pipeline.phase1_dir)
        steps.train_phase2(*inputs, folder / "model", load_params(path), folder / "work")

    return made_once(tmp_path_factory, "trained", train) / "model"


@pytest.fixture(scope="session")
def exported_dir(trained_dir: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained package with the engines of `processor.EXPORTS`. Read it, do not write into it."""
    from processor import EXPORTS

    from ndpnet.inference.engines.export import export

    def add_engines(folder: Path) -> None:
        out, inputs = folder / "model", {"prepared": pipeline.prepared_dir, "bank": pipeline.bank_dir}
        for engine, precision in EXPORTS:
            export(trained_dir, out, engine=engine, precision=precision, **inputs)

    return made_once(tmp_path_factory, "exported", add_engines) / "model"


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A real file system of the size that the test asks for, as "2m"; skips where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def tracking_on() -> Iterator[None]:
    """For a whole file: the registry is there, in this process and in those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NDPNET_TRACKING")
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server for all tests of the session: make a bucket of your own, do not kill it."""
    with S3Server(tmp_path_factory.mktemp("s3")).running() as server:
        yield server


@pytest.fixture
def private_s3(tmp_path: Path) -> Iterator[S3Server]:
    """A running S3 server for one test, which may kill it."""
    with S3Server(tmp_path / "private s3").running() as server:
        yield server


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with pinned data, to copy."""
    return Repository.make(tmp_path_factory.mktemp("original") / "repository")


@pytest.fixture
def repository(original: Repository, tmp_path: Path) -> Repository:
    """A test's own copy of it."""
    return original.copy(tmp_path / "repository")
