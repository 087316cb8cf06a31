"""The loop: schedule, averaging, clipping, resuming bit for bit, stopping at a loss that is no number."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import Pipeline
from torch import nn

from ndpnet import steps
from ndpnet.config import Params, load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.files import read_json_lines
from ndpnet.inference.package import read_package
from ndpnet.model.layers import ConvBlock
from ndpnet.model.weights import make_network, read_weights
from ndpnet.synthesis.bank import DefectBank
from ndpnet.synthesis.compose import Batch, DefectComposer, to_unit
from ndpnet.training.checkpoint import Checkpoint
from ndpnet.training.loop import PhasePlan, Trainer, make_fabric
from ndpnet.training.tasks import Phase1, Phase2


def plan_of(pipeline: Pipeline, *overrides: str, num_images: int = 12) -> PhasePlan:
    params = load_params(pipeline.params_path, overrides=overrides)
    return PhasePlan("phase 1", params, params.train.phase1, num_images)


def make_trainer(pipeline: Pipeline, work_dir: Path, *overrides: str, phase: int = 1) -> Trainer:
    """A trainer as the steps make it, from the shared prepared folder and bank."""
    params = load_params(pipeline.params_path, overrides=overrides)
    fabric = make_fabric(params)
    torch.manual_seed(params.seed)
    network = make_network(params.model)
    images = PreparedData.load(pipeline.prepared_dir).images("train")
    settings = params.train.phase1 if phase == 1 else params.train.phase2
    if phase == 2:
        read_weights(pipeline.phase1_dir / "weights.safetensors", network)
        network.set_reference(to_unit(torch.from_numpy(images[:1].copy())))
    task = (Phase1 if phase == 1 else Phase2)(network, None, params.losses)
    composer = DefectComposer(
        images,
        DefectBank.load(pipeline.bank_dir),
        params.synthesis,
        defect_free_share=settings.defect_free_share,
        seed=params.seed,
        phase=phase,
        device=fabric.device,
    )
    plan = PhasePlan(f"phase {phase}", params, settings, len(images))
    return Trainer(fabric, task, composer, plan, Checkpoint(work_dir))


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.final_network().state_dict().items()}


def checkpointed(trainer: Trainer, num_steps: int) -> bytes:
    """What the trainer's checkpoint has after some steps."""
    for _ in range(num_steps):
        trainer.run_step()
    trainer.flush()
    trainer.save()
    return trainer.checkpoint.state_path.read_bytes()


def assert_same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def test_the_cosine_schedule_ends_at_one_percent(pipeline: Pipeline) -> None:
    plan = plan_of(pipeline, "train.phase1.epochs=5", "train.batch_size=6", "train.phase1.learning_rate=0.002")
    assert plan.num_steps == 10
    assert plan.learning_rate(0) == 0.002
    assert plan.learning_rate(9) == pytest.approx(2e-5, rel=1e-12)
    assert plan.learning_rate(3) == pytest.approx(0.002 * (0.01 + 0.99 * 0.75), rel=1e-12)  # cos(pi/3) = 1/2
    rates = [plan.learning_rate(step) for step in range(10)]
    assert rates == sorted(rates, reverse=True)


def test_the_constant_schedule_is_constant(pipeline: Pipeline) -> None:
    plan = plan_of(pipeline, "train.schedule=constant", "train.phase1.learning_rate=1e-4")
    assert {plan.learning_rate(step) for step in range(plan.num_steps)} == {1e-4}


@pytest.mark.parametrize(
    ("epochs", "min_steps", "batch_size", "num_images", "num_steps"),
    [
        (4, 0, 4, 12, 12),
        (1, 0, 8, 12, 2),
        (0.01, 0, 8, 12, 1),
        (1, 0, 8, 1, 1),
        (4, 11, 4, 12, 12),
        (4, 200, 4, 12, 200),
    ],
)
def test_the_number_of_steps(
    pipeline: Pipeline, epochs: float, min_steps: int, batch_size: int, num_images: int, num_steps: int
) -> None:
    overrides = (f"train.phase1.epochs={epochs}", f"train.phase1.min_steps={min_steps}")
    overrides += (f"train.batch_size={batch_size}",)
    assert plan_of(pipeline, *overrides, num_images=num_images).num_steps == num_steps


@pytest.mark.parametrize(
    ("count", "steps_due"), [(0, []), (1, [12]), (2, [6, 12]), (5, [3, 5, 8, 10, 12]), (12, list(range(1, 13)))]
)
def test_validations_are_spread_and_the_last_step_has_one(pipeline: Pipeline, count: int, steps_due: list[int]) -> None:
    plan = plan_of(pipeline, f"train.num_validations={count}")
    assert [step for step in range(1, plan.num_steps + 1) if plan.is_validation_due(step)] == steps_due


def test_the_parameters_to_keep_are_a_moving_average_that_starts_fast(pipeline: Pipeline, tmp_path: Path) -> None:
    trainer = make_trainer(pipeline, tmp_path, "train.ema_decay=0.3")
    expected = {name: value.detach().double() for name, value in trainer.network.named_parameters()}
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.3, 0.3):
        trainer.run_step()
        for name, value in trainer.network.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach().double()
    kept = dict(trainer.final_network().named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(kept[name].detach().double(), value, rtol=1e-5, atol=1e-7)


def input_variances(task: nn.Module, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """What each BatchNorm gets to normalise: the variance of every channel over all batches, in eval mode."""
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in task.network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            values = seen.setdefault(name, [])
            module.register_forward_pre_hook(lambda _, inputs, values=values: values.append(inputs[0]))
    task.eval()
    with torch.no_grad():
        for batch in batches:
            task(batch)
    return {name: torch.cat(values).var(dim=(0, 2, 3)) for name, values in seen.items() if values}


@pytest.fixture(scope="module")
def trained(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Path]:
    """Parameters, and a folder with phase 1 and model: few steps, and an average over many."""
    folder = tmp_path_factory.mktemp("trained")
    params = load_params(pipeline.params_path, overrides=["train.ema_decay=0.99"])
    inputs = (pipeline.prepared_dir, pipeline.bank_dir)
    steps.train_phase1(*inputs, folder / "phase1", params, folder / "work")
    steps.train_phase2(*inputs, folder / "phase1", folder / "model", params, folder / "work")
    return params, folder


@pytest.mark.parametrize(("phase", "parts"), [(1, {"encoder", "decoder"}), (2, {"decoder", "segmentation"})])
def test_the_statistics_to_keep_are_those_of_the_weights_to_keep(
    pipeline: Pipeline, tmp_path: Path, trained: tuple[Params, Path], phase: int, parts: set[str]
) -> None:
    params, folder = trained
    if phase == 1:
        network = make_network(params.model)
        read_weights(folder / "phase1/weights.safetensors", network)
    else:
        network = read_package(folder / "model").load_network(torch.device("cpu"))
    composer = make_trainer(pipeline, tmp_path, phase=phase).composer
    task = (Phase1 if phase == 1 else Phase2)(network, None, params.losses)
    variances = input_variances(task, [composer.batch(step, 8) for step in range(32)])
    assert {name.split(".")[0] for name in variances} == parts
    for name, variance in variances.items():
        ratio = network.get_buffer(f"{name}.running_var") / variance
        assert 0.5 < ratio.min() <= ratio.max() < 2, name


def gradient_norms(trainer: Trainer, num_steps: int) -> list[float]:
    """Norms of the gradients that the optimiser gets to see."""
    norms: list[float] = []

    def measure(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"]]
        squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
        norms.append(math.sqrt(sum(square.item() for square in squares)))

    trainer.optimizer.optimizer.register_step_pre_hook(measure)
    for _ in range(num_steps):
        trainer.run_step()
    return norms


def test_gradients_are_clipped_to_the_given_norm(pipeline: Pipeline, tmp_path: Path) -> None:
    free = gradient_norms(make_trainer(pipeline, tmp_path / "free", "train.gradient_clip=0"), 3)
    limit = free[0] / 3
    clipped = gradient_norms(make_trainer(pipeline, tmp_path / "clipped", f"train.gradient_clip={limit}"), 3)
    assert clipped[0] == pytest.approx(limit, rel=1e-4)
    assert max(clipped) <= limit * (1 + 1e-4)
    loose = gradient_norms(make_trainer(pipeline, tmp_path / "loose", f"train.gradient_clip={10 * max(free)}"), 3)
    assert loose == free


@pytest.mark.parametrize("phase", [1, 2])
def test_a_loss_that_is_no_number_stops_and_leaves_the_last_finite_checkpoint(
    pipeline: Pipeline, tmp_path: Path, phase: int
) -> None:
    trainer = make_trainer(pipeline, tmp_path, phase=phase)
    before = checkpointed(trainer, 3)
    with torch.no_grad():
        trainer.network.decoder.to_image.bias.fill_(math.nan)
    with pytest.raises(RuntimeError, match=rf"^phase {phase}: non-finite loss at step 4: .*'reconstruction': nan") as e:
        trainer.run(None)
    assert str(tmp_path) in str(e.value)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert [row["step"] for row in read_json_lines(tmp_path / "history.jsonl")] == [1, 2, 3]


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(pipeline: Pipeline, tmp_path: Path) -> None:
    trainer = make_trainer(pipeline, tmp_path)
    before = checkpointed(trainer, 1)
    with torch.no_grad():
        trainer.network.encoder.layers[4][0].weight[0, 0, 0, 0] = math.inf
    with pytest.raises(RuntimeError, match=r"^phase 1: non-finite weights after step 1 \(lower the learning rate\)$"):
        trainer.save()
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_missing_gpu_is_one_line(pipeline: Pipeline) -> None:
    params: Params = load_params(pipeline.params_path, overrides=["runtime.accelerator=cuda"])
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=r"no CUDA device is visible \(use auto or cpu\)$"):
        make_fabric(params)


def steps_of(pipeline: Pipeline, work_dir: Path, *overrides: str, phase: int) -> dict[str, torch.Tensor]:
    trainer = make_trainer(pipeline, work_dir, *overrides, phase=phase)
    for _ in range(3):
        trainer.run_step()
    return weights_of(trainer)


@pytest.mark.parametrize(("phase", "precision"), [(1, "32-true"), (2, "32-true"), (2, "bf16-mixed")])
def test_features_computed_twice_change_no_bit(
    pipeline: Pipeline, tmp_path: Path, phase: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = []
    compute = ConvBlock._compute
    monkeypatch.setattr(ConvBlock, "_compute", lambda block, feats: (count.append(block), compute(block, feats))[1])
    precision = f"train.precision={precision}"
    kept = steps_of(pipeline, tmp_path / "kept", precision, phase=phase)
    num_kept = len(count)
    again = steps_of(pipeline, tmp_path / "again", precision, "runtime.recompute_features=true", phase=phase)
    assert len(count) > 2 * num_kept  # statistics of a batch that is seen twice count once
    assert_same_bits(kept, again)


def test_bf16_on_a_processor_without_it_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Five times slower than fp32 on such a one; nothing is said where it pays, or of fp32."""
    has_none = torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2")
    for precision, is_warned in (("32-true", False), ("bf16-mixed", has_none)):
        caplog.clear()
        make_fabric(load_params(overrides=[f"train.precision={precision}", "runtime.accelerator=cpu"]))
        assert ("has no bf16" in caplog.text) == is_warned


def test_a_phase_in_bf16_resumes_bit_for_bit(pipeline: Pipeline, tmp_path: Path) -> None:
    weights = steps_of(pipeline, tmp_path / "one", "train.precision=bf16-mixed", phase=2)
    checkpointed(make_trainer(pipeline, tmp_path / "two", "train.precision=bf16-mixed", phase=2), 1)
    second = make_trainer(pipeline, tmp_path / "two", "train.precision=bf16-mixed", phase=2)
    second.run_step()
    second.run_step()
    assert_same_bits(weights, weights_of(second))
    in_full = steps_of(pipeline, tmp_path / "full", phase=2)
    assert not torch.equal(weights["decoder.to_image.weight"], in_full["decoder.to_image.weight"])
