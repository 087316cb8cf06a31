"""Two trainings that would write one output: the second one is refused before it trains, whatever its input."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from processes import TIME_LIMIT, run_cli, start_cli
from samples import Pipeline


def histories(work_dir: Path, phase: str) -> list[Path]:
    return list(work_dir.glob(f"{phase}-*/history.jsonl"))


@pytest.mark.parametrize("phase", ["phase1", "phase2"])
def test_the_second_of_two_trainings_into_one_output_is_refused(pipeline: Pipeline, tmp_path: Path, phase: str) -> None:
    work_dir, out_dir = tmp_path / "work", tmp_path / "out"
    inputs = [*pipeline.inputs, *(["--phase1", pipeline.phase1_dir] if phase == "phase2" else [])]
    command = [f"train-{phase}", *inputs, "--out", out_dir, "--work-dir", work_dir, "--params", pipeline.params_path]
    other_bank = shutil.copytree(pipeline.bank_dir, tmp_path / "bank")
    (other_bank / "bank.json").write_text((other_bank / "bank.json").read_text() + " ")
    first = start_cli(command, tmp_path / "first")
    deadline = time.monotonic() + TIME_LIMIT
    while not histories(work_dir, phase):
        assert first.is_alive(), (tmp_path / "first.err").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(first.pid, signal.SIGSTOP)  # it trains until the second one has been refused
    try:
        second = run_cli([*command, "--bank", other_bank], tmp_path / "second")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.exit_code == 1
    assert second.error_lines == [f"Error: another process writes {out_dir} (wait for it, or choose another folder)"], (
        second.stderr
    )
    assert len(histories(work_dir, phase)) == 1  # it has not trained
    first.join(TIME_LIMIT)
    assert first.exitcode == 0, (tmp_path / "first.err").read_text()
    expected = pipeline.phase1_dir if phase == "phase1" else pipeline.model_dir
    assert (out_dir / "weights.safetensors").read_bytes() == (expected / "weights.safetensors").read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix not in (".out", ".err"))
    assert left == ["bank", "out", "work"]
