"""Denormal numbers count as zero while the network computes, and only then."""

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import Pipeline

from ndpnet import steps
from ndpnet.inference import Inspector


def is_flushed() -> bool:
    """Whether a denormal float32 is taken for zero."""
    return (torch.tensor([1e-40]) * 1).item() == 0.0


@pytest.fixture(autouse=True)
def not_flushed() -> None:
    torch.set_flush_denormal(False)


def test_the_network_computes_with_it_and_nobody_else(pipeline: Pipeline, tmp_path: Path) -> None:
    inspector = Inspector.load(pipeline.model_dir)
    assert not is_flushed()
    seen = []
    handle = inspector.engine.network.decoder.register_forward_pre_hook(lambda *_: seen.append(is_flushed()))
    inspector.predict(np.zeros((64, 64, 3), dtype=np.uint8))
    handle.remove()
    steps.train_phase1(pipeline.prepared_dir, pipeline.bank_dir, tmp_path / "out", pipeline.params, tmp_path / "work")
    assert seen == [True]
    assert not is_flushed()
