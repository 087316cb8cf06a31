"""What a branch, a manifest or a folder means now: the source of a version, by which it is found again later.

On a cluster this travels from pod to pod, not the pictures: each step fetches those that it needs, and verifies them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from ndpnet.data.versions.fetching import fetch_version, open_revision, read_manifest
from ndpnet.data.versions.source import DataSource
from ndpnet.data.versions.version import VERSION, Version, check_pinned, choose, count_pictures
from ndpnet.files import hash_of
from ndpnet.storage.pins import Files, PinnedFolder

RESOLVED = "resolved.json"


@dataclass(frozen=True)
class Resolved:
    """A source that means the same for ever, and its files: path -> hash (md5 of a pin, sha256 of a manifest)."""

    source: DataSource
    files: Files

    @classmethod
    def load(cls, folder: Path) -> "Resolved":
        """Read the resolved.json of a folder. ValueError: it is not there, or damaged."""
        path = Path(folder) / RESOLVED
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(DataSource(**content["source"]), dict(content["files"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"cannot read {path}: {error} (resolve the version of the data again)") from error

    def category_hash(self, category: str) -> str:
        """What names the pictures of one category, whatever else the version holds. ValueError names the categories."""
        return hash_of([[path, self.files[path]] for path in choose(self.files, category)])

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of pictures per category and folder."""
        return count_pictures(self.files)


def resolve(source: DataSource) -> Resolved:
    """Look what a source means now; no picture is fetched. ValueError names what is wrong with it."""
    if source.folder is not None:
        return _resolve_folder(source)
    source.check()
    if source.url is None:
        return _resolved_by(read_manifest(source), source)
    if "://" in source.url and urlsplit(source.url).password:
        raise ValueError("the git URL holds a password, which would be stored with the run (use git's credentials)")
    with open_revision(source) as pinned:
        return Resolved(replace(source, revision=pinned.commit, version=pinned.hash), pinned.files)


@contextmanager
def local_copy(source: DataSource, category: str) -> Iterator[Path]:
    """A data folder with one category of a resolved version, every file verified; it is gone afterwards."""
    if source.folder is not None:
        _check_version(source, resolve(source).source.version)
        yield Path(source.folder)
        return
    with TemporaryDirectory(prefix="ndpnet-data-") as scratch:
        data_dir = Path(scratch) / "data"
        if source.prefix is not None:  # a manifest may have been written anew
            _check_version(source, read_manifest(source).data_hash)
        identity = fetch_version(data_dir, source, category=category)
        if source.url is not None:
            _check_version(source, identity["pinned_hash"])
        yield data_dir


def _resolve_folder(source: DataSource) -> Resolved:
    data_dir = Path(source.folder)
    check_pinned(data_dir, "")
    here = DataSource(folder=str(data_dir.resolve()))
    with PinnedFolder.open(data_dir) as folder:
        if folder is not None and folder.dvc_path.is_file():
            return Resolved(replace(here, version=folder.pinned_hash()), folder.listing().files)
    return _resolved_by(Version.load(data_dir / VERSION), here)


def _resolved_by(version: Version, source: DataSource) -> Resolved:
    return Resolved(replace(source, version=version.data_hash), version.hashes)


def _check_version(source: DataSource, version: str) -> None:
    if source.version is not None and version != source.version:
        raise ValueError(
            f"the data are version {version[:12]} now, {source.version[:12]} was meant (resolve the source again)"
        )
