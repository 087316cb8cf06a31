"""The gate: champion or not."""

from kfp.dsl import Artifact, Dataset, Input, Output

from ndpnet.components.base import component


@component
def promote(prepared: Input[Dataset], promotion: Output[Artifact], name: str, version: int, params: str) -> str:
    """Judge a version against the champion on the same test images; the champion moves if it passes. -> decision"""
    from pathlib import Path

    from ndpnet import steps

    asked = {"version": version, "prepared": Path(prepared.path)}
    return steps.promote(name, Path(promotion.path), params, **asked)["decision"]
