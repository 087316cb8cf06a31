"""Whatever a user gets wrong: exit code 1, one line that names the thing and the fix, and nothing left behind."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from processes import paths_below, run_cli
from samples import Pipeline

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
