"""A disk that is full in the middle of a step: one line that says so, nothing half written, the old output intact."""

import shutil
import subprocess
from pathlib import Path

import pytest
from processes import paths_below, run_cli
from samples import CATEGORY, Pipeline

ROOM = 8 << 10  # bytes that are left: less than any step writes


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", ["4m"], indirect=True)
@pytest.mark.parametrize(
    "verb", ["prepare", "synthesize", "train-phase1", "train-phase2", "evaluate", "calibrate", "inspect"]
)
def test_a_full_disk_is_one_line_and_harms_nothing(
    pipeline: Pipeline, small_disk: Path, tmp_path: Path, verb: str
) -> None:
    good_dir = pipeline.data_dir / CATEGORY / "test/good"
    work = ["--work-dir", small_disk / "work"]
    arguments = {
        "prepare": ["--data", pipeline.data_dir, "--category", CATEGORY, "--allow-unpinned"],
        "synthesize": [],
        "train-phase1": [*pipeline.inputs, *work],
        "train-phase2": [*pipeline.inputs, "--phase1", pipeline.phase1_dir, *work],
        "evaluate": ["--prepared", pipeline.prepared_dir, "--model", pipeline.model_dir],
        "calibrate": [pipeline.model_dir, good_dir],
        "inspect": [good_dir, "--model", pipeline.model_dir, "--threshold", 0.5],
    }
    params = [] if verb in ("calibrate", "inspect") else ["--params", pipeline.params_path]
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - ROOM))
    finished = run_cli([verb, *arguments[verb], *params, "--out", small_disk / "out"], tmp_path / "log")
    assert finished.exit_code == 1, finished.stderr
    assert len(finished.error_lines) == 1, finished.stderr
    assert "No space left on device" in finished.error_lines[0]
    left = [path for path in paths_below(small_disk) if path != "ballast"]
    # what is finished stays for the same command: checkpoints of a training, rows of an inspection
    assert all(path.split("/")[0] == "work" or (verb == "inspect" and path.startswith(".out.")) for path in left), left
    # with room again the same command ends as it should
    (small_disk / "ballast").unlink()
    shutil.rmtree(tmp_path / "disk/work", ignore_errors=True)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    finished = run_cli([verb, *arguments[verb], *params, "--out", small_disk / "out"], tmp_path / "log")
    assert finished.exit_code in ((0, 3) if verb == "inspect" else (0,)), finished.stderr
