"""Which version of the data a branch, a manifest or a folder means now; no picture is fetched."""

from typing import NamedTuple

from kfp.dsl import Dataset, Output

from ndpnet.components.base import component


@component
def version_data(version: Output[Dataset], where: str) -> NamedTuple("Resolved", [("source", str), ("data_hash", str)]):
    """Resolve where the data are, as JSON, to what means the same for ever: `source`."""
    from typing import NamedTuple

    from ndpnet import tracked_steps
    from ndpnet.data.versions.source import DataSource

    resolved = tracked_steps.resolve_version(version.path, DataSource.from_json(where))
    return NamedTuple("Resolved", [("source", str), ("data_hash", str)])(resolved["source"], resolved["version"])
