"""Real processes killed at any moment: the same command again continues, and ends bit for bit as if nothing was."""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_pipeline import num_lines
from processes import TIME_LIMIT, kill_when, run_cli, start_cli
from repositories import contents
from samples import CATEGORY, Pipeline, write_params
from servers import S3Server

from ndpnet import steps
from ndpnet.config import load_params

pytestmark = pytest.mark.slow

NUM_KILLS = 5


def after(seconds: float, is_time: Callable[[], bool]) -> Callable[[], bool]:
    """A moment some time after `is_time`."""
    since: list[float] = []

    def is_later() -> bool:
        if not since and is_time():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return is_later


def moments(work_dir: Path, out_dir: Path, phase: str) -> Iterator[Callable[[], bool]]:
    """When to kill: in computing and in checkpoints at random, in a checkpoint, and while the output is written."""
    rng = random.Random(phase)
    for _ in range(NUM_KILLS):
        goal = num_lines(work_dir, phase) + 1
        # about a step of a fast machine: with more it would have ended before the last kill
        yield after(rng.uniform(0.0, 0.02), lambda goal=goal: num_lines(work_dir, phase) >= goal)
    yield lambda: any(work_dir.glob(f"{phase}-*/state.tmp"))
    yield lambda: any(out_dir.parent.glob(f".{out_dir.name}.*.partial/weights.safetensors"))


def leave_half_written(work_dir: Path, phase: str) -> None:
    """What a kill in the middle of the two writes leaves."""
    (folder,) = (path for path in work_dir.glob(f"{phase}-*") if path.is_dir())
    (folder / "state.tmp").write_bytes((folder / "state.pt").read_bytes()[:1234])
    with (folder / "history.jsonl").open("a") as history:
        history.write('{"loss": 0.25, "lr": 0.0')


@pytest.mark.parametrize("phase", ["phase1", "phase2"])
def test_a_killed_training_ends_bit_for_bit_as_an_uninterrupted_one(
    pipeline: Pipeline, tmp_path: Path, phase: str
) -> None:
    work_dir, out_dir = tmp_path / "work", tmp_path / "out"
    inputs = [*pipeline.inputs, *(["--phase1", pipeline.phase1_dir] if phase == "phase2" else [])]
    command = [f"train-{phase}", *inputs, "--out", out_dir, "--work-dir", work_dir, "--params", pipeline.params_path]
    steps_done = []
    for number, is_time in enumerate(moments(work_dir, out_dir, phase)):
        if not kill_when(start_cli(command, tmp_path / f"log{number}"), is_time):
            assert number >= NUM_KILLS, (tmp_path / f"log{number}.err").read_text()
            break  # faster than the look at its files
        assert not out_dir.exists()
        steps_done.append(num_lines(work_dir, phase))
        if number == 2:
            leave_half_written(work_dir, phase)
    last = run_cli(command, tmp_path / "log")
    assert last.exit_code == 0, last.stderr
    logs = "".join(path.read_text() for path in tmp_path.glob("log*.err"))
    assert logs.count(f"{phase[:-1]} {phase[-1]}: resumed after step ") >= NUM_KILLS - 1
    assert 0 < steps_done[0] < steps_done[NUM_KILLS - 1]
    expected = pipeline.phase1_dir if phase == "phase1" else pipeline.model_dir
    assert contents(out_dir) == contents(expected)
    assert list(work_dir.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("log")) == ["out", "work"]


def test_a_new_pod_continues_from_s3_and_ends_bit_for_bit_the_same(
    pipeline: Pipeline, s3: S3Server, tmp_path: Path
) -> None:
    # enough steps to lose S3 or the process in between
    params_path = write_params(tmp_path / "params.yaml", train={"phase1": {"epochs": 20}})
    params, whole = load_params(params_path), tmp_path / "whole"
    steps.train_phase1(pipeline.prepared_dir, pipeline.bank_dir, whole, params, tmp_path / "work")
    bucket, out_dir = s3.make_bucket(), tmp_path / "out"
    where = ["--out", out_dir, "--work-dir", f"s3://{bucket}/work", "--params", params_path]
    command = ["train-phase1", *pipeline.inputs, *where]
    for number in range(3):
        pod_dir = tmp_path / f"pod{number}"  # each has an empty disk of its own
        pod_dir.mkdir()
        environment = os.environ | s3.environment() | {"TMPDIR": str(pod_dir)}
        process = start_cli(command, tmp_path / f"log{number}", environment)
        if number < 2:
            before = stored_versions(s3, bucket)
            assert kill_when(process, lambda before=before: len(stored_versions(s3, bucket) - before) > 0)
            assert list(pod_dir.glob(".ndpnet-work.*/phase1-*/state.pt"))
        else:
            process.join(TIME_LIMIT)
            assert process.exitcode == 0, (tmp_path / f"log{number}.err").read_text()
    for number in (1, 2):
        log = (tmp_path / f"log{number}.err").read_text()
        assert f"brought the checkpoint s3://{bucket}/work/{CATEGORY}/phase1-" in log
        assert "phase 1: resumed after step " in log
    assert contents(out_dir) == contents(whole)
    assert not s3.client().list_objects_v2(Bucket=bucket).get("Contents")
    assert list(pod_dir.iterdir()) == []


def stored_versions(s3: S3Server, bucket: str) -> set[str]:
    """What tells one stored checkpoint from the next."""
    return {entry["ETag"] for entry in s3.client().list_objects_v2(Bucket=bucket).get("Contents", []) if entry["Size"]}
