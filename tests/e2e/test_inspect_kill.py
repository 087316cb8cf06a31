"""An inspection of many pictures that is killed goes on where it was, and ends as if nothing was."""

import shutil
from pathlib import Path

from processes import kill_when, run_cli, start_cli
from repositories import contents
from samples import CATEGORY, Pipeline

from ndpnet.inference import Inspector
from ndpnet.inference.folder import inspect_folder

NUM_COPIES, NUM_DONE = 4, 5


def test_a_killed_inspection_goes_on(pipeline: Pipeline, tmp_path: Path) -> None:
    for number in range(NUM_COPIES):
        shutil.copytree(pipeline.data_dir / CATEGORY / "test", tmp_path / "pictures" / f"batch_{number}")
    num_pictures = 12 * NUM_COPIES
    out = tmp_path / "out"
    command = ["inspect", tmp_path / "pictures", "--model", pipeline.model_dir, "--out", out]

    def num_rows() -> int:
        return sum(path.read_bytes().count(b"\n") for path in tmp_path.glob(".out.*.partial/predictions.jsonl"))

    assert kill_when(start_cli(command, tmp_path / "killed.log"), lambda: num_rows() >= NUM_DONE)
    assert NUM_DONE <= num_rows() < num_pictures
    assert not out.exists()
    (lines,) = tmp_path.glob(".out.*.partial/predictions.jsonl")
    with lines.open("ab") as stream:
        stream.write(b'{"path": "batch_')  # half a row, as a kill may leave it
    done = num_rows()
    finished = run_cli(command, tmp_path / "second.log")
    assert finished.exit_code == 3, finished.stderr
    assert f"going on after {done} of {num_pictures} pictures" in finished.stderr
    inspect_folder(Inspector.load(pipeline.model_dir), tmp_path / "pictures", tmp_path / "at once")
    assert contents(out) == contents(tmp_path / "at once")
    assert len(contents(out)) == num_pictures + 4  # the two tables, the page, and the list of files
    assert not list(tmp_path.glob(".out.*"))
    # another threshold is another inspection: nothing of an earlier one goes into it
    (tmp_path / ".out.0123456789ab.partial").mkdir()
    assert run_cli([*command, "--threshold", "0.9"], tmp_path / "third.log").exit_code == 0
    assert not list(tmp_path.glob(".out.*"))
