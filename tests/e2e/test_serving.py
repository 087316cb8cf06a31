"""A registered model outside of this process: over HTTP, and where nothing is installed but its own requirements."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import requests
from installed import Environment
from pictures import as_base64
from registered import NAME, register_all
from samples import CATEGORY, Pipeline
from servers import ServerProcess

from ndpnet.commands import output
from ndpnet.data.images import read_image
from ndpnet.inference import Inspector
from ndpnet.tracking.flavor import REQUIREMENTS

ANSWER_LIMIT = 60.0  # seconds, on a busy machine
PREDICT = """
import json, sys
import mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict({"image": json.loads(open(sys.argv[2]).read())})
import ndpnet
print("ANSWER", json.dumps({"scores": [answer["score"] for answer in answers], "code": ndpnet.__file__}))
"""


@pytest.fixture(scope="module")
def registry_dir(pipeline: Pipeline, evaluation_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with the small model."""
    folder = tmp_path_factory.mktemp("registry")
    register_all(evaluation_dir, folder, [pipeline.model_dir])
    return folder


@pytest.fixture(scope="module")
def pictures(pipeline: Pipeline) -> list[Path]:
    """The test pictures, of two sizes."""
    return sorted((pipeline.data_dir / CATEGORY / "test").rglob("*.png"))


class ModelServer(ServerProcess):
    """`mlflow models serve` of a registered model."""

    start_limit = 240.0  # seconds, on a busy machine

    def command(self) -> list[str]:
        model = f"models:/{NAME}/1"
        serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        return [*serve, "--host", "127.0.0.1", "--port", str(self.port)]

    def variables(self) -> dict[str, str]:
        # `mlflow` starts `uvicorn` by name
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}

    def answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/ping", timeout=5).ok
        except requests.ConnectionError:
            return False


@pytest.mark.slow
def test_a_batch_over_http_scores_as_the_inspector(
    registry_dir: Path, pipeline: Pipeline, pictures: list[Path]
) -> None:
    inspector = Inspector.load(pipeline.model_dir)
    expected = [inspector.inspect(path) for path in pictures]
    texts = [as_base64(path) for path in pictures]
    arrays = [read_image(path).tolist() for path in pictures[:2]]
    payloads = (
        ({"dataframe_records": [{"image": text} for text in texts]}, expected),
        ({"inputs": {"image": texts}}, expected),
        ({"dataframe_records": [{"image": array} for array in arrays]}, expected[:2]),
    )
    with ModelServer(registry_dir).running() as server:
        for payload, verdicts in payloads:
            url = f"http://127.0.0.1:{server.port}/invocations"
            answer = requests.post(url, json=payload, timeout=ANSWER_LIMIT)
            assert answer.ok, (list(payload), answer.text)
            rows = answer.json()["predictions"]
            assert [row["score"] for row in rows] == [verdict.score for verdict in verdicts], list(payload)
            assert [row["verdict"] == "defective" for row in rows] == [verdict.is_defective for verdict in verdicts]
            assert [row["regions"] for row in rows] == [[vars(r) for r in verdict.regions] for verdict in verdicts]


@pytest.mark.slow
def test_it_loads_where_only_its_requirements_are(
    registry_dir: Path, pipeline: Pipeline, pictures: list[Path], tmp_path: Path
) -> None:
    (stored,) = registry_dir.rglob("MLmodel")
    folder = shutil.copytree(stored.parent, tmp_path / "model")  # as on another machine
    requirements = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
    assert sorted(requirements) == sorted(REQUIREMENTS)
    (tmp_path / "pictures.json").write_text(json.dumps([as_base64(path) for path in pictures]))
    environment = Environment(tmp_path / "environment", requirements)
    assert environment.heavy() == set()
    said = output([f"{environment.scripts}/python", "-c", PREDICT, folder, "pictures.json"], tmp_path)
    answer = json.loads(said.partition("ANSWER ")[2])
    inspector = Inspector.load(pipeline.model_dir)
    assert answer["scores"] == [inspector.inspect(path).score for path in pictures]
    assert answer["code"].startswith(str(folder)), "not the code that travels with the model"
