"""Phase 2: attention, decoder and segmentation; the model package."""

from kfp.dsl import Dataset, Input, Model, Output

from ndpnet.components.base import component


@component
def train_phase2(
    prepared: Input[Dataset],
    bank: Input[Dataset],
    phase1: Input[Model],
    model: Output[Model],
    params: str,
    work_dir: str,
) -> float:
    """Train the rest (Eq. 15-17), fit the threshold, write the package; from the last checkpoint on. -> last loss"""
    from ndpnet import steps, tracked_steps

    inputs = {"prepared": prepared.path, "bank": bank.path, "phase1": phase1.path}
    return tracked_steps.train(steps.train_phase2, model.path, params, work_dir, **inputs)["loss"]
