"""What the tracking server has of a run: all of it, once, whatever broke on the way."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow_servers import free_port, new_database, stored_runs
from processes import SERVER, TIME_LIMIT
from samples import CATEGORY, Pipeline

from ndpnet import steps, tracking
from ndpnet.config import PARAMS_PATH, load_params
from ndpnet.redaction import redact
from ndpnet.tracking import live
from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.flat import MAX_KEY, MAX_PARAM, flat_metrics, flat_params
from ndpnet.tracking.flush import FAILED, flush
from ndpnet.tracking.record import records_below

PARAMS = load_params(PARAMS_PATH)
IDENTITY = {"git_commit": "c" * 40, "git_dirty": "false", "lock_hash": "d" * 64, "image_digest": "", "kfp_run_id": ""}
NUM_STEPS = 40
CALLS = (
    "get_experiment_by_name", "search_runs", "create_run", "log_batch", "log_inputs", "log_artifact", "set_tag",
    "set_terminated", "update_run", "get_metric_history",
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty tracking database in use, in an empty working directory. -> that directory"""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(tmp_path / "here"))
    monkeypatch.setenv("NDPNET_TRACKING", "on")
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    mlflow.set_tracking_uri(before)


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that makes the tracking server one that nobody listens at; calling it again brings back the store."""
    there = os.environ.get("MLFLOW_TRACKING_URI", "")

    def switch() -> None:
        is_down = os.environ["MLFLOW_TRACKING_URI"].startswith("http")
        uri = there if is_down else f"http://127.0.0.1:{free_port()}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    monkeypatch.setattr(live, "FLUSH_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return switch


def history(last_step: int = NUM_STEPS, *, factor: float = 1.0) -> list[dict[str, float]]:
    """Rows as a training writes them, one of a validation among them."""
    rows: list[dict[str, float]] = []
    for step in range(1, last_step + 1):
        rows.append({"step": step, "lr": 0.1 / step, "loss": factor * math.sqrt(step), "segmentation": factor / step})
        if step % 10 == 0:
            rows.append({"step": step, "validation/image_auroc": step / (100.0 * factor)})
    return rows


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def train(out: Path, rows: list[dict[str, float]], *, category: str = "brick", **options: Any) -> None:
    """A run of phase 1 whose training writes these rows."""
    options = {"params": PARAMS, "identity": lambda: IDENTITY} | options
    with tracking.step_run("train-phase1", category, out=out, **options) as run:
        write_rows(out / "history.jsonl", rows)
        (out / "phase1.json").write_text("{}")
        run.result({"loss": rows[-1].get("loss", 0.5), "seconds": 3.5, "step": NUM_STEPS})


def delivered(rows: list[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if name in row]


def sent(run: dict[str, Any], key: str) -> list[tuple[int, float]]:
    return [(step, value) for step, _, value in run["metrics"][key]]


def test_the_server_keeps_an_equal_row_once_and_an_equal_step_at_another_time_twice(store: Path) -> None:
    client = connect()
    run_id = client.create_run(experiment_id(client)).info.run_id
    row = Metric("loss", 0.1 + 0.2, 1000, 7)
    for rows in ([row], [row, row], [row, Metric("loss", 0.5, 1001, 8)]):
        client.log_batch(run_id, metrics=rows)
    assert [(each.step, each.value) for each in client.get_metric_history(run_id, "loss")] == [(7, 0.1 + 0.2), (8, 0.5)]
    client.log_batch(run_id, metrics=[Metric("loss", 0.1 + 0.2, 1001, 7)])
    assert len(client.get_metric_history(run_id, "loss")) == 3  # why timestamps must be the same each time


def test_evaluate_shows_all_that_it_found(pipeline: Pipeline, store: Path) -> None:
    inputs = {"prepared": pipeline.prepared_dir, "model": pipeline.model_dir}
    out = store / "build" / CATEGORY / "evaluation"
    with tracking.step_run(
        "evaluate", CATEGORY, params=pipeline.params, inputs=inputs, out=out, identity=lambda: IDENTITY
    ) as run:
        summary = run.result(steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, out, pipeline.params))
    runs = stored_runs(connect())
    assert len(runs) == 2
    child = runs[f"evaluate {CATEGORY}"]
    (parent,) = (each for name, each in runs.items() if name.startswith(pipeline.params.profile))
    assert child["status"] == parent["status"] == "FINISHED"
    numbers = {key: rows[0][2] for key, rows in child["metrics"].items()}
    assert numbers["image_auroc"] == summary["image_auroc"]["value"]
    assert numbers["image_auroc.low"] == summary["image_auroc"]["low"]
    assert numbers["by_defect_type.hole.recall"] == summary["by_defect_type"]["hole"]["recall"]["value"]
    assert flat_metrics(summary).items() <= numbers.items()
    assert numbers["seconds_per_image"] > 0
    assert parent["metrics"][f"{CATEGORY}/image_auroc"][0][2] == summary["image_auroc"]["value"]
    files = [name for name, _ in child["artifacts"]]
    assert files == sorted(path.relative_to(out).as_posix() for path in out.rglob("[!.]*") if path.is_file())
    assert sum(name.startswith("overlays/0") for name in files) == pipeline.params.evaluation.num_cases
    assert "report.html" in files
    (data,) = child["inputs"]
    data_hash = pipeline.metrics["prepare"]["data_hash"]
    assert (data["name"], data["digest"]) == (CATEGORY, data_hash[:36])
    profile = json.loads(data["profile"])
    assert profile["data_hash"] == data_hash
    assert (profile["num_test"], profile["num_test_defective"]) == (12, 6)
    assert child["params"] == parent["params"] == flat_params(json.loads(pipeline.params.to_json()))
    assert child["params"]["train.phase1.learning_rate"] == "0.001"
    expected = {
        "mlflow.parentRunId": parent["run_id"],
        "mlflow.source.name": "ndpnet evaluate",
        "mlflow.source.git.commit": IDENTITY["git_commit"],
        "ndpnet.git_dirty": "false",
        "ndpnet.lock_hash": IDENTITY["lock_hash"],
        "ndpnet.data_hash": data_hash,
        "ndpnet.step": "evaluate",
        "ndpnet.category": CATEGORY,
    }
    assert expected.items() <= child["tags"].items()
    assert {"ndpnet.params_hash", "ndpnet.code_hash"} <= child["tags"].keys()
    assert "ndpnet.image_digest" not in child["tags"]


def test_every_row_of_a_history_arrives_once(store: Path) -> None:
    rows = history(1700)  # more metrics than fit into a few requests
    train(store / "build/brick/phase1", rows)
    run = stored_runs(connect())["train-phase1 brick"]
    assert sent(run, "train/loss") == delivered(rows, "loss")
    assert sent(run, "learning_rate") == delivered(rows, "lr")
    assert sent(run, "validation/image_auroc") == delivered(rows, "validation/image_auroc")
    assert run["metrics"]["seconds"][0][2] == 3.5
    assert "step" not in run["metrics"]
    assert len(run["metrics"]["system/cpu_percent"]) == 1


def test_the_outputs_are_those_of_an_untracked_step(
    pipeline: Pipeline, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(out: Path) -> dict[str, bytes]:
        with tracking.step_run("prepare", CATEGORY, out=out, params=pipeline.params) as run:
            run.result(steps.prepare(pipeline.data_dir, CATEGORY, out, pipeline.params, allow_unpinned=True))
        return {path.name: path.read_bytes() for path in out.iterdir()}

    tracked = prepare(store / "on/prepared")
    assert list((store / "on").glob(".prepared.run/*/run.json"))
    monkeypatch.setenv("NDPNET_TRACKING", "off")
    assert prepare(store / "off/prepared") == tracked
    assert [path.name for path in (store / "off").iterdir()] == ["prepared"]


def test_switched_off_it_loads_nothing() -> None:
    code = (
        "import sys, pathlib\nfrom ndpnet import tracking\n"
        "with tracking.step_run('prepare', 'x', out=pathlib.Path('/nowhere/x'), identity=lambda: 1 / 0) as run:\n"
        "    assert run.result({'a': 1}) == {'a': 1} and run.pictures_dir is None\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('mlflow', 'psutil', 'pydantic')))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NDPNET_TRACKING": "off"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert finished.stdout.strip() == ""


def test_delivered_later_and_twice_it_is_the_same(store: Path, down: Callable[[], None]) -> None:
    down()
    train(store / "build/brick/phase1", history())
    (outcome,) = (outcome for name, outcome in flush(store / "build") if name == "train-phase1 brick")
    assert outcome.startswith(FAILED)
    down()
    shutil.rmtree(store / "build/brick/phase1")  # as DVC does before the next run
    copy = shutil.copytree(store / "build", store / "copy")
    assert [name for name, _ in flush(store / "build")] == ["train-phase1 brick"]
    first = stored_runs(connect())
    assert sent(first["train-phase1 brick"], "train/loss") == delivered(history(), "loss")
    assert list(flush(store / "build")) == []
    ((name, outcome),) = flush(copy)  # knows nothing of the first delivery
    assert first[name]["run_id"] in outcome
    again = stored_runs(connect())
    assert again == first


@pytest.mark.parametrize("is_done", [False, True], ids=["request lost", "answer lost"])
def test_broken_off_at_any_request_and_delivered_again_it_is_the_same(
    store: Path, down: Callable[[], None], monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    down()
    train(store / "build/brick/phase1", history(), inputs={"prepared": store / "none"})
    down()
    kept = store / "build"
    expected = _without_ids(_deliver_copy(kept, store / "whole", new_database(store / "db"), monkeypatch))
    number = 0
    while True:
        number += 1
        folder = shutil.copytree(kept, store / f"copy{number}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", new_database(store / f"db{number}"))
        num_calls = 0

        def breaking(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
                nonlocal num_calls
                num_calls += 1
                if num_calls == number and not is_done:  # noqa: B023
                    raise ConnectionError("the request is lost")
                result = original(self, *args, **kwargs)
                if num_calls == number:  # noqa: B023
                    raise ConnectionError("the answer is lost")
                return result

            return call

        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(MlflowClient, name, breaking(getattr(MlflowClient, name)))
            outcome = dict(flush(folder))["train-phase1 brick"]
        if not outcome.startswith(FAILED):
            break  # so many requests there are
        ((_, outcome),) = flush(folder)
        assert not outcome.startswith(FAILED), number
        assert _without_ids(stored_runs(connect())) == expected, number
    assert number > 12


def _deliver_copy(kept: Path, copy: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    ((_, outcome),) = flush(shutil.copytree(kept, copy))
    assert not outcome.startswith(FAILED)
    return stored_runs(connect())


def _without_ids(runs: dict[str, Any]) -> str:
    text = json.dumps(runs, sort_keys=True, default=str)
    for name, run in runs.items():
        text = text.replace(run["run_id"], f"id of {name}")
    return text


def test_steps_that_a_resumed_training_repeats_are_not_doubled(store: Path) -> None:
    out = store / "build/brick/phase1"
    train(out, history(30))
    # on another machine the last bits of repeated steps differ: what was shown stays, what is new follows
    train(out, history(40, factor=1.0000001))
    run = stored_runs(connect())["train-phase1 brick"]
    assert (
        sent(run, "train/loss")
        == delivered(history(30), "loss") + delivered(history(40, factor=1.0000001), "loss")[30:]
    )
    assert len(sent(run, "validation/image_auroc")) == 4
    assert run["tags"]["ndpnet.attempts"] == "2"


def test_other_data_parameters_or_code_are_another_run(store: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    out = store / "build/brick/phase1"
    for loss in (1.0, 2.0):
        write_rows(prepared / "manifest.jsonl", [{"step": 1, "loss": loss}])
        train(out, history(5, factor=loss), inputs={"prepared": prepared})
    client = connect()
    runs = client.search_runs(
        [experiment_id(client)], "tags.`ndpnet.step` = 'train-phase1'", order_by=["start_time ASC"]
    )
    assert [run.data.metrics["train/loss"] for run in runs] == [math.sqrt(5), 2.0 * math.sqrt(5)]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1
    train(out, history(5), params=load_params(PARAMS_PATH, overrides=["seed=1"]))
    assert len(client.search_runs([experiment_id(client)], "tags.`ndpnet.step` = 'pipeline'")) == 2
    assert len(list(records_below(store / "build"))) == 1  # those of earlier runs are delivered, and forgotten


def test_the_runs_of_a_kfp_run_are_one_pipeline_whatever_their_parameters(store: Path) -> None:
    identity = IDENTITY | {"kfp_run_id": "0b8dd8a3-7f52", "image_digest": "sha256:abc"}
    for seed in (0, 1):
        params = load_params(PARAMS_PATH, overrides=[f"seed={seed}"])
        out = store / f"build/brick{seed}/phase1"
        train(out, history(2), category=f"brick{seed}", params=params, identity=lambda: identity)
    runs = stored_runs(connect())
    assert len(runs) == 3
    (parent,) = (run for run in runs.values() if run["tags"]["ndpnet.step"] == "pipeline")
    assert parent["tags"]["ndpnet.plan"] == parent["tags"]["ndpnet.kfp_run_id"] == "0b8dd8a3-7f52"
    assert parent["tags"]["ndpnet.image_digest"] == "sha256:abc"
    assert [runs[f"train-phase1 brick{seed}"]["params"]["seed"] for seed in (0, 1)] == ["0", "1"]
    assert parent["params"]["seed"] == "0"
    assert {run["tags"].get("mlflow.parentRunId") for run in runs.values()} == {None, parent["run_id"]}


def test_a_step_is_linked_to_the_runs_that_made_its_inputs(store: Path) -> None:
    train(store / "build/brick/phase1", history(2))
    with tracking.step_run(
        "train-phase2", "brick", params=PARAMS, inputs={"phase1": store / "build/brick/phase1"}, out=store / "build/m"
    ) as run:
        run.result({"threshold": 0.25})
    runs = stored_runs(connect())
    assert runs["train-phase2 brick"]["tags"]["ndpnet.input.phase1"] == runs["train-phase1 brick"]["run_id"]
    assert runs["train-phase2 brick"]["metrics"]["threshold"][0][2] == 0.25


def test_a_failed_step_is_shown_as_failed_without_its_secrets(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    message = "cannot fetch\nhttps://me:pa55word@host/x?token=t0ken, key wJalrXUtnFEMI"
    with (
        pytest.raises(ValueError, match="cannot fetch"),
        tracking.step_run(
            "train-phase1", "brick", params=PARAMS, out=store / "build/brick/phase1", identity=lambda: IDENTITY
        ),
    ):
        raise ValueError(message)
    runs = stored_runs(connect())
    run = runs["train-phase1 brick"]
    assert run["status"] == "FAILED"
    assert run["tags"]["ndpnet.error"] == "ValueError: cannot fetch https://host/x?token=***, key ***"
    assert {each["status"] for each in runs.values()} == {"FAILED"}
    everything = json.dumps(runs, default=str) + caplog.text
    everything += "".join(path.read_text(errors="replace") for path in store.rglob("*.json*"))
    assert not any(secret in everything for secret in ("pa55word", "t0ken", "wJalrXUtnFEMI"))
    # mended, it is the same run, and no longer failed
    train(store / "build/brick/phase1", history(3))
    train_again = stored_runs(connect())["train-phase1 brick"]
    assert (train_again["status"], "ndpnet.error" in train_again["tags"]) == ("FINISHED", False)


def _train_forever(uri: str, out: Path) -> None:
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "NDPNET_TRACKING": "on"}
    with tracking.step_run("train-phase1", "brick", params=PARAMS, out=out, identity=lambda: IDENTITY):
        time.sleep(TIME_LIMIT)


@pytest.mark.slow
def test_a_killed_step_is_shown_as_killed_by_the_next_delivery(store: Path) -> None:
    out = store / "build/brick/phase1"
    process = SERVER.Process(target=_train_forever, args=(os.environ["MLFLOW_TRACKING_URI"], out))
    process.start()
    client = connect()
    _wait_until(lambda: "train-phase1 brick" in stored_runs(client))
    ((name, outcome),) = flush(store / "build")
    assert (name, outcome.partition(" as ")[0]) == ("train-phase1 brick", "still running")
    with tracking.step_run("train-phase1", "brick", params=PARAMS, out=out, identity=lambda: IDENTITY) as run:
        assert run.pictures_dir is None  # the other process has it
    assert {run["status"] for run in stored_runs(client).values()} == {"RUNNING"}
    process.kill()
    process.join()
    # another step of this category delivers what it finds
    train(store / "build/brick/other", history(1), category="other")
    _wait_until(lambda: stored_runs(client)["train-phase1 brick"]["status"] == "KILLED")
    train(out, history(3))
    assert stored_runs(client)["train-phase1 brick"]["status"] == "FINISHED"


@pytest.mark.slow
def test_a_killed_step_whose_folder_is_gone_is_ended_too(store: Path) -> None:
    process = SERVER.Process(target=_train_forever, args=(os.environ["MLFLOW_TRACKING_URI"], store / "build/x"))
    process.start()
    client = connect()
    _wait_until(lambda: any("ndpnet.process" in run["tags"] for run in stored_runs(client).values()))
    process.kill()
    process.join()
    shutil.rmtree(store / "build")
    (store / "build").mkdir()
    assert [name for name, _ in flush(store / "build")] == ["train-phase1 brick"]
    assert stored_runs(client)["train-phase1 brick"]["status"] == "KILLED"


def _train_one(uri: str, out: Path, category: str) -> None:
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "NDPNET_TRACKING": "on"}
    train(out, history(3), category=category)


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_pipeline_run(store: Path) -> None:
    names = [f"c{number}" for number in range(3)]
    processes = [
        SERVER.Process(target=_train_one, args=(os.environ["MLFLOW_TRACKING_URI"], store / "build" / name / "p", name))
        for name in names
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIME_LIMIT)
        assert process.exitcode == 0
    list(flush(store / "build"))  # a locked database may have taken one too long
    runs = stored_runs(connect())
    assert len(runs) == len(names) + 1
    parents = {runs[f"train-phase1 {name}"]["tags"]["mlflow.parentRunId"] for name in names}
    assert len(parents) == 1
    assert {run["status"] for run in runs.values()} == {"FINISHED"}


def test_a_run_that_was_made_twice_is_made_one(store: Path) -> None:
    train(store / "build/brick/phase1", history(3))
    client = connect()
    experiment = experiment_id(client)
    (parent,) = client.search_runs([experiment], "tags.`ndpnet.step` = 'pipeline'")
    tags = {key: parent.data.tags[key] for key in ("ndpnet.step", "ndpnet.plan", "mlflow.runName")}
    second = client.create_run(experiment, start_time=parent.info.start_time + 1, tags=tags).info.run_id
    child = client.create_run(experiment, tags={"mlflow.parentRunId": second, "mlflow.runName": "child"}).info.run_id
    train(store / "build/grass/phase1", history(3), category="grass")
    assert stored_runs(client)["child"]["tags"]["mlflow.parentRunId"] == parent.info.run_id
    assert client.get_run(second).info.lifecycle_stage == "deleted"
    assert client.get_run(child).info.lifecycle_stage == "active"


@pytest.mark.parametrize("category", ['o\'brien "x"', "Käse 100 %; DROP", "a/../b", "x" * 300, "\N{BRICK}`"])
def test_odd_names_arrive(store: Path, category: str) -> None:
    rows = [{"step": 1, "loss": 0.5, f"validation/{category}": 0.25}]
    train(store / "build/odd  #name%20/phase1", rows, category=category)
    client = connect()
    (run,) = client.search_runs([experiment_id(client)], "tags.`ndpnet.step` = 'train-phase1'")
    assert run.data.tags["ndpnet.category"] == category
    assert run.data.metrics["train/loss"] == 0.5
    assert 0.25 in run.data.metrics.values()
    assert [info.path for info in client.list_artifacts(run.info.run_id)] == ["phase1.json"]


def test_what_cannot_be_tracked_is_said_and_the_step_goes_on(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    (store / "build/brick").mkdir(parents=True)
    (store / "build/brick/.phase1.run").write_text("a file where the runs are noted")
    train(store / "build/brick/phase1", history(2))
    assert "this run is not tracked" in caplog.text
    assert len((store / "build/brick/phase1/history.jsonl").read_text().splitlines()) == 2


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


def test_flat_names_stay_apart_and_within_the_limits() -> None:
    values = {"a": {"b c": [1, 2], "é": "x" * 7000}, "d" * 300 + "1": 1, "d" * 300 + "2": 2, "e=f": 3, "e#f": 4}
    params = flat_params(values)
    assert params["a.b c"] == "[1, 2]"
    assert len(params["a.é"]) == MAX_PARAM
    assert len(params) == 6
    assert max(map(len, params)) <= MAX_KEY
    summary = {"x": {"value": 0.5, "low": 0.25}, "flag": True, "none": None, "text": "1", "nan": math.nan}
    assert flat_metrics(summary) == {"x": 0.5, "x.low": 0.25}


def test_redacting_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    assert redact("get s3://bucket/token/a.png\n  from /dev/null") == "get s3://bucket/token/a.png from /dev/null"
    text = "401 for http://bob:hunter22@host:5000/x?X-Amz-Signature=ab12&n=1 (password: hunter22)"
    assert redact(text) == "401 for http://host:5000/x?X-Amz-Signature=***&n=1 (password: ***)"


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
