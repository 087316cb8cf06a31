"""Delivering while a step runs: the step never waits, and what it wrote is shown once, whatever the server does."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow_servers import stored_runs
from processes import wait_until
from samples import CATEGORY, Pipeline
from servers import free_port
from trainings import PARAMS, delivered, history, sent

from ndpnet import steps
from ndpnet.cli import OneLineErrors
from ndpnet.cli_upkeep import tracking_group
from ndpnet.tracking import live
from ndpnet.tracking.client import connect
from ndpnet.tracking.delivery import rows_from
from ndpnet.tracking.live import step_run
from ndpnet.training.checkpoint import Checkpoint, only_process
from ndpnet.training.loop import Trainer

NAME = "train-phase1 brick"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(live, "POLL_SECONDS", 0.05)


def finish(checkpoint: Checkpoint, out: Path) -> None:
    """As a training ends: its history goes with the outputs, its folder goes."""
    out.mkdir(parents=True)
    checkpoint.history_path.rename(out / "history.jsonl")
    shutil.rmtree(checkpoint.folder)


def shown() -> list[tuple[int, float]]:
    runs = stored_runs(connect())
    return sent(runs[NAME], "train/loss") if "train/loss" in runs.get(NAME, {}).get("metrics", {}) else []


def test_rows_are_shown_while_the_training_writes_them(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, out = Checkpoint(store / "work/phase1-0123456789abcdef"), store / "build/brick/phase1"
    with step_run("train-phase1", "brick", params=PARAMS, out=out) as run:
        (run.watch_dir / "history.jsonl").symlink_to(checkpoint.history_path)
        with only_process(checkpoint.folder):
            for last in (16, 32, 48):
                checkpoint.append_history([row for row in history(48) if last - 16 < row["step"] <= last])
                wait_until(lambda last=last: shown() == delivered(history(last), "loss"))
                assert stored_runs(connect())[NAME]["status"] == "RUNNING"
            run.watch_dir.joinpath("pictures").mkdir()
            (run.watch_dir / "pictures/step_000048.png").write_bytes(b"png")
            wait_until(lambda: ("validation/step_000048.png", 3) in stored_runs(connect())[NAME]["artifacts"])
            finish(checkpoint, out)
        run.result({"loss": 0.5})
    stored = stored_runs(connect())[NAME]
    assert (stored["status"], shown()) == ("FINISHED", delivered(history(48), "loss"))


def test_an_interrupted_training_shows_how_far_it_came(
    pipeline: Pipeline, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Trainer.run_step

    def stop(trainer: Trainer) -> None:
        take(trainer)
        if trainer.step == 7:
            trainer.flush()
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run_step", stop)
    inputs = (pipeline.prepared_dir, pipeline.bank_dir)
    with pytest.raises(KeyboardInterrupt):
        steps.train_phase1(*inputs, store / "build" / CATEGORY / "phase1", pipeline.params, store / "work")
    stored = stored_runs(connect())[f"train-phase1 {CATEGORY}"]
    assert (stored["status"], [step for step, _ in sent(stored, "train/loss")]) == ("KILLED", [*range(1, 8)])


@pytest.mark.parametrize("is_silent", [False, True], ids=["nobody listens", "takes and never answers"])
def test_a_training_does_not_wait_for_a_server_that_is_down(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_silent: bool
) -> None:
    there = os.environ["MLFLOW_TRACKING_URI"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if is_silent else free_port()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:pa55word@127.0.0.1:{port}")
        monkeypatch.setattr(live, "FLUSH_SECONDS", 1.0)
        checkpoint, out = Checkpoint(store / "work/phase1-0123456789abcdef"), store / "build/brick/phase1"
        started = time.monotonic()
        with step_run("train-phase1", "brick", params=PARAMS, out=out) as run:
            with only_process(checkpoint.folder):
                checkpoint.append_history(history(5))
                time.sleep(0.3)
                finish(checkpoint, out)
            run.result({"loss": 0.5})
        assert time.monotonic() - started < 6.0
        said = caplog.text  # before the server is gone, which ends what waits for it
    assert f"`ndpnet tracking flush {store / 'build'}`" in said
    assert said.count("the step goes on") == (0 if is_silent else 1)
    flushed = CliRunner().invoke(tracking_group, ["flush", str(store / "build")])
    assert (flushed.exit_code, flushed.output.startswith(f"{NAME}: not delivered: ")) == (1, True)
    assert "pa55word" not in flushed.output
    assert "pa55word" not in caplog.text
    assert not any("pa55word" in path.read_text() for path in store.rglob("*.json"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    flushed = CliRunner().invoke(tracking_group, ["flush", str(store / "build")])
    assert flushed.exit_code == 0, flushed.output
    assert flushed.output.startswith(f"{NAME}: finished, delivered as run ")
    assert shown() == delivered(history(5), "loss")
    assert CliRunner().invoke(tracking_group, ["flush", str(store / "build")]).output == "nothing to deliver\n"


def test_flush_where_tracking_is_off(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDPNET_TRACKING", "off")
    main = OneLineErrors("main", commands={"tracking": tracking_group})
    flushed = CliRunner().invoke(main, ["tracking", "flush", str(store)])
    assert (flushed.exit_code, flushed.output) == (1, "Error: tracking is switched off (unset NDPNET_TRACKING)\n")


def test_rows_are_whole_whatever_is_done_to_their_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert list(rows_from(path, 0)) == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(rows_from(path, 0)) == [{"step": 1}, {"step": 2}]
    assert list(rows_from(path, 2)) == [{"step": 2}]
    with path.open("a") as stream:
        stream.write('ep": 3}\nnot json\n{"step": 4}\n')
    assert [row["step"] for row in rows_from(path, 2)] == [2, 3, 4]
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    checkpoint = Checkpoint(tmp_path)
    checkpoint.cut_history(2)
    checkpoint.append_history([{"step": 3, "loss": 1.0}])
    assert list(rows_from(path, 2)) == [{"step": 2}, {"step": 3, "loss": 1.0}]
