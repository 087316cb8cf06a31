"""A training before a real tracking server: slow, hanging, killed and started again in the middle."""

import os
from pathlib import Path
from typing import Any

import pytest
from mlflow_servers import MlflowServer, stored_runs
from processes import finish, start_cli, wait_until
from proxy import Proxy
from samples import CATEGORY, Pipeline, write_params
from servers import set_only

from ndpnet.files import read_json_lines
from ndpnet.tracking.client import connect, experiment_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED, NUM_STEPS = 4711, 300  # of a training that takes about a minute


def stored_run() -> dict[str, Any]:
    """What the server has of the training; an empty run where there is none."""
    client = connect()
    wanted = f"params.seed = '{SEED}' AND tags.`ndpnet.step` = 'train-phase1'"
    found = [run.info.run_id for run in client.search_runs([experiment_id(client)], wanted)]
    assert len(found) < 2
    return stored_runs(client, found)[f"train-phase1 {CATEGORY}"] if found else {"metrics": {}, "status": "none"}


def num_shown() -> int:
    return len(stored_run()["metrics"].get("train/loss", []))


def wait_for_rows(work_dir: Path, what: str) -> None:
    """Wait until the training has written more rows than now."""

    def num_rows() -> int:
        return sum(path.read_bytes().count(b"\n") for path in work_dir.glob("*/history.jsonl"))

    before = num_rows()
    wait_until(lambda: num_rows() > before + 20, what=what)


def assert_each_row_once(run: dict[str, Any], rows: list[dict[str, float]]) -> None:
    names = {"loss": "train/loss", "reconstruction": "train/reconstruction", "lr": "learning_rate"}
    names |= {name: name for row in rows for name in row if name.startswith("validation/")}
    for name, key in names.items():
        shown = [(step, value) for step, _, value in run["metrics"][key]]
        assert shown == [(row["step"], row[name]) for row in rows if name in row], key


def test_a_training_outlives_a_server_that_is_slow_hangs_and_is_killed(
    pipeline: Pipeline, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_only(monkeypatch, server.environment())  # clients have no keys of the store
    train = {"phase1": {"epochs": NUM_STEPS / 3}}  # 12 images, 4 in a batch
    params_path = write_params(tmp_path / "params.yaml", seed=SEED, train=train, runtime={"checkpoint_seconds": 1})
    out, work_dir, log_path = tmp_path / "build" / CATEGORY / "phase1", tmp_path / "work", tmp_path / "log"
    command = ["train-phase1", *pipeline.inputs, "--out", out, "--work-dir", work_dir, "--params", params_path]
    with Proxy(server.url) as proxy:
        proxy.bytes_per_second = 20_000
        process = start_cli(command, log_path, os.environ | server.environment(proxy.url))
        wait_until(lambda: num_shown() > 0, what="no row is shown while it trains")
        assert stored_run()["status"] == "RUNNING"
        server.freeze()
        wait_for_rows(work_dir, "the training waits for a server that hangs")
        server.kill()
        wait_for_rows(work_dir, "the training waits for a killed server")
        is_training = process.is_alive()
        server.restart()
        proxy.bytes_per_second = 0.0
        finished = finish(process, log_path)
    assert is_training
    assert finished.exit_code == 0, finished.stderr
    assert finished.error_lines == []
    assert finished.stderr.count("the tracking server does not take the run, the step goes on") >= 1
    if num_shown() < NUM_STEPS or stored_run()["status"] != "FINISHED":  # it trained faster than the server started
        assert "ndpnet tracking flush" in finished.stderr
        flushed = start_cli(["tracking", "flush", tmp_path / "build"], log_path)
        assert finish(flushed, log_path).exit_code == 0
    run, rows = stored_run(), read_json_lines(out / "history.jsonl")
    assert run["status"] == "FINISHED"
    assert len([row for row in rows if "loss" in row]) == NUM_STEPS
    assert_each_row_once(run, rows)
