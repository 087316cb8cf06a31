"""Unpacking archives that may be damaged or hostile: nothing outside the folder, no links, counted bytes and files."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ndpnet.files import CHUNK_BYTES

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
MAX_BYTES = 200_000_000_000
MAX_FILES = 2_000_000
# tarfile reads a member's extended header at once, whatever size it claims
MAX_HEADER_BYTES = 16 << 20
OPENERS: dict[bytes, Callable[..., IO[bytes]]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)
CLASHES = (FileExistsError, IsADirectoryError, NotADirectoryError)


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive."""
    return Path(path).name.lower().endswith(ARCHIVE_SUFFIXES)


def archive_stem(name: str) -> str:
    """Return an archive's name without its endings."""
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> int:
    """Unpack a tar (plain, gzip, xz, bzip2) or a zip into `folder`, which must be empty. -> number of members.

    ValueError names the archive, the member and the reason; what was written till then is the caller's to remove.
    """
    archive = Path(archive)
    count = _Count(archive, max_bytes, max_files)
    try:
        with archive.open("rb") as stream:
            magic = stream.read(6)
        if magic[:2] == b"PK":
            _unpack_zip(archive, folder, count)
        else:
            opener = next((opener for start, opener in OPENERS.items() if magic.startswith(start)), open)
            _unpack_tar(archive, opener, folder, count)
    except (tarfile.FilterError, *CLASHES) as error:
        raise ValueError(f"{archive} is refused: {error}") from error
    except DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{archive} is damaged or no archive: {detail} (fetch it again)") from error
    return count.num_files


@dataclass
class _Count:
    """What came out of an archive, whatever its headers claim."""

    archive: Path
    max_bytes: int
    max_files: int
    num_bytes: int = 0
    num_files: int = 0

    def add_bytes(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise ValueError(f"{self.archive} expands to more than {self.max_bytes} bytes (raise --max-bytes)")

    def add_member(self, name: str, folder: Path, *, is_folder: bool) -> None:
        self.num_files += 1
        if self.num_files > self.max_files:
            raise ValueError(f"{self.archive} has more than {self.max_files} members (raise --max-files)")
        if not is_folder and (folder / name.lstrip("/")).is_file():
            raise FileExistsError(f"{name!r} occurs twice (pack it anew)")


class _CountedStream:
    """An expanded tar stream, whose bytes are counted."""

    def __init__(self, stream: IO[bytes], count: _Count) -> None:
        self._stream, self._count = stream, count
        self.last_block = b""
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; a header that claims to be huge is refused."""
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ValueError(f"{self._count.archive} is refused: a header of {size} bytes")
        self.last_block = self._stream.read(size)
        self._count.add_bytes(len(self.last_block))
        return self.last_block

    def seek(self, position: int) -> int:
        """Move forward by reading, so that what is skipped is counted, too."""
        while (missing := position - self.tell()) > 0 and self.read(min(missing, CHUNK_BYTES)):
            pass
        return self.tell()


def _unpack_tar(archive: Path, opener: Callable[..., IO[bytes]], folder: Path, count: _Count) -> None:
    with opener(archive, "rb") as expanded:
        stream = _CountedStream(expanded, count)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tqdm(iter(tar.next, None), "unpack", unit="file", disable=None):
                tar.members.clear()  # else every header stays in memory
                if member.islnk() or member.issym() or member.issparse():
                    kind = "a sparse file" if member.issparse() else "a link"
                    raise ValueError(f"{archive} is refused: {member.name!r} is {kind} (pack the file itself)")
                count.add_member(member.name, folder, is_folder=member.isdir())
                tar.extract(member, folder, filter="data")
        # tarfile takes garbage, and an end in the middle, for the end of the archive: two blocks of zeros are the end
        if stream.last_block != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends in the middle")
        while stream.read(CHUNK_BYTES):  # gzip and xz keep their checksum at the very end
            pass


def _unpack_zip(archive: Path, folder: Path, count: _Count) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in tqdm(packed.infolist(), "unpack", unit="file", disable=None):
            if member.flag_bits & 1:
                raise ValueError(f"{archive} is refused: {member.filename!r} is encrypted (import the unpacked folder)")
            count.add_member(member.filename, folder, is_folder=member.is_dir())
            count.add_bytes(member.file_size)  # no more is read, and none of it is a link
            try:
                packed.extract(member, folder)
            except NotImplementedError as error:
                raise ValueError(f"{archive} is refused: {member.filename!r}: {error} (pack it anew)") from error
