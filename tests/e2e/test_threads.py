"""The bits of a model and of its figures do not depend on how many threads or cores the machine offers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import Pipeline

pytestmark = pytest.mark.slow


def run(arguments: list[object], *, num_threads: int, cores: set[int]) -> str:
    """Run a verb. -> what it prints"""
    environment = os.environ | {"OMP_NUM_THREADS": str(num_threads), "NDPNET_TRACKING": "off"}
    command = [sys.executable, "-m", "ndpnet", *map(str, arguments)]
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("num_threads", "num_cores"), [(2, 1), (4, None)])
def test_training_and_evaluation(
    pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path, num_threads: int, num_cores: int | None
) -> None:
    given = {"num_threads": num_threads, "cores": set(sorted(os.sched_getaffinity(0))[:num_cores])}
    common = ["--params", pipeline.params_path]
    phase1, model = tmp_path / "phase1", tmp_path / "model"
    work = ["--work-dir", tmp_path / "work", *common]
    run(["train-phase1", *pipeline.inputs, "--out", phase1, *work], **given)
    run(["train-phase2", *pipeline.inputs, "--phase1", phase1, "--out", model, *work], **given)
    for name in ("weights.safetensors", "config.json"):
        assert (model / name).read_bytes() == (pipeline.model_dir / name).read_bytes(), name
    evaluation = ["evaluate", "--prepared", pipeline.prepared_dir, "--model", model, *common]
    said = run([*evaluation, "--out", tmp_path / "here"], **given)
    assert (tmp_path / "here/table.txt").read_text().strip() in said
    assert f"report: {tmp_path / 'here/report.html'}" in said
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (evaluation_dir / name).read_bytes(), name
