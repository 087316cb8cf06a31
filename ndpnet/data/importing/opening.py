"""A source as a folder: as it is, downloaded, or unpacked from an archive that may be damaged or hostile.

What is brought lies in a hidden sibling of the output: nothing outside it, and no more bytes than allowed.
"""

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Self

from tqdm import tqdm

from ndpnet.data.importing import MAX_BYTES
from ndpnet.files import CHUNK_BYTES, hash_of, naming_full_disk
from ndpnet.folders import scratch_folder
from ndpnet.storage.urls import is_on_s3

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
MS_DOS = 0  # what a zip says of the system that it was packed on
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)
# RuntimeError: a zip that is encrypted, or of an unknown kind
REFUSED = (FileExistsError, IsADirectoryError, NotADirectoryError, RuntimeError)


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
        with scratch_folder(out, key=hash_of([source, endpoint_url])) as folder:
            try:
                root, name = _download(source, folder, endpoint_url, max_bytes)
                with _naming_source(root, source):
                    yield root, name
            finally:
                shutil.rmtree(folder / "unpacked", ignore_errors=True)
    elif path.is_dir():
        yield path, path.resolve().name
    elif path.is_file():
        with scratch_folder(out) as folder:
            with naming_full_disk(folder, out):
                unpack(path, folder, max_bytes=max_bytes)
            with _naming_source(folder, source):
                yield folder, archive_stem(path.name)
    else:
        raise ValueError(f"no folder or archive {source} (check the path)")


@contextmanager
def _naming_source(folder: Path, source: str) -> Iterator[None]:
    """Have errors name what the user gave, not the hidden folder that it lies in meanwhile."""
    try:
        yield
    except ValueError as error:
        if str(folder) not in str(error):
            raise
        raise ValueError(str(error).replace(str(folder), source)) from error


def _download(url: str, folder: Path, endpoint_url: str | None, max_bytes: int) -> tuple[Path, str]:
    from ndpnet.storage.bucket import download  # boto3 is slow to import

    downloaded, unpacked = folder / "download", folder / "unpacked"
    download(url, downloaded, endpoint_url=endpoint_url)
    files = [path for path in downloaded.iterdir() if not path.name.startswith(".")]
    if len(files) == 1 and files[0].is_file() and archive_stem(files[0].name) != files[0].name:
        shutil.rmtree(unpacked, ignore_errors=True)
        with naming_full_disk(folder, folder):
            unpack(files[0], unpacked, max_bytes=max_bytes)
        return unpacked, archive_stem(files[0].name)
    return downloaded, PurePosixPath(url).name


def archive_stem(name: str) -> str:
    """Return an archive's name without its endings, any other as it is."""
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Unpack a tar (plain, gzip, xz, bzip2) or a zip into `folder`, which is empty or made.

    ValueError names the archive and the reason; what was written till then is the caller's to remove.
    """
    folder.mkdir(exist_ok=True)
    num_bytes = 0
    try:
        with archive.open("rb") as stream:
            is_zip = stream.read(2) == b"PK"
        members = (_zip_members if is_zip else _tar_members)(archive)
        for name, size, packed in tqdm(members, "unpack", unit="file", disable=None):
            num_bytes += size
            if num_bytes > max_bytes:
                raise ValueError(f"{archive} expands to more than {max_bytes} bytes (raise --max-bytes)")
            target = folder / name.lstrip("/")
            if ".." in target.relative_to(folder).parts:
                raise FileExistsError(f"{name!r} lies outside the destination")
            if target.exists():
                raise FileExistsError(f"{name!r} occurs twice")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as writer:
                shutil.copyfileobj(packed, writer)
    except REFUSED as error:
        raise ValueError(f"{archive} is refused: {error} (pack it anew, or import the unpacked folder)") from error
    except DAMAGE as error:
        detail = " ".join(str(error).partition(":\n- method")[0].split()) or type(error).__name__
        raise ValueError(f"{archive} is damaged or no archive: {detail} (fetch it again)") from error


class _Member(tarfile.TarInfo):
    """tarfile takes garbage, and an end in the middle, for the end of an archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Read the next header. ReadError: it is none, and not the zeros of the end either."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError("it ends in the middle") from error


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive, tarinfo=_Member) as tar:
        for member in iter(tar.next, None):
            if member.issym() or member.islnk():
                raise FileExistsError(f"{member.name!r} is a link")
            if not member.isdir():
                if (packed := tar.extractfile(member)) is None:
                    raise FileExistsError(f"{member.name!r} is a special file")
                yield member.name, member.size, packed
            tar.members.clear()  # type: ignore[attr-defined]  # else every header stays in memory
        while tar.fileobj.read(CHUNK_BYTES):  # gzip and xz keep their checksum at the very end
            pass


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            name = member.filename
            if member.create_system == MS_DOS and "/" not in name:  # some programs of Windows
                name = name.replace("\\", "/")
            if not name.endswith("/"):
                with packed.open(member) as stream:
                    yield name, member.file_size, stream
