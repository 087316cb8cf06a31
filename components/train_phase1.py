"""Phase 1: encoder and decoder."""

from kfp.dsl import Dataset, Input, Model, Output

from ndpnet.components.base import component


@component
def train_phase1(
    prepared: Input[Dataset], bank: Input[Dataset], phase1: Output[Model], params: str, work_dir: str
) -> float:
    """Train encoder and decoder (Eq. 12-14), from the last checkpoint in `work_dir` on. -> last loss"""
    from ndpnet import steps, tracked_steps

    inputs = {"prepared": prepared.path, "bank": bank.path}
    return tracked_steps.train(steps.train_phase1, phase1.path, params, work_dir, **inputs)["loss"]
