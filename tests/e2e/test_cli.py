"""The command line as a process: what it prints, its exit codes, its dry run, and what it says of mistakes."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from processes import Finished, paths_below, run_cli
from samples import CATEGORY, Pipeline

from ndpnet.inference.package import read_package


def test_the_exit_code_of_inspect_is_its_verdict(pipeline: Pipeline, tmp_path: Path) -> None:
    pictures = shutil.copytree(pipeline.data_dir / CATEGORY / "test/good", tmp_path / "pictures")

    def inspect(source: Path, *options: object) -> Finished:
        where = ("--model", pipeline.model_dir, "--out", tmp_path / "out")
        return run_cli(["inspect", source, *where, *options], tmp_path / "log")

    good = inspect(pictures, "--threshold", 0.999)
    assert (good.exit_code, good.error_lines) == (0, [])
    assert good.stdout.startswith(
        "6 good, 0 defective, 0 not judged "
        "(threshold 0.9990, given by hand: no false-alarm rate is guaranteed); results in "
    )
    defective = inspect(pictures, "--threshold", 0.0)
    assert (defective.exit_code, defective.error_lines) == (3, [])
    assert defective.stdout.startswith("0 good, 6 defective, 0 not judged")
    (pictures / "broken.png").write_bytes(b"not a picture")
    for threshold, counts in ((0.999, "6 good, 0 defective, 1"), (0.0, "0 good, 6 defective, 1")):
        failed = inspect(pictures, "--threshold", threshold)
        assert failed.exit_code == 1
        assert failed.stdout.splitlines()[-1].startswith(f"{counts} not judged (1 unreadable, 0 missing)")
        assert "broken.png" in failed.stderr
        assert "Traceback" not in failed.stderr
    one_file = inspect(pictures / "wall_p90_0.png", "--no-overlays")
    assert one_file.exit_code in (0, 3)
    threshold = read_package(pipeline.model_dir).threshold["value"]
    assert f" 0 not judged (threshold {threshold:.4f}); results in " in one_file.stdout
    assert paths_below(tmp_path / "out") == [".ndpnet.json", "index.html", "predictions.csv", "predictions.jsonl"]


def test_a_dry_run_prints_the_plan_and_does_nothing(tmp_path: Path) -> None:
    command = ["synthesize", "--out", tmp_path / "bank", "-P", "synthesis.num_masks=32", "--dry-run"]
    finished = run_cli(command, tmp_path / "log")
    assert finished.exit_code == 0
    assert "step: synthesize" in finished.stdout
    assert "num_masks: 32" in finished.stdout
    assert paths_below(tmp_path) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = ["inspect", tmp_path / "none", "--model", tmp_path / "none", "--out", tmp_path / "out"]
    finished = run_cli(["--debug", *command], tmp_path / "log")
    assert finished.exit_code == 1
    assert "Traceback" in finished.stderr


# ---- mistakes: exit code 1, one line that names the thing and the fix, and nothing left behind


Mistake = Callable[[Pipeline, Path], list[object]]


def train(pipeline: Pipeline, folder: Path, options: list[object]) -> list[object]:
    """A training of phase 1 below the folder; later options count."""
    where = ["--out", folder / "out", "--work-dir", folder / "work", "--params", pipeline.params_path]
    return ["train-phase1", *pipeline.inputs, *where, *options]


def evaluate(pipeline: Pipeline, folder: Path, *options: object) -> list[object]:
    """An evaluation below the folder; later options count."""
    inputs = ["--prepared", pipeline.prepared_dir, "--model", pipeline.model_dir]
    return ["evaluate", *inputs, "--out", folder / "out", "--params", pipeline.params_path, *options]


def model_one_level_off(pipeline: Pipeline, folder: Path) -> list[object]:
    shutil.copytree(pipeline.model_dir, folder / "model")
    return ["inspect", pipeline.data_dir, "--model", folder, "--out", folder / "out"]


def no_test_images(pipeline: Pipeline, folder: Path) -> list[object]:
    prepared_dir = shutil.copytree(pipeline.prepared_dir, folder / "prepared")
    manifest = json.loads((prepared_dir / "manifest.json").read_text())
    manifest["files"] = [record for record in manifest["files"] if record["split"] != "test"]
    (prepared_dir / "manifest.json").write_text(json.dumps(manifest))
    return evaluate(pipeline, folder, "--prepared", prepared_dir)


MISTAKES: list[tuple[Mistake, str]] = [
    (partial(train, options=["--work-dir", "/proc/ndpnet"]), "cannot write /proc/ndpnet/phase1-"),
    (partial(train, options=["--bank", "bnak"]), "no folder bnak (check the path, or run the step that makes it)"),
    (partial(train, options=["-P", "train.phase1.learning_rate=1e30"]), "phase 1: non-finite "),
    (model_one_level_off, "no config.json in {folder} (did you mean {folder}/model?)"),
    (no_test_images, "no test images in {folder}/prepared (add test/good and test/<defect type>, prepare again)"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(
    pipeline: Pipeline, tmp_path: Path, mistake: Mistake, message: str
) -> None:
    command = mistake(pipeline, tmp_path)
    before = paths_below(tmp_path)
    finished = run_cli(command, tmp_path / "log")
    assert finished.exit_code == 1, finished.stderr
    assert finished.stdout == ""
    (line,) = finished.error_lines
    assert line.startswith("Error: ")
    assert message.format(folder=tmp_path) in line
    # a training that fails may keep its work folder, and nothing else
    assert [name for name in paths_below(tmp_path) if name.split("/")[0] != "work"] == before
    assert not [name for name in paths_below(tmp_path) if name.endswith((".partial", ".lock", ".tmp"))]
