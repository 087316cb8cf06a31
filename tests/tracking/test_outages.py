"""Nothing is lost, whatever breaks: servers that are down, answers that are lost, killed processes, damaged records."""

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calls import Calls, lose_answer, lose_request
from mlflow_servers import new_database, stored_runs
from processes import TIME_LIMIT, start, wait_until
from trainings import PARAMS, delivered, history, sent, train

from ndpnet.tracking.client import connect
from ndpnet.tracking.delivery import FAILED, flush
from ndpnet.tracking.live import step_run

CALLS = (
    "get_experiment_by_name", "search_runs", "create_run", "log_batch", "log_inputs", "log_artifact", "set_tag",
    "set_terminated", "update_run", "get_metric_history",
)  # fmt: skip


def test_delivered_later_and_twice_it_is_the_same(store: Path, down: Callable[[], None]) -> None:
    rows = history(1700)  # more metrics than fit into a few requests
    down()
    train(store / "build/brick/phase1", rows)
    (outcome,) = (outcome for name, outcome in flush(store / "build") if name == "train-phase1 brick")
    assert outcome.startswith(FAILED)
    down()
    shutil.rmtree(store / "build/brick/phase1")  # as DVC does before the next run
    copy = shutil.copytree(store / "build", store / "copy")
    assert [name for name, _ in flush(store / "build")] == ["train-phase1 brick"]
    first = stored_runs(connect())
    run = first["train-phase1 brick"]
    assert sent(run, "train/loss") == delivered(rows, "loss")
    assert sent(run, "learning_rate") == delivered(rows, "lr")
    assert sent(run, "validation/image_auroc") == delivered(rows, "validation/image_auroc")
    assert (run["metrics"]["seconds"][0][2], "step" in run["metrics"]) == (3.5, False)
    assert list(flush(store / "build")) == []
    ((name, outcome),) = flush(copy)  # knows nothing of the first delivery
    assert first[name]["run_id"] in outcome
    again = stored_runs(connect())
    assert again == first


@pytest.mark.parametrize("lose", [lose_request, lose_answer])
def test_broken_off_at_any_request_and_delivered_again_it_is_the_same(
    store: Path, down: Callable[[], None], monkeypatch: pytest.MonkeyPatch, lose: Callable[..., Any]
) -> None:
    down()
    train(store / "build/brick/phase1", history(), inputs={"prepared": store})
    down()
    kept = store / "build"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(store / "db"))
    ((_, outcome),) = flush(shutil.copytree(kept, store / "whole"))
    assert not outcome.startswith(FAILED)
    expected = _without_ids(stored_runs(connect()))
    for number in itertools.count(1):
        folder = shutil.copytree(kept, store / f"copy{number}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(store / f"db{number}"))
        with monkeypatch.context() as patch:
            calls = Calls(patch.setattr, CALLS)
            calls.at, calls.act = number, lose
            outcome = dict(flush(folder))["train-phase1 brick"]
        if not outcome.startswith(FAILED):
            break  # so many requests there are
        ((_, outcome),) = flush(folder)
        assert not outcome.startswith(FAILED), number
        assert _without_ids(stored_runs(connect())) == expected, number
    assert number > 12


def _without_ids(runs: dict[str, Any]) -> str:
    text = json.dumps(runs, sort_keys=True, default=str)
    for name, run in runs.items():
        text = text.replace(run["run_id"], f"id of {name}")
    return text


def _train_forever(out: Path) -> None:
    with step_run("train-phase1", "brick", params=PARAMS, out=out):
        time.sleep(TIME_LIMIT)


@pytest.mark.slow
def test_a_killed_step_is_shown_as_killed_by_the_next_delivery(store: Path) -> None:
    out = store / "build/brick/phase1"
    process = start(_train_forever, out)
    client = connect()
    wait_until(lambda: "train-phase1 brick" in stored_runs(client))
    ((name, outcome),) = flush(store / "build")
    assert (name, outcome) == ("train-phase1 brick", "still running: its process delivers it")
    with step_run("train-phase1", "brick", params=PARAMS, out=out) as run:
        assert run.watch_dir is None  # the other process has it
    assert {run["status"] for run in stored_runs(client).values()} == {"RUNNING"}
    process.kill()
    process.join()
    # another step of this category delivers what it finds
    train(store / "build/brick/other", history(1), category="other")
    wait_until(lambda: stored_runs(client)["train-phase1 brick"]["status"] == "KILLED")
    begun = time.monotonic()
    train(out, history(3))
    stored = stored_runs(client)["train-phase1 brick"]
    assert stored["status"] == "FINISHED"
    # of this attempt alone
    assert client.get_run(stored["run_id"]).data.metrics["step_seconds"] <= time.monotonic() - begun


def _train_one(out: Path, category: str) -> None:
    train(out, history(3), category=category)


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_pipeline_run(store: Path) -> None:
    names = [f"c{number}" for number in range(3)]
    processes = [start(_train_one, store / "build" / name / "p", name) for name in names]
    for process in processes:
        process.join(TIME_LIMIT)
        assert process.exitcode == 0
    list(flush(store / "build"))  # a locked database may have taken one too long
    runs = stored_runs(connect())
    assert len(runs) == len(names) + 1
    parents = {runs[f"train-phase1 {name}"]["tags"]["mlflow.parentRunId"] for name in names}
    assert len(parents) == 1
    assert {run["status"] for run in runs.values()} == {"FINISHED"}


def test_a_damaged_record_keeps_no_other_back(store: Path, down: Callable[[], None]) -> None:
    down()
    for name in ("a", "b"):
        train(store / f"build/{name}/phase1", history(2), category=name)
    down()
    (path,) = (store / "build/a").glob(".phase1.run/*/run.json")
    path.write_text('{"key": ')
    assert [name for name, _ in flush(store / "build")] == ["train-phase1 b"]
    with pytest.raises(ValueError, match="no folder"):
        list(flush(store / "nowhere"))
