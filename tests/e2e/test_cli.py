"""The command line as a process: what it prints, its exit codes, its dry run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Finished, paths_below, run_cli
from samples import CATEGORY, Pipeline

from ndpnet.inference.package import read_package


@pytest.fixture
def run(pipeline: Pipeline, tmp_path: Path) -> Callable[..., Finished]:
    """Run a verb with the tiny parameters where it takes parameters."""

    def run_verb(verb: str, *arguments: object) -> Finished:
        takes_params = verb not in ("inspect", "calibrate", "demo-data")
        options = ["--params", pipeline.params_path] if takes_params and "--params" not in arguments else []
        return run_cli([verb, *arguments, *options], tmp_path / "log")

    return run_verb


def test_the_exit_code_of_inspect_is_its_verdict(
    run: Callable[..., Finished], pipeline: Pipeline, tmp_path: Path
) -> None:
    pictures = shutil.copytree(pipeline.data_dir / CATEGORY / "test/good", tmp_path / "pictures")
    options = ("--model", pipeline.model_dir, "--out", tmp_path / "out")
    good = run("inspect", pictures, *options, "--threshold", 0.999)
    assert (good.exit_code, good.error_lines) == (0, [])
    assert good.stdout.startswith(
        "6 good, 0 defective, 0 not judged "
        "(threshold 0.9990, given by hand: no false-alarm rate is guaranteed); results in "
    )
    defective = run("inspect", pictures, *options, "--threshold", 0.0)
    assert (defective.exit_code, defective.error_lines) == (3, [])
    assert defective.stdout.startswith("0 good, 6 defective, 0 not judged")
    (pictures / "broken.png").write_bytes(b"not a picture")
    for threshold, counts in ((0.999, "6 good, 0 defective, 1"), (0.0, "0 good, 6 defective, 1")):
        failed = run("inspect", pictures, *options, "--threshold", threshold)
        assert failed.exit_code == 1
        assert failed.stdout.splitlines()[-1].startswith(f"{counts} not judged (1 unreadable, 0 missing)")
        assert "broken.png" in failed.stderr
        assert "Traceback" not in failed.stderr
    one_file = run("inspect", pictures / "wall_p90_0.png", *options, "--no-overlays")
    assert one_file.exit_code in (0, 3)
    threshold = read_package(pipeline.model_dir).threshold["value"]
    assert f" 0 not judged (threshold {threshold:.4f}); results in " in one_file.stdout
    assert paths_below(tmp_path / "out") == [".ndpnet.json", "index.html", "predictions.csv", "predictions.jsonl"]


def test_a_dry_run_prints_the_plan_and_does_nothing(run: Callable[..., Finished], tmp_path: Path) -> None:
    finished = run("synthesize", "--out", tmp_path / "bank", "-P", "synthesis.num_masks=32", "--dry-run")
    assert finished.exit_code == 0
    assert "step: synthesize" in finished.stdout
    assert "num_masks: 32" in finished.stdout
    assert paths_below(tmp_path) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = ["inspect", tmp_path / "none", "--model", tmp_path / "none", "--out", tmp_path / "out"]
    finished = run_cli(["--debug", *command], tmp_path / "log")
    assert finished.exit_code == 1
    assert "Traceback" in finished.stderr
