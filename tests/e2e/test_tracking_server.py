"""The steps' verbs before a real tracking server: slow, hanging, killed and started again in the middle."""

import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow_servers import MlflowServer, PostgresServer, stored_runs
from processes import TIME_LIMIT, Finished, start_cli, wait_until
from proxy import Proxy
from samples import CATEGORY, Pipeline, write_params

from ndpnet.files import read_json_lines
from ndpnet.tracking.client import connect, experiment_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAME = f"train-phase1 {CATEGORY}"
NUM_STEPS = 300  # about a minute


@pytest.fixture
def run_of(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that tells what the server has of the step with this seed; an empty run where there is none."""
    before = mlflow.get_tracking_uri()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)

    def look(seed: int, step: str = "train-phase1") -> dict[str, Any]:
        client = connect()
        wanted = f"params.seed = '{seed}' AND tags.`ndpnet.step` = '{step}'"
        found = [run.info.run_id for run in client.search_runs([experiment_id(client)], wanted)]
        assert len(found) < 2
        return stored_runs(client, found)[f"{step} {CATEGORY}"] if found else {"metrics": {}, "status": "none"}

    yield look
    mlflow.set_tracking_uri(before)


def start(environment: dict[str, str], arguments: Sequence[object], log_path: Path) -> BaseProcess:
    # clients have no keys of the store
    without_keys = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return start_cli(arguments, log_path, without_keys | environment)


def finish(process: BaseProcess, log_path: Path) -> Finished:
    process.join(TIME_LIMIT)
    assert not process.is_alive()
    return Finished(process.exitcode, *(Path(f"{log_path}.{end}").read_text() for end in ("out", "err")))


def num_rows(work_dir: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in work_dir.glob("*/history.jsonl"))


def num_shown(run: dict[str, Any]) -> int:
    return len(run["metrics"].get("train/loss", []))


def assert_each_row_once(run: dict[str, Any], rows: list[dict[str, float]]) -> None:
    names = {"loss": "train/loss", "reconstruction": "train/reconstruction", "lr": "learning_rate"}
    names |= {name: name for row in rows for name in row if name.startswith("validation/")}
    for name, key in names.items():
        shown = [(step, value) for step, _, value in run["metrics"][key]]
        assert shown == [(row["step"], row[name]) for row in rows if name in row], key


def training(pipeline: Pipeline, folder: Path, *, seed: int, num_steps: int = NUM_STEPS) -> list[object]:
    train = {"phase1": {"epochs": num_steps / 3}}  # 12 images, 4 in a batch
    params_path = write_params(folder / "params.yaml", seed=seed, train=train, runtime={"checkpoint_seconds": 1})
    out = folder / "build" / CATEGORY / "phase1"
    return ["train-phase1", *pipeline.inputs, "--out", out, "--work-dir", folder / "work", "--params", params_path]


def test_the_server_is_that_of_a_team(postgres: PostgresServer | None, server: MlflowServer) -> None:
    if postgres is None:
        pytest.skip(f"the other tests ran before sqlite: {PostgresServer.why_not()}")
    assert server.backend_uri.startswith("postgresql")


def test_a_training_outlives_a_server_that_is_slow_hangs_and_is_killed(
    pipeline: Pipeline, server: MlflowServer, run_of: Callable[..., Any], tmp_path: Path
) -> None:
    work_dir, log_path = tmp_path / "work", tmp_path / "log"
    with Proxy(server.url) as proxy:
        proxy.bytes_per_second = 20_000
        process = start(server.environment(proxy.url), training(pipeline, tmp_path, seed=1), log_path)
        wait_until(lambda: num_shown(run_of(1)) > 0, what="no row is shown while it trains")
        assert run_of(1)["status"] == "RUNNING"
        server.freeze()
        before = num_rows(work_dir)
        wait_until(lambda: num_rows(work_dir) > before + 20, what="the training waits for a server that hangs")
        server.thaw()
        server.kill()
        before = num_rows(work_dir)
        wait_until(lambda: num_rows(work_dir) > before + 20, what="the training waits for a killed server")
        is_training = process.is_alive()
        server.restart()
        proxy.bytes_per_second = 0.0
        finished = finish(process, log_path)
    assert is_training
    assert finished.exit_code == 0, finished.stderr
    assert finished.error_lines == []
    assert finished.stderr.count("the tracking server does not take the run, the step goes on") >= 1
    if (
        num_shown(run_of(1)) < NUM_STEPS or run_of(1)["status"] != "FINISHED"
    ):  # it trained faster than the server started
        assert "ndpnet tracking flush" in finished.stderr
        flushed = start(server.environment(), ["tracking", "flush", tmp_path / "build"], log_path)
        assert finish(flushed, log_path).exit_code == 0
    run = run_of(1)
    assert run["status"] == "FINISHED"
    rows = read_json_lines(tmp_path / "build" / CATEGORY / "phase1/history.jsonl")
    assert len([row for row in rows if "loss" in row]) == NUM_STEPS
    assert_each_row_once(run, rows)
