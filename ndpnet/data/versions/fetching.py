"""One version of the data: what a source means now, and exactly its files in a folder, each verified.

From a git revision's DVC remote, or from S3 with a manifest. On a cluster the resolved source travels from pod to pod,
not the pictures: each step fetches those that it needs.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from ndpnet.data.versions.version import (
    VERSION,
    DataSource,
    Version,
    check_pinned,
    choose,
    compare,
    count_pictures,
    describe,
    hashes_of,
    list_files,
    version_of_files,
)
from ndpnet.files import hash_of, sha256_of
from ndpnet.folders import atomic_folder, check_output, scratch_folder, sizes_below
from ndpnet.redaction import redact
from ndpnet.storage.pins import Files, PinnedRevision
from ndpnet.storage.urls import is_on_s3

RESOLVED = "resolved.json"
KEPT = "%s holds this version already: verified and kept"

logger = logging.getLogger(__name__)


def fetch_version(out_dir: Path, source: DataSource, *, category: str = "") -> dict[str, Any]:
    """Write one version's files, or those of a category, and its version.json under `out_dir`. -> its identity.

    A folder that holds this version already is verified and kept. What was fetched before a failure is kept beside
    it for the next try. ValueError names what is wrong, without credentials.
    """
    source.check()
    out_dir = Path(out_dir).resolve()
    check_output(out_dir, marker=VERSION, known=_known_files(out_dir))
    return (_fetch_prefix if source.url is None else _fetch_revision)(out_dir, source, category)


def open_revision(source: DataSource) -> AbstractContextManager[PinnedRevision]:
    """What the git repository of a source pins."""
    assert source.url is not None
    path = source.path.strip("/")
    return PinnedRevision.open(source.url, source.revision, path, endpoint_url=source.endpoint_url)


def _fetch_revision(out_dir: Path, source: DataSource, category: str) -> dict[str, Any]:
    with open_revision(source) as pinned:
        _check_version(source, pinned.hash)
        where = redact(source.url or "", source.url or "")
        logger.info("%s of %s is commit %s", source.revision or "HEAD", where, pinned.commit)
        there, paths = _intact_version(out_dir), choose(pinned.files, category)
        if there and there.pinned_hash == pinned.hash and list(there.hashes) == paths:
            current = replace(there, revision=pinned.commit)
            if current != there:  # another commit that pins the same data
                current.save(out_dir / VERSION)
            logger.info(KEPT, out_dir)
            return current.identity()
        with scratch_folder(out_dir, key=pinned.hash) as staging_dir:
            pinned.bring(staging_dir, paths)
            version = version_of_files(staging_dir, paths, revision=pinned.commit, pinned_hash=pinned.hash)
            _move_into_place(staging_dir, out_dir, version)
    return version.identity()


def _fetch_prefix(out_dir: Path, source: DataSource, category: str) -> dict[str, Any]:
    from ndpnet.storage.bucket import download

    assert source.prefix is not None
    version = read_manifest(source)
    _check_version(source, version.data_hash)
    version = version.only(category)
    if _intact_version(out_dir) == version:
        logger.info(KEPT, out_dir)
        return version.identity()
    with scratch_folder(out_dir, key=version.data_hash) as staging_dir:
        below = f"{source.prefix.rstrip('/')}/{category}" if category else source.prefix
        download(below, staging_dir / category, endpoint_url=source.endpoint_url)
        _check_download(staging_dir, source.prefix, version)
        _move_into_place(staging_dir, out_dir, version)
    return version.identity()


def read_manifest(source: DataSource) -> Version:
    """The version that the manifest of a source lists: a file here, or an object."""
    assert source.manifest is not None  # the source was checked
    if not is_on_s3(source.manifest):
        return Version.load(Path(source.manifest))
    from ndpnet.storage.bucket import read_object

    return Version.load(read_object(source.manifest, endpoint_url=source.endpoint_url), name=source.manifest)


def _check_download(folder: Path, prefix: str, version: Version) -> None:
    """Compare each file of the version with what came; damaged ones are removed, so that they are asked for again."""
    for path, sha256 in version.hashes.items():
        target = folder / path
        if not target.is_file():
            raise ValueError(f"{prefix} has no {path}, which the manifest names (upload it, or correct --prefix)")
        if sha256_of(target) != sha256:
            target.unlink()
            fix = "upload the manifest's version, or make a new manifest"
            raise ValueError(f"{path} of {prefix} is another than in the manifest: not its sha256 ({fix})")


def _intact_version(out_dir: Path) -> Version | None:
    """The version that a folder holds, if every file is as its version.json says."""
    if not (out_dir / VERSION).is_file():
        return None
    version = Version.load(out_dir / VERSION)
    if damage := compare(version.hashes, hashes_of(out_dir, list_files(out_dir))):
        logger.warning("%s is no longer what its %s says, it is fetched again: %s", out_dir, VERSION, describe(damage))
        return None
    return version


def _known_files(out_dir: Path) -> dict[str, int]:
    """Names and sizes of the files that an earlier version brought; of damaged ones, too: they are brought anew."""
    if not (out_dir / VERSION).is_file():
        return {}
    try:
        known = {VERSION, *Version.load(out_dir / VERSION).hashes}
    except ValueError as error:
        raise ValueError(f"{out_dir / VERSION} is damaged (remove {out_dir}: it is fetched anew)") from error
    return {name: size for name, size in sizes_below(out_dir).items() if name in known}


def _move_into_place(staging_dir: Path, out_dir: Path, version: Version) -> None:
    """Move the version's files, and no others, to their final folder; it appears complete or not at all."""
    with atomic_folder(out_dir, marker=VERSION, known=_known_files(out_dir)) as folder:
        for parent in {(folder / path).parent for path in version.hashes}:
            parent.mkdir(parents=True, exist_ok=True)
        for path in version.hashes:
            (staging_dir / path).rename(folder / path)
        version.save(folder / VERSION)


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
        pin = check_pinned(Path(source.folder), "")
        here = DataSource(folder=str(Path(source.folder).resolve()), version=pin.hash)
        return Resolved(here, pin.here)
    source.check()
    if source.url is None:
        version = read_manifest(source)
        return Resolved(replace(source, version=version.data_hash), version.hashes)
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
        fetch_version(data_dir, source, category=category)
        yield data_dir


def _check_version(source: DataSource, version: str | None) -> None:
    if source.version is not None and version != source.version:
        raise ValueError(
            f"the data are version {str(version)[:12]} now, {source.version[:12]} was meant (resolve the source again)"
        )
