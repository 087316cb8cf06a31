"""A registered model outside of this process: over HTTP, and where nothing is installed but its own requirements."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from installed import HEAVY, blocked_by, run_without
from mlflow_servers import free_port
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.data.images import read_image
from ndpnet.inference import Inspector
from ndpnet.tracking import models
from ndpnet.tracking.flavor import REQUIREMENTS

START_LIMIT, ANSWER_LIMIT = 240.0, 60.0  # seconds, on a busy machine
PREDICT = """
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict({"image": json.loads(open(sys.argv[2]).read())})
import ndpnet
print("ANSWER", json.dumps({"scores": [answer["score"] for answer in answers], "code": ndpnet.__file__}))
"""


@pytest.fixture(scope="module")
def registered(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The small model in a registry of its own. -> its record, and the folder of the registry"""
    folder = tmp_path_factory.mktemp("registry")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("NDPNET_TRACKING", raising=False)
        steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, folder / "evaluation", pipeline.params, {})
        yield models.register(pipeline.model_dir, folder / "evaluation", identity={}) | {"folder": folder}
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def pictures(pipeline: Pipeline) -> list[Path]:
    """The test pictures, of two sizes."""
    return sorted((pipeline.data_dir / CATEGORY / "test").rglob("*.png"))


@pytest.fixture(scope="module")
def url(registered: dict[str, Any]) -> Iterator[str]:
    """Where `mlflow models serve` answers."""
    folder, port = registered["folder"], free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", registered["model_uri"]]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    # `mlflow` starts `uvicorn` by name
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_answering(f"http://127.0.0.1:{port}/ping", process, folder / "serve.log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_until_answering(url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        assert process.poll() is None, log_path.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no answer in {START_LIMIT} s: {log_path.read_text()}")


def ask(url: str, payload: Any, content_type: str = "application/json") -> tuple[int, Any]:
    """POST a payload, as JSON if it is not bytes. -> status and what came back"""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def text_of(path: Path) -> str:
    """A file's bytes as base64."""
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.slow
def test_a_batch_over_http_scores_as_the_inspector(url: str, pipeline: Pipeline, pictures: list[Path]) -> None:
    inspector = Inspector.load(pipeline.model_dir)
    expected = [inspector.inspect(path) for path in pictures]
    texts = [text_of(path) for path in pictures]
    arrays = [read_image(path).tolist() for path in pictures[:2]]
    for payload, verdicts in (
        ({"dataframe_records": [{"image": text} for text in texts]}, expected),
        ({"inputs": {"image": texts}}, expected),
        ({"dataframe_records": [{"image": array} for array in arrays]}, expected[:2]),
    ):
        status, answer = ask(url, payload)
        assert status == 200, (list(payload), answer)
        rows = answer["predictions"]
        assert [row["score"] for row in rows] == [verdict.score for verdict in verdicts], list(payload)
        assert [row["verdict"] == "defective" for row in rows] == [verdict.is_defective for verdict in verdicts]
        assert [row["regions"] for row in rows] == [[vars(r) for r in verdict.regions] for verdict in verdicts]


@pytest.mark.slow
def test_it_loads_where_only_its_requirements_are(
    registered: dict[str, Any], pipeline: Pipeline, pictures: list[Path], tmp_path: Path
) -> None:
    stored = [path.parent for path in registered["folder"].rglob("MLmodel")]
    assert len(stored) == 1
    folder = shutil.copytree(stored[0], tmp_path / "model")  # as on another machine
    requirements = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
    assert sorted(requirements) == sorted(REQUIREMENTS)
    (tmp_path / "pictures.json").write_text(json.dumps([text_of(path) for path in pictures]))
    blocked = blocked_by(requirements)
    assert set(blocked) >= HEAVY, "what trains, tracks and stores is not needed"
    said = run_without(blocked, PREDICT, folder, tmp_path / "pictures.json", cwd=tmp_path)
    answer = json.loads(said.partition("ANSWER ")[2])
    inspector = Inspector.load(pipeline.model_dir)
    assert answer["scores"] == [inspector.inspect(path).score for path in pictures]
    assert answer["code"].startswith(str(folder)), "not the code that travels with the model"
