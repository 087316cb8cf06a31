"""The package in the model registry."""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from ndpnet.components.base import component


@component
def register(
    model: Input[Model],
    evaluation: Input[Artifact],
    prepared: Input[Dataset],
    version: Input[Dataset],
    registered: Output[Artifact],
) -> NamedTuple("Registered", [("name", str), ("number", int)]):
    """Register a package with its evidence and card, once."""
    from pathlib import Path
    from typing import NamedTuple

    from ndpnet import tracked_steps

    import_report = Path(prepared.path) / "import.json"
    about = {"import_report": import_report, "resolved": version.path}
    record = tracked_steps.register(model.path, evaluation.path, registered.path, **about)
    return NamedTuple("Registered", [("name", str), ("number", int)])(record["name"], int(record["version"]))
