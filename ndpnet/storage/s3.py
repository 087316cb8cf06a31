"""What lies at an address on S3, as files in a folder or as bytes."""

import json
import logging
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ndpnet.files import unwritable, write_json
from ndpnet.storage.bucket import AGAIN, Bucket, StoredObject
from ndpnet.storage.urls import relative_path

LISTED = ".listed.json"  # in a folder: the ETag of each of its files, by path

logger = logging.getLogger(__name__)


def download(url: str, folder: Path, *, endpoint_url: str | None = None) -> int:
    """Have a folder hold the objects below s3://bucket/prefix, or the one that the url names, and no other file.

    A broken download goes on: files that came, and whose objects are the same, are kept. No file has its name before
    it is whole. -> number of objects that had to come; ValueError in one line: what is wrong
    """
    bucket, objects = Bucket.below(url, endpoint_url=endpoint_url)
    targets = {Path(folder) / relative_path(stored.name): stored for stored in objects}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        etags = _etags_of(Path(folder))
        here = {path for path, stored in targets.items() if _is_here(path, stored, etags.get(str(path)))}
        _remove_others(folder, here)
        write_json(Path(folder) / LISTED, {str(path): stored.etag for path, stored in targets.items()})
        missing = {path: stored for path, stored in targets.items() if path not in here}
        logger.info("%s: %d objects, %d of them are here", url, len(targets), len(targets) - len(missing))
        _bring(bucket, missing, Path(folder))
    except OSError as error:
        raise unwritable(Path(error.filename2 or error.filename or folder), error) from error
    return len(missing)


def read_object(url: str, *, endpoint_url: str | None = None) -> bytes:
    """Return the bytes of one small object, such as a manifest; a larger one is a ValueError."""
    name = url.rpartition("/")[2]
    return Bucket(url.removesuffix(name), endpoint_url=endpoint_url).read(name)


def _bring(bucket: Bucket, missing: dict[Path, StoredObject], folder: Path) -> None:
    from tqdm import tqdm

    with (
        TemporaryDirectory(dir=folder, prefix=".") as scratch,
        tqdm(total=sum(stored.size for stored in missing.values()), unit="B", unit_scale=True, disable=None) as bar,
    ):
        # by number: s3transfer makes temporary names of them, which must not be too long
        ordered = ((stored, Path(scratch) / str(number)) for number, stored in enumerate(missing.values()))
        for (path, stored), (arrived, problem) in zip(missing.items(), bucket.fetch(ordered), strict=True):
            if problem:
                raise ValueError(f"{bucket.url_of(stored.name)} {problem} ({AGAIN})")
            path.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(path)
            bar.update(stored.size)


def _etags_of(folder: Path) -> dict[str, str]:
    """The ETags that the files of a folder were ordered by; none where nobody can tell."""
    try:
        return dict(json.loads((folder / LISTED).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _is_here(path: Path, stored: StoredObject, etag: str | None) -> bool:
    return bool(stored.etag) and etag == stored.etag and path.is_file() and path.stat().st_size == stored.size


def _remove_others(folder: Path, targets: Container[Path]) -> None:
    """What an earlier attempt has left: unfinished files, those changed or deleted in the bucket since."""
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        if path.is_symlink() or not path.is_dir():
            if path not in targets:
                path.unlink()
        else:
            with suppress(OSError):  # not empty
                path.rmdir()
