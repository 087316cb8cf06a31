"""The bits of a model and of its figures do not depend on how many threads or cores the machine offers."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from processes import TIME_LIMIT
from samples import Pipeline

from ndpnet import steps

pytestmark = pytest.mark.slow

NUM_THREADS = 4  # on one core; what it is compared with has one thread, and all cores


def train_and_evaluate(pipeline: Pipeline, folder: Path) -> None:
    """Both phases and an evaluation of what they have made."""
    assert (torch.get_num_threads(), len(os.sched_getaffinity(0))) == (NUM_THREADS, 1)
    inputs, params, work_dir = (pipeline.prepared_dir, pipeline.bank_dir), pipeline.params, folder / "work"
    steps.train_phase1(*inputs, folder / "phase1", params, work_dir)
    steps.train_phase2(*inputs, folder / "phase1", folder / "model", params, work_dir)
    steps.evaluate(pipeline.prepared_dir, folder / "model", folder / "evaluation", params)


def test_training_and_evaluation(
    pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # read when torch is imported: in a new interpreter
    monkeypatch.setenv("OMP_NUM_THREADS", str(NUM_THREADS))
    monkeypatch.setenv("MKL_DYNAMIC", "FALSE")  # not as many as it finds cores
    process = multiprocessing.get_context("spawn").Process(target=train_and_evaluate, args=(pipeline, tmp_path))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        process.start()
    finally:
        os.sched_setaffinity(0, cores)
    process.join(TIME_LIMIT)
    assert process.exitcode == 0
    for name in ("weights.safetensors", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (pipeline.model_dir / name).read_bytes(), name
    for name in ("metrics.json", "predictions.csv"):
        assert (tmp_path / "evaluation" / name).read_bytes() == (evaluation_dir / name).read_bytes(), name
