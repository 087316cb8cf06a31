"""Two trainings that would write one output: the second one is refused before it trains, whatever its input."""

import os
import shutil
import signal
from pathlib import Path

from processes import TIME_LIMIT, run_cli, start_cli, wait_until
from samples import Pipeline


def histories(work_dir: Path) -> list[Path]:
    return list(work_dir.glob("phase1-*/history.jsonl"))


def test_the_second_of_two_trainings_into_one_output_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    work_dir, out_dir = tmp_path / "work", tmp_path / "out"
    places = ["--out", out_dir, "--work-dir", work_dir, "--params", pipeline.params_path]
    command = ["train-phase1", *pipeline.inputs, *places]
    other_bank = shutil.copytree(pipeline.bank_dir, tmp_path / "bank")
    (other_bank / "bank.json").write_text((other_bank / "bank.json").read_text() + " ")
    first = start_cli(command, tmp_path / "first")
    wait_until(lambda: histories(work_dir) or not first.is_alive())
    os.kill(first.pid, signal.SIGSTOP)  # it trains until the second one has been refused
    try:
        second = run_cli([*command, "--bank", other_bank], tmp_path / "second")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.exit_code == 1
    assert second.error_lines == [f"Error: another process writes {out_dir} (wait for it, or choose another folder)"], (
        second.stderr
    )
    assert len(histories(work_dir)) == 1  # it has not trained
    first.join(TIME_LIMIT)
    assert first.exitcode == 0, (tmp_path / "first.err").read_text()
    expected = pipeline.phase1_dir / "weights.safetensors"
    assert (out_dir / "weights.safetensors").read_bytes() == expected.read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix not in (".out", ".err"))
    assert left == ["bank", "out", "work"]
