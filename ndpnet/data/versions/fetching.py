"""Exactly one version of the data in a folder: from a git revision's DVC remote, or from S3 with a manifest."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ndpnet.data.versions.version import VERSION, Version, choose, find_damage, version_of_files
from ndpnet.files import atomic_folder, check_output, sha256_of, sizes_below
from ndpnet.locks import locked
from ndpnet.redaction import redact
from ndpnet.storage.pins import PinnedRevision

logger = logging.getLogger(__name__)


def fetch_version(
    out_dir: Path,
    *,
    url: str | None,
    revision: str | None,
    path: str,
    prefix: str | None,
    manifest: str | Path | None,
    endpoint_url: str | None,
    category: str = "",
) -> dict[str, Any]:
    """Write one version's files, or those of a category, and its version.json under `out_dir`. -> its identity.

    A folder that holds this version already is verified and kept. What was fetched before a failure is kept beside
    it for the next try. ValueError names what is wrong, without credentials.
    """
    check_source(url, prefix, manifest)
    out_dir = Path(out_dir).resolve()
    check_output(out_dir, marker=VERSION, known=_known_files(out_dir))
    if url is not None:
        return _fetch_revision(out_dir, url, revision, checked_path(url, path), endpoint_url, category)
    version = read_manifest(manifest, endpoint_url).only(category)
    return _fetch_prefix(out_dir, prefix, version, endpoint_url, category)


def check_source(url: str | None, prefix: str | None, manifest: str | Path | None) -> None:
    """Refuse a source that names none or two places. ValueError names the mend."""
    if (url is None) == (prefix is None):
        raise ValueError("either a git repository or an S3 prefix names the data (pass --url or --prefix)")
    if prefix is not None and manifest is None:
        raise ValueError(f"no manifest says which files of {prefix} to take (pass --manifest version.json)")


def checked_path(url: str, path: str) -> str:
    """The pinned folder's path inside a repository. ValueError: the URL names none, or the path leaves it."""
    if "://" in url and not urlsplit(url).path.strip("/"):
        raise ValueError(f"the git URL {redact(url, url)} names no repository (complete it)")
    if ".." in PurePosixPath(path).parts or not path.strip("/."):
        raise ValueError(f"path {path!r} lies outside the repository (name the pinned folder, as data)")
    return path.strip("/")


def _fetch_revision(
    out_dir: Path, url: str, revision: str | None, path: str, endpoint_url: str | None, category: str
) -> dict[str, Any]:
    with PinnedRevision.open(url, revision, path, endpoint_url=endpoint_url) as pinned:
        logger.info("%s of %s is commit %s", revision or "HEAD", redact(url, url), pinned.commit)
        there, wanted = _intact_version(out_dir), choose(pinned.files, category)
        if there and there.pinned_hash == pinned.hash and [file.path for file in there.files] == wanted:
            kept = Version(there.files, pinned.commit, pinned.hash)
            if kept != there:  # another commit that pins the same data
                kept.save(out_dir / VERSION)
            return _kept(out_dir, kept)
        with _staging_folder(out_dir) as staging_dir:
            pinned.bring(staging_dir, wanted)
            version = version_of_files(staging_dir, wanted, revision=pinned.commit, pinned_hash=pinned.hash)
            _move_into_place(staging_dir, out_dir, version)
    return version.identity()


def _fetch_prefix(
    out_dir: Path, prefix: str, version: Version, endpoint_url: str | None, category: str
) -> dict[str, Any]:
    from ndpnet.storage.s3 import download

    there = _intact_version(out_dir)
    if there == version:
        return _kept(out_dir, version)
    with _staging_folder(out_dir) as staging_dir:
        below = f"{prefix.rstrip('/')}/{category}" if category else prefix
        download(below, staging_dir / category, endpoint_url=endpoint_url)
        _check_download(staging_dir, prefix, version)
        _move_into_place(staging_dir, out_dir, version)
    return version.identity()


def read_manifest(source: str | Path, endpoint_url: str | None) -> Version:
    """The version that a manifest lists: a file here, or an object."""
    if not str(source).startswith("s3://"):
        return Version.load(Path(source))
    from ndpnet.storage.s3 import read_object

    return Version.load(read_object(str(source), endpoint_url=endpoint_url), name=str(source))


def _check_download(folder: Path, prefix: str, version: Version) -> None:
    """Compare each file of the version with what came; damaged ones are removed, so that they are asked for again."""
    for file in version.files:
        target = folder / file.path
        if not target.is_file():
            raise ValueError(f"{prefix} has no {file.path}, which the manifest names (upload it, or mend the prefix)")
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
    damage = find_damage(out_dir, version)
    if damage:
        logger.warning("%s is no longer what its %s says, it is fetched again: %s", out_dir, VERSION, damage)
        return None
    return version


def _kept(out_dir: Path, version: Version) -> dict[str, Any]:
    logger.info("%s holds this version already: verified and kept", out_dir)
    return version.identity()


@contextmanager
def _staging_folder(out_dir: Path) -> Iterator[Path]:
    """A sibling that collects files, for one process at a time; it stays after a failure and goes after success."""
    staging_dir = out_dir.with_name(f".{out_dir.name}.fetching")
    busy = f"another process fetches into {out_dir} (wait for it, or choose another folder)"
    with locked(staging_dir, busy, is_folder=True):
        yield staging_dir
        shutil.rmtree(staging_dir)


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
