"""The steps on a GPU, where one is at hand: near the CPU's results, the same bits twice and after an interruption."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import Pipeline

from ndpnet import steps
from ndpnet.config import Params, load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.files import read_json_lines
from ndpnet.inference import Inspector
from ndpnet.perceptual import CONV_INDICES, names_up_to
from ndpnet.training.loop import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_gpu(pipeline: Pipeline, *overrides: str) -> Params:
    return load_params(pipeline.params_path, overrides=["runtime.accelerator=cuda", *overrides])


def train(pipeline: Pipeline, out: Path, *overrides: str) -> Path:
    """Both phases on the GPU. -> the package."""
    params, inputs = on_gpu(pipeline, *overrides), (pipeline.prepared_dir, pipeline.bank_dir)
    if not (out / "phase1").exists():
        steps.train_phase1(*inputs, out / "phase1", params, out / "work")
    steps.train_phase2(*inputs, out / "phase1", out / "model", params, out / "work")
    return out / "model"


@pytest.fixture(scope="module")
def trained(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(pipeline, tmp_path_factory.mktemp("gpu"))


def losses(path: Path) -> list[float]:
    return [row["loss"] for row in read_json_lines(path) if "loss" in row]


def assert_same_bits(one: Path, other: Path) -> None:
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    for number in (1, 2):
        history = f"history_phase{number}.jsonl"
        assert (one / history).read_bytes() == (other / history).read_bytes()


def test_its_losses_are_near_those_of_the_cpu(pipeline: Pipeline, trained: Path, tmp_path: Path) -> None:
    params, inputs = on_gpu(pipeline), (pipeline.prepared_dir, pipeline.bank_dir)
    # from the same weights: what phase 1 makes of a rounding is a step's worth apart
    steps.train_phase2(*inputs, pipeline.phase1_dir, tmp_path / "model", params, tmp_path / "work")
    for model_dir, history in ((trained, "history_phase1.jsonl"), (tmp_path / "model", "history_phase2.jsonl")):
        there, here = losses(model_dir / history), losses(pipeline.model_dir / history)
        np.testing.assert_allclose(there[0], here[0], rtol=0.001)
        np.testing.assert_allclose(there[:3], here[:3], rtol=0.02)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_an_interrupted_training_ends_bit_for_bit_as_another(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    precision = f"train.precision={precision}"
    whole = train(pipeline, tmp_path / "whole", precision)
    take = Trainer.run_step

    def stop(trainer: Trainer, title: str) -> None:
        take(trainer)
        if trainer.plan.title == title and trainer.step == 7:
            raise KeyboardInterrupt

    out = tmp_path / "interrupted"
    for title in ("phase 1", "phase 2"):
        monkeypatch.setattr(Trainer, "run_step", lambda trainer, title=title: stop(trainer, title))
        with pytest.raises(KeyboardInterrupt):
            train(pipeline, out, precision)
        monkeypatch.undo()
    assert_same_bits(train(pipeline, out, precision), whole)


def test_the_perceptual_loss_trains_there_the_same_bits_twice(pipeline: Pipeline, tmp_path: Path) -> None:
    generator, state = torch.Generator().manual_seed(0), {}
    channels = itertools.pairwise((3, 64, 64, 128, 128, 256))
    for name, (before, after) in zip(names_up_to("first_five"), channels, strict=True):
        state[f"features.{CONV_INDICES[name]}.weight"] = 0.05 * torch.randn(after, before, 3, 3, generator=generator)
        state[f"features.{CONV_INDICES[name]}.bias"] = torch.zeros(after)
    torch.save(state, tmp_path / "vgg.pth")
    weights = f"losses.perceptual_weights={tmp_path / 'vgg.pth'}"
    assert_same_bits(*(train(pipeline, tmp_path / name, weights) for name in ("one", "other")))


def test_a_package_decides_there_as_on_the_cpu(pipeline: Pipeline, trained: Path) -> None:
    images = PreparedData.load(pipeline.prepared_dir).images("test")
    for model_dir in (pipeline.model_dir, trained):
        here, there = (Inspector.load(model_dir, device=name) for name in ("cpu", "cuda"))
        for image in images:
            one, other = here.predict(image), there.predict(image)
            assert one.anomaly_map.shape == image.shape[:2]
            np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=1e-4)
            assert abs(one.score - other.score) < 1e-4
            assert (one.score > here.threshold) == (other.score > there.threshold)
