"""Where a source is brought to before its import: nothing for a folder, a hidden sibling of the output otherwise."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.archives import archive_stem, is_archive, unpack
from ndpnet.files import hash_of
from ndpnet.locks import locked

S3_SCHEME = "s3://"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedSource:
    """A source as a folder."""

    root: Path
    name: str  # what a category that fills it is called, and what the report says
    is_ours: bool  # its files may become the output's: nobody else has them


@contextmanager
def opened_source(
    source: str, out: Path, *, max_bytes: int, max_files: int, endpoint_url: str | None = None
) -> Iterator[OpenedSource]:
    """Yield a folder, an unpacked archive or what lies in S3, as a folder.

    A download stays where it is until the import succeeds: the same command then continues it. ValueError names what
    is missing or refused.
    """
    limits = {"max_bytes": max_bytes, "max_files": max_files}
    path = Path(source)
    if source.startswith(S3_SCHEME):
        with _staging(out, [source, endpoint_url], is_kept=True) as folder:
            yield _download(source, folder, endpoint_url, limits)
    elif path.is_dir():
        yield OpenedSource(path, path.resolve().name, is_ours=False)
    elif path.is_file():
        with _staging(out, str(path.resolve()), is_kept=False) as folder:
            unpack(path, folder, **limits)
            yield OpenedSource(folder, archive_stem(path.name), is_ours=True)
    else:
        raise ValueError(f"no folder or archive {source} (check the path)")


def _download(url: str, folder: Path, endpoint_url: str | None, limits: dict[str, int]) -> OpenedSource:
    from ndpnet.storage.s3 import download  # boto3 is slow to import

    downloaded, unpacked = folder / "download", folder / "unpacked"
    download(url, downloaded, endpoint_url=endpoint_url)
    files = list(downloaded.iterdir())
    if len(files) == 1 and files[0].is_file() and is_archive(files[0]):
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        unpack(files[0], unpacked, **limits)
        return OpenedSource(unpacked, archive_stem(files[0].name), is_ours=True)
    return OpenedSource(downloaded, PurePosixPath(url.removeprefix(S3_SCHEME)).name, is_ours=True)


@contextmanager
def _staging(out: Path, key: object, *, is_kept: bool) -> Iterator[Path]:
    """Yield a folder beside the output, the same for the same source; removed at the end, unless a failure keeps it."""
    out = Path(out).resolve()
    # the name is one that atomic_folder takes for abandoned, and removes, when nobody has it locked
    folder = out.with_name(f".{out.name}.{hash_of(key)[:12]}.fetching")
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    busy = f"another import from this source uses {folder} (wait until it ends)"
    is_done = False
    with locked(folder, busy, is_folder=True):
        try:
            if not is_kept:
                _empty(folder)  # of what a killed import left
            yield folder
            is_done = True
        finally:
            if is_done or not is_kept:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                shutil.rmtree(folder / "unpacked", ignore_errors=True)
                logger.warning("what was downloaded is kept in %s: the same command continues there", folder)
            _remove_empty(new_parents)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # not empty: the output is there
            return
