"""Which version of the data a branch, a manifest or a folder means now; no picture is fetched."""

from typing import NamedTuple

from kfp.dsl import Dataset, Output

from ndpnet.components.base import component


@component
def version_data(
    version: Output[Dataset],
    url: str,
    revision: str,
    path: str,
    prefix: str,
    manifest: str,
    folder: str,
    endpoint_url: str,
) -> NamedTuple("Resolved", [("source", str), ("data_hash", str)]):
    """Resolve where the data are to what means the same for ever: `source`, as JSON."""
    from typing import NamedTuple

    from ndpnet import tracked_steps
    from ndpnet.data.versions.source import DataSource

    where = {"url": url, "revision": revision, "path": path, "prefix": prefix, "manifest": manifest}
    wanted = DataSource.given(**where, folder=folder, endpoint_url=endpoint_url)
    found = tracked_steps.resolve_version(version.path, wanted)
    return NamedTuple("Resolved", [("source", str), ("data_hash", str)])(found["source"], found["version"])
