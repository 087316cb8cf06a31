"""The bank of artificial defects, one for all categories."""

from kfp.dsl import Dataset, Output

from ndpnet.components.base import component


@component
def synthesize(bank: Output[Dataset], params: str) -> int:
    """Make masks and natural-image sources. -> masks"""
    from ndpnet import tracked_steps

    return tracked_steps.synthesize(bank.path, params)["num_masks"]
