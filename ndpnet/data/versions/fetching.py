"""Exactly one version of the data in a folder: from a git revision's DVC remote, or from S3 with a manifest."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ndpnet.data.versions.source import DataSource
from ndpnet.data.versions.version import VERSION, Version, choose, compare, hashes_of, version_of_files
from ndpnet.files import atomic_folder, check_output, sha256_of, sizes_below, staging_folder
from ndpnet.redaction import redact
from ndpnet.storage.pins import PinnedRevision
from ndpnet.storage.urls import is_on_s3

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
    path = source.path.strip("/")
    return PinnedRevision.open(source.url, source.revision, path, endpoint_url=source.endpoint_url)


def _fetch_revision(out_dir: Path, source: DataSource, category: str) -> dict[str, Any]:
    with open_revision(source) as pinned:
        where = redact(source.url, source.url)
        logger.info("%s of %s is commit %s", source.revision or "HEAD", where, pinned.commit)
        there, wanted = _intact_version(out_dir), choose(pinned.files, category)
        if there and there.pinned_hash == pinned.hash and [file.path for file in there.files] == wanted:
            kept = Version(there.files, pinned.commit, pinned.hash)
            if kept != there:  # another commit that pins the same data
                kept.save(out_dir / VERSION)
            logger.info(KEPT, out_dir)
            return kept.identity()
        with _staging_folder(out_dir) as staging_dir:
            pinned.bring(staging_dir, wanted)
            version = version_of_files(staging_dir, wanted, revision=pinned.commit, pinned_hash=pinned.hash)
            _move_into_place(staging_dir, out_dir, version)
    return version.identity()


def _fetch_prefix(out_dir: Path, source: DataSource, category: str) -> dict[str, Any]:
    from ndpnet.storage.s3 import download

    version = read_manifest(source).only(category)
    if _intact_version(out_dir) == version:
        logger.info(KEPT, out_dir)
        return version.identity()
    with _staging_folder(out_dir) as staging_dir:
        below = f"{source.prefix.rstrip('/')}/{category}" if category else source.prefix
        download(below, staging_dir / category, endpoint_url=source.endpoint_url)
        _check_download(staging_dir, source.prefix, version)
        _move_into_place(staging_dir, out_dir, version)
    return version.identity()


def read_manifest(source: DataSource) -> Version:
    """The version that the manifest of a source lists: a file here, or an object."""
    if not is_on_s3(source.manifest):
        return Version.load(Path(source.manifest))
    from ndpnet.storage.s3 import read_object

    return Version.load(read_object(source.manifest, endpoint_url=source.endpoint_url), name=source.manifest)


def _check_download(folder: Path, prefix: str, version: Version) -> None:
    """Compare each file of the version with what came; damaged ones are removed, so that they are asked for again."""
    for file in version.files:
        target = folder / file.path
        if not target.is_file():
            raise ValueError(f"{prefix} has no {file.path}, which the manifest names (upload it, or correct --prefix)")
        if target.stat().st_size != file.size or sha256_of(target) != file.sha256:
            target.unlink()
            raise ValueError(
                f"{file.path} of {prefix} is another than in the manifest: not its sha256 (upload the manifest's "
                "version, or make a new manifest)"
            )


def _intact_version(out_dir: Path) -> Version | None:
    """The version that a folder holds, if every file is as its version.json says."""
    if not (out_dir / VERSION).is_file():
        return None
    try:
        version = Version.load(out_dir / VERSION)
    except ValueError:
        return None
    if damage := compare(version.hashes, hashes_of(out_dir)):
        logger.warning("%s is no longer what its %s says, it is fetched again: %s", out_dir, VERSION, damage)
        return None
    return version


def _staging_folder(out_dir: Path) -> AbstractContextManager[Path]:
    return staging_folder(out_dir.with_name(f".{out_dir.name}.fetching"), outlives_failure=True)


def _known_files(out_dir: Path) -> dict[str, int]:
    """Names and sizes of the files that an earlier version brought; of damaged ones, too: they are brought anew."""
    if not (out_dir / VERSION).is_file():
        return {}
    known = {VERSION, *(file.path for file in Version.load(out_dir / VERSION).files)}
    return {name: size for name, size in sizes_below(out_dir).items() if name in known}


def _move_into_place(staging_dir: Path, out_dir: Path, version: Version) -> None:
    """Move the version's files, and no others, to their final folder; it appears complete or not at all."""
    with atomic_folder(out_dir, marker=VERSION, known=_known_files(out_dir)) as folder:
        for parent in {(folder / file.path).parent for file in version.files}:
            parent.mkdir(parents=True, exist_ok=True)
        for file in version.files:
            (staging_dir / file.path).rename(folder / file.path)
        version.save(folder / VERSION)
