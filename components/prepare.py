"""One category as decoded arrays."""

from kfp.dsl import Dataset, Output

from ndpnet.components.base import component


@component
def prepare(prepared: Output[Dataset], source: str, category: str, params: str) -> int:
    """Fetch a category of a resolved version, verify it and decode it. -> images to train on"""
    from ndpnet import tracked_steps

    return tracked_steps.prepare_version(source, category, prepared.path, params)["num_train"]
