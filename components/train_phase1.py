"""Phase 1: encoder and decoder."""

from kfp.dsl import Dataset, Input, Model, Output

from ndpnet.components.base import component


@component
def train_phase1(
    prepared: Input[Dataset], bank: Input[Dataset], phase1: Output[Model], params: str, work_dir: str
) -> float:
    """Train encoder and decoder (Eq. 12-14), from the last checkpoint in `work_dir` on. -> last loss"""
    from ndpnet import tracked_steps

    return tracked_steps.train_phase1(prepared.path, bank.path, phase1.path, params, work_dir)["loss"]
