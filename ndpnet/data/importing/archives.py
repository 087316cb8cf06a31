"""Unpacking archives that may be damaged or hostile: nothing outside the folder, no links, counted bytes and files."""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from ndpnet.files import CHUNK_BYTES

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
MAX_BYTES = 200_000_000_000
MAX_FILES = 2_000_000
# tarfile reads a member's extended header at once, whatever size it claims
MAX_HEADER_BYTES = 16 << 20
BLOCK_BYTES = 512
OPENERS: dict[bytes, Callable[..., IO[bytes]]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive."""
    return Path(path).name.lower().endswith(ARCHIVE_SUFFIXES)


def archive_stem(name: str) -> str:
    """Return an archive's name without its endings."""
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> int:
    """Unpack a tar (plain, gzip, xz, bzip2) or a zip into `folder`, which must be empty. -> number of files.

    ValueError names the archive, the member and the reason; what was written till then is the caller's to remove.
    """
    archive = Path(archive)
    target = _Target(archive, Path(folder), max_bytes, max_files)
    try:
        with archive.open("rb") as stream:
            magic = stream.read(6)
        if magic[:2] == b"PK":
            _unpack_zip(archive, target)
        else:
            opener = next((opener for start, opener in OPENERS.items() if magic.startswith(start)), open)
            _unpack_tar(archive, opener, target)
    except DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{archive} is damaged or no archive: {detail} (fetch it again)") from error
    return target.num_files


class _Target:
    """The folder to write to, and what has been written to it."""

    def __init__(self, archive: Path, folder: Path, max_bytes: int, max_files: int) -> None:
        self.archive, self.folder = archive, folder
        self.max_bytes, self.max_files = max_bytes, max_files
        self.num_bytes = self.num_files = 0
        self._files: set[bytes] = set()  # hashes of names: two million names themselves would fill the memory
        self._folders: set[bytes] = set()

    def refuse(self, name: str, reason: str) -> ValueError:
        """Return the error about one member."""
        return ValueError(f"{self.archive} is refused: {name!r} {reason}")

    def count_bytes(self, num_bytes: int) -> None:
        """Count bytes that came out of the archive, whatever its headers claim."""
        self.num_bytes += num_bytes
        if self.num_bytes > self.max_bytes:
            raise ValueError(f"{self.archive} expands to more than {self.max_bytes} bytes (raise --max-bytes)")

    def count_entry(self) -> None:
        """Count a member."""
        self.num_files += 1
        if self.num_files > self.max_files:
            raise ValueError(f"{self.archive} has more than {self.max_files} members (raise --max-files)")

    def path_of(self, name: str, *, is_folder: bool) -> Path:
        """Return where a member goes; ValueError unless that is a new place below the folder, on any system."""
        portable = name.replace("\\", "/")
        parts = PurePosixPath(portable).parts
        if not name or "\0" in name or any(ord(letter) < 32 for letter in name):
            raise self.refuse(name, "is no file name")
        if portable.startswith("/") or ".." in parts or re.match("[A-Za-z]:", portable):
            raise self.refuse(name, "points outside the archive's folder")
        self._claim(name, parts, is_folder)
        return self.folder.joinpath(*parts)

    def _claim(self, name: str, parts: tuple[str, ...], is_folder: bool) -> None:
        keys = [_key("/".join(parts[:length])) for length in range(1, len(parts) + 1)]
        if any(key in self._files for key in (keys if is_folder else keys[:-1])):
            raise self.refuse(name, "is below a file of the same name, or of one that differs in case only")
        self._folders.update(keys if is_folder else keys[:-1])
        if is_folder or not keys:
            return
        if keys[-1] in self._files or keys[-1] in self._folders:
            raise self.refuse(name, "occurs twice, or differs from another name in case only")
        self._files.add(keys[-1])

    def write(self, name: str, read: Callable[[int], bytes], count: Callable[[int], None]) -> None:
        """Write one member's content."""
        path = self.path_of(name, is_folder=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            while chunk := read(CHUNK_BYTES):
                count(len(chunk))
                stream.write(chunk)


def _key(path: str) -> bytes:
    """Return what two names share that some file system takes for one."""
    same = unicodedata.normalize("NFC", path).casefold()
    return blake2b(same.encode("utf-8", "surrogateescape"), digest_size=16).digest()


class _CountedStream:
    """An expanded tar stream: counts what comes out, and remembers how it ends."""

    def __init__(self, stream: IO[bytes], target: _Target) -> None:
        self._stream, self._target = stream, target
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; a header that claims to be huge is refused."""
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ValueError(f"{self._target.archive} is refused: a header of {size} bytes")
        content = self._stream.read(size)
        self._target.count_bytes(len(content))
        self.last_block = content
        return content

    def tell(self) -> int:
        """Position in the expanded stream."""
        return self._stream.tell()

    def seek(self, position: int) -> int:
        """Move forward by reading, so that what is skipped is counted, too."""
        missing = position - self.tell()
        assert missing >= 0, "a tar is read forwards"
        while missing > 0 and (chunk := self.read(min(missing, CHUNK_BYTES))):
            missing -= len(chunk)
        return self.tell()


def _unpack_tar(archive: Path, opener: Callable[..., IO[bytes]], target: _Target) -> None:
    with opener(archive, "rb") as expanded:
        stream = _CountedStream(expanded, target)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tqdm(_members(tar), "unpack", unit="file", disable=None):
                _unpack_member(tar, member, target)
        # tarfile takes garbage, and an end in the middle, for the end of the archive: two blocks of zeros are the end
        if stream.last_block != bytes(BLOCK_BYTES):
            raise tarfile.ReadError("it ends in the middle")
        while stream.read(CHUNK_BYTES):  # gzip and xz keep their checksum at the very end
            pass


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # else every header stays in memory


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, target: _Target) -> None:
    target.count_entry()
    if member.isdir():
        target.path_of(member.name, is_folder=True).mkdir(parents=True, exist_ok=True)
    elif member.issym() or member.islnk():
        raise target.refuse(member.name, "is a link (pack the file itself)")
    elif member.issparse() or not member.isreg():
        raise target.refuse(member.name, "is neither a file nor a folder")
    else:
        content = tar.extractfile(member)
        assert content is not None
        target.write(member.name, content.read, lambda _: None)  # the stream below counts


def _unpack_zip(archive: Path, target: _Target) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in tqdm(packed.infolist(), "unpack", unit="file", disable=None):
            target.count_entry()
            _check_zip_member(member, target)
            if member.is_dir():
                target.path_of(member.filename, is_folder=True).mkdir(parents=True, exist_ok=True)
                continue
            try:
                with packed.open(member) as content:
                    target.write(member.filename, content.read, target.count_bytes)
            except NotImplementedError as error:
                raise target.refuse(member.filename, f"cannot be unpacked: {error} (pack it anew)") from error


def _check_zip_member(member: zipfile.ZipInfo, target: _Target) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if member.flag_bits & 1:
        raise target.refuse(member.filename, "is encrypted (unpack it yourself and import the folder)")
    if kind == stat.S_IFLNK:
        raise target.refuse(member.filename, "is a link (pack the file itself)")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise target.refuse(member.filename, "is neither a file nor a folder")
