"""Delivering while a step runs: the step never waits, and what it wrote is shown once, whatever the server does."""

import os
import socket
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow_servers import stored_runs
from processes import wait_until
from samples import CATEGORY, Pipeline
from servers import free_port
from trainings import PARAMS, sent

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


class Training:
    """Writes a history as a training does: rows in bunches."""

    def __init__(self, work_dir: Path, out: Path) -> None:
        self.folder, self.out = work_dir / "phase1-0123456789abcdef", out
        self.step = 0

    def resume(self, run: live.StepRun) -> None:
        self.checkpoint = Checkpoint(self.folder)
        (run.watch_dir / "history.jsonl").symlink_to(self.checkpoint.history_path)
        state = self.checkpoint.load()
        self.step = state["step"] if state else 0
        self.checkpoint.cut_history(self.step)

    def go_on(self, num_steps: int) -> None:
        rows = [{"step": step, "loss": 1.0 / step} for step in range(self.step + 1, self.step + num_steps + 1)]
        self.checkpoint.append_history(rows)
        self.step += num_steps

    def finish(self) -> None:
        self.out.mkdir(parents=True)
        self.folder.joinpath("history.jsonl").rename(self.out / "history.jsonl")
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def losses(last_step: int) -> list[tuple[int, float]]:
    return [(step, 1.0 / step) for step in range(1, last_step + 1)]


def shown() -> list[tuple[int, float]]:
    runs = stored_runs(connect())
    return [(step, value) for step, _, value in runs[NAME]["metrics"].get("train/loss", [])] if NAME in runs else []


def test_rows_are_shown_while_the_training_writes_them(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, work_dir = store / "build/brick/phase1", store / "work"
    training = Training(work_dir, out)
    with step_run("train-phase1", "brick", params=PARAMS, out=out) as run:
        with only_process(training.folder):
            training.resume(run)
            for number in range(1, 4):
                training.go_on(16)
                wait_until(lambda number=number: shown() == losses(16 * number))
                assert stored_runs(connect())[NAME]["status"] == "RUNNING"
            run.watch_dir.joinpath("pictures").mkdir()
            (run.watch_dir / "pictures/step_000048.png").write_bytes(b"png")
            wait_until(lambda: ("validation/step_000048.png", 3) in stored_runs(connect())[NAME]["artifacts"])
            training.finish()
        run.result({"loss": 0.5})
    stored = stored_runs(connect())[NAME]
    assert (stored["status"], shown()) == ("FINISHED", losses(48))


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
        training = Training(store / "work", store / "build/brick/phase1")
        started = time.monotonic()
        with step_run("train-phase1", "brick", params=PARAMS, out=training.out) as run:
            with only_process(training.folder):
                training.resume(run)
                training.go_on(5)
                time.sleep(0.3)
                training.finish()
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
    assert shown() == losses(5)
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
