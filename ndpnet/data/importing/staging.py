"""Where a source is brought to before its import: nothing for a folder, a hidden sibling of the output otherwise."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.archives import MAX_BYTES, archive_stem, is_archive, unpack
from ndpnet.files import hash_of, naming_full_disk
from ndpnet.folders import staging_folder
from ndpnet.storage.urls import is_on_s3


@contextmanager
def opened_source(
    source: str, out: Path, *, max_bytes: int = MAX_BYTES, endpoint_url: str | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield a folder, an unpacked archive or what lies in S3, as a folder, and what a category is called that fills it.

    A download stays where it is until the import succeeds: the same command then continues it. ValueError names what
    is missing or refused.
    """
    path = Path(source)
    if is_on_s3(source):
        with _staging(out, [source, endpoint_url], outlives_failure=True) as folder:
            try:
                yield _download(source, folder, endpoint_url, max_bytes)
            finally:
                shutil.rmtree(folder / "unpacked", ignore_errors=True)
    elif path.is_dir():
        yield path, path.resolve().name
    elif path.is_file():
        with _staging(out, str(path.resolve())) as folder:
            with naming_full_disk(folder, out):
                unpack(path, folder, max_bytes=max_bytes)
            yield folder, archive_stem(path.name)
    else:
        raise ValueError(f"no folder or archive {source} (check the path)")


def _download(url: str, folder: Path, endpoint_url: str | None, max_bytes: int) -> tuple[Path, str]:
    from ndpnet.storage.s3 import download  # boto3 is slow to import

    downloaded, unpacked = folder / "download", folder / "unpacked"
    download(url, downloaded, endpoint_url=endpoint_url)
    files = [path for path in downloaded.iterdir() if not path.name.startswith(".")]
    if len(files) == 1 and files[0].is_file() and is_archive(files[0]):
        shutil.rmtree(unpacked, ignore_errors=True)
        with naming_full_disk(folder, folder):
            unpack(files[0], unpacked, max_bytes=max_bytes)
        return unpacked, archive_stem(files[0].name)
    return downloaded, PurePosixPath(url).name


def _staging(out: Path, key: object, *, outlives_failure: bool = False) -> AbstractContextManager[Path]:
    # the name is one that atomic_folder takes for abandoned, and removes, when nobody has it locked
    out = Path(out).resolve()
    folder = out.with_name(f".{out.name}.{hash_of(key)[:12]}.fetching")
    return staging_folder(folder, outlives_failure=outlives_failure)
