"""Which version of the data a branch, a manifest or a folder means now; no picture is fetched."""

from typing import NamedTuple

from kfp.dsl import Dataset, Output

from ndpnet.components.base import component


@component
def version_data(version: Output[Dataset], source: str) -> NamedTuple(
    "Resolved", [("source", str), ("data_hash", str)]
):
    """Resolve where the data are to what means the same for ever: `source`, as JSON."""
    from typing import NamedTuple

    from ndpnet import tracked_steps
    from ndpnet.data.versions.source import DataSource

    found = tracked_steps.resolve_version(version.path, DataSource.from_json(source))
    return NamedTuple("Resolved", [("source", str), ("data_hash", str)])(found["source"], found["version"])
