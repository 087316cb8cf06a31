"""Real processes killed at any moment: the same command again continues, and ends bit for bit as if nothing was."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import TIME_LIMIT, kill_when, run_cli, start_cli, wait_until
from repositories import contents
from samples import CATEGORY, NUM_STEPS, Pipeline, write_params
from servers import S3Server

import ndpnet
from ndpnet import steps
from ndpnet.config import load_params

pytestmark = pytest.mark.slow

NUM_KILLS = 5
REPOSITORY = Path(ndpnet.__file__).parents[1]


def num_lines(work_dir: Path, phase: str) -> int:
    """Finished lines in the history of the phase that is being trained below a work folder."""
    return sum(path.read_bytes().count(b"\n") for path in work_dir.glob(f"{phase}-*/history.jsonl"))


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


def stored_keys(s3: S3Server, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture(scope="module")
def longer(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Parameters with enough steps to lose S3 or the process in between, and what phase 1 makes of them."""
    folder = tmp_path_factory.mktemp("longer")
    params_path = write_params(folder / "params.yaml", train={"phase1": {"epochs": 20}})
    steps.train_phase1(
        pipeline.prepared_dir, pipeline.bank_dir, folder / "out", load_params(params_path), folder / "work"
    )
    return params_path, contents(folder / "out")


def command_on_s3(pipeline: Pipeline, params_path: Path, out_dir: Path, bucket: str) -> list[object]:
    where = ["--out", out_dir, "--work-dir", f"s3://{bucket}/work", "--params", params_path]
    return ["train-phase1", *pipeline.inputs, *where]


def test_a_new_pod_continues_from_s3_and_ends_bit_for_bit_the_same(
    pipeline: Pipeline, longer: tuple[Path, dict[str, bytes]], s3: S3Server, tmp_path: Path
) -> None:
    params_path, expected = longer
    bucket, out_dir = s3.make_bucket(), tmp_path / "out"
    command = command_on_s3(pipeline, params_path, out_dir, bucket)
    for number in range(3):
        pod_dir = tmp_path / f"pod{number}"  # each has an empty disk of its own
        pod_dir.mkdir()
        environment = os.environ | s3.environment() | {"TMPDIR": str(pod_dir)}
        process = start_cli(command, tmp_path / f"log{number}", environment)
        if number < 2:
            before = stored_versions(s3, bucket)
            assert kill_when(process, lambda before=before: len(stored_versions(s3, bucket) - before) > 0)
            assert list(pod_dir.glob(".ndpnet-work.*.partial/phase1-*/state.pt"))
        else:
            process.join(TIME_LIMIT)
            assert process.exitcode == 0, (tmp_path / f"log{number}.err").read_text()
    for number in (1, 2):
        log = (tmp_path / f"log{number}.err").read_text()
        assert f"brought the checkpoint s3://{bucket}/work/{CATEGORY}/phase1-" in log
        assert "phase 1: resumed after step " in log
    assert contents(out_dir) == expected
    assert stored_keys(s3, bucket) == []
    assert list(pod_dir.iterdir()) == []


def stored_versions(s3: S3Server, bucket: str) -> set[str]:
    """What tells one stored checkpoint from the next."""
    return {entry["ETag"] for entry in s3.client().list_objects_v2(Bucket=bucket).get("Contents", []) if entry["Size"]}


def make_project(project_dir: Path, data_dir: Path) -> None:
    """A repository with this one's dvc.yaml and library, tiny parameters and pictures."""
    project_dir.mkdir()
    # as the fixture that the results are compared with: its pictures are not pinned
    stages = (REPOSITORY / "dvc.yaml").read_text()
    assert "-m ndpnet prepare " in stages
    (project_dir / "dvc.yaml").write_text(stages.replace("ndpnet prepare ", "ndpnet prepare --allow-unpinned "))
    shutil.copytree(REPOSITORY / "ndpnet", project_dir / "ndpnet", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(data_dir, project_dir / "data")
    write_params(project_dir / "ndpnet" / "params.yaml")


def dvc_environment(project_dir: Path) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SHELL": "/bin/sh",
        "PYTHONPATH": "",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(project_dir.parent / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(project_dir.parent / "global"),
    }


def start_dvc(project_dir: Path, log_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    dvc = Path(sys.executable).parent / "dvc"
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [dvc, *arguments],
            cwd=project_dir,
            env=dvc_environment(project_dir),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill_dvc(process: subprocess.Popen[bytes], is_time: Callable[[], bool], log_path: Path, *, group: bool) -> None:
    """SIGKILL `dvc repro`, with all it started or by itself, once it is time."""
    wait_until(lambda: is_time() or process.poll() is not None)
    assert process.poll() is None, log_path.read_text()
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(TIME_LIMIT)


@pytest.mark.timeout(600)
def test_a_killed_dvc_repro_continues_with_the_same_command(pipeline: Pipeline, tmp_path: Path) -> None:
    project_dir = tmp_path / "project"
    make_project(project_dir, pipeline.data_dir)
    for command in (["git", "init", "--quiet"], [Path(sys.executable).parent / "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=project_dir, env=dvc_environment(project_dir), check=True, timeout=TIME_LIMIT)
    work_dir = project_dir / ".work" / CATEGORY
    repro = ("repro", f"train_phase2@{CATEGORY}")
    # first the whole group of processes, then DVC alone: the step that it leaves behind must not go on
    for phase, group in (("phase1", True), ("phase2", False)):
        log_path = tmp_path / f"{phase}.log"
        is_time = lambda phase=phase: num_lines(work_dir, phase) >= NUM_STEPS // 3  # noqa: E731
        kill_dvc(start_dvc(project_dir, log_path, *repro), is_time, log_path, group=group)
    process = start_dvc(project_dir, tmp_path / "last.log", *repro)
    assert process.wait(TIME_LIMIT) == 0, (tmp_path / "last.log").read_text()
    assert "phase 1: resumed after step " in (tmp_path / "phase2.log").read_text()
    assert "phase 2: resumed after step " in (tmp_path / "last.log").read_text()
    assert contents(project_dir / "build" / CATEGORY / "phase1") == contents(pipeline.phase1_dir)
    assert contents(project_dir / "build" / CATEGORY / "model") == contents(pipeline.model_dir)
    assert list(work_dir.iterdir()) == []
    # nothing is left to do: DVC has taken the outputs for what they are
    process = start_dvc(project_dir, tmp_path / "status.log", "status", "--json", repro[1])
    assert process.wait(TIME_LIMIT) == 0
    assert json.loads((tmp_path / "status.log").read_text()) == {}
