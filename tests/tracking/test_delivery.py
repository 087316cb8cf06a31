"""What the tracking server has of a run: all of it, once."""

import json
import math
from pathlib import Path

import pytest
from mlflow_servers import stored_runs
from registered import IDENTITY
from samples import CATEGORY, Pipeline
from trainings import PARAMS, delivered, history, sent, train, write_rows

from ndpnet import steps
from ndpnet.config import PARAMS_PATH, load_params
from ndpnet.redaction import redact
from ndpnet.tracking import identity
from ndpnet.tracking.client import connect, experiment_id
from ndpnet.tracking.flat import MAX_KEY, MAX_PARAM, flat_metrics, flat_params
from ndpnet.tracking.live import step_run
from ndpnet.tracking.record import records_below
from ndpnet.tracking.runs import DESCRIPTIONS


def test_evaluate_shows_all_that_it_found(pipeline: Pipeline, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "build.json").write_text(json.dumps(IDENTITY))
    monkeypatch.setattr(identity, "BUILD_PATH", store / "build.json")
    out = store / "build" / CATEGORY / "evaluation"
    summary = steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, out, pipeline.params)
    runs = stored_runs(connect())
    assert len(runs) == 2
    child = runs[f"evaluate {CATEGORY}"]
    (parent,) = (each for name, each in runs.items() if name.startswith(pipeline.params.profile))
    assert child["status"] == parent["status"] == "FINISHED"
    numbers = {key: rows[0][2] for key, rows in child["metrics"].items()}
    assert numbers["by_defect_type.hole.recall"] == summary["by_defect_type"]["hole"]["recall"]["value"]
    assert flat_metrics(summary).items() <= numbers.items()
    assert numbers["seconds_per_image"] > 0
    assert parent["metrics"][f"{CATEGORY}/image_auroc"][0][2] == summary["image_auroc"]["value"]
    files = [name for name, _ in child["artifacts"]]
    assert files == sorted(path.relative_to(out).as_posix() for path in out.rglob("[!.]*") if path.is_file())
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
        "mlflow.note.content": DESCRIPTIONS["evaluate"],
    }
    assert expected.items() <= child["tags"].items()
    assert {"ndpnet.params_hash", "ndpnet.code_hash"} <= child["tags"].keys()
    assert "ndpnet.image_digest" not in child["tags"]
    assert connect().get_experiment_by_name("ndpnet").tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_mistyped_path_leaves_finished_runs_as_they_are(pipeline: Pipeline, store: Path) -> None:
    build, missing = store / "build" / CATEGORY, store / "brik"
    prepared, model, bank, params = pipeline.prepared_dir, pipeline.model_dir, pipeline.bank_dir, pipeline.params
    steps.evaluate(prepared, model, build / "evaluation", params)
    before = stored_runs(connect())
    for call in (
        lambda: steps.prepare(missing, CATEGORY, build / "prepared", params),
        lambda: steps.train_phase1(missing, bank, build / "phase1", params, store / "work"),
        lambda: steps.evaluate(missing, model, build / "evaluation", params),
        lambda: steps.evaluate(prepared, missing, build / "evaluation", params),
    ):
        with pytest.raises(ValueError, match="brik"):
            call()
    assert stored_runs(connect()) == before


def test_another_engine_is_another_run(exported_dir: Path, pipeline: Pipeline, store: Path) -> None:
    for engine in ("onnx", "torch"):
        arguments = (pipeline.prepared_dir, exported_dir, store / "build" / engine, pipeline.params)
        steps.evaluate(*arguments, engine=engine)
    found = connect().search_runs([experiment_id(connect())], "tags.`ndpnet.step` = 'evaluate'")
    assert len(found) == 2


def test_the_outputs_are_those_of_an_untracked_step(
    pipeline: Pipeline, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(out: Path) -> dict[str, bytes]:
        with step_run("prepare", CATEGORY, out=out, params=pipeline.params) as run:
            run.result(steps.prepare(pipeline.data_dir, CATEGORY, out, pipeline.params, allow_unpinned=True))
        return {path.name: path.read_bytes() for path in out.iterdir()}

    tracked = prepare(store / "on/prepared")
    assert list((store / "on").glob(".prepared.run/*/run.json"))
    monkeypatch.setenv("NDPNET_TRACKING", "off")
    assert prepare(store / "off/prepared") == tracked
    assert [path.name for path in (store / "off").iterdir()] == ["prepared"]


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


def test_the_runs_of_a_kfp_run_are_one_pipeline_whatever_their_parameters(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDPNET_KFP_RUN_ID", "0b8dd8a3-7f52")
    monkeypatch.setenv("NDPNET_IMAGE_DIGEST", "sha256:abc")
    for seed in (0, 1):
        params = load_params(PARAMS_PATH, overrides=[f"seed={seed}"])
        out = store / f"build/brick{seed}/phase1"
        train(out, history(2), category=f"brick{seed}", params=params)
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
    with step_run(
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
        step_run("train-phase1", "brick", params=PARAMS, out=store / "build/brick/phase1"),
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


@pytest.mark.parametrize("name", ['o\'brien "x"', "Käse 100 %; DROP", "a/../b", "x" * 300, "\N{BRICK}`"])
def test_odd_names_of_what_is_measured_arrive(store: Path, name: str) -> None:
    category = "Käse 1.a+b"  # these are checked
    rows = [{"step": 1, "loss": 0.5, f"validation/{name}": 0.25}]
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
