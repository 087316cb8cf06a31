"""Watched folders: which files are complete, and how each enters the journal once."""

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ndpnet.data.images import format_of
from ndpnet.data.listing import has_picture_name
from ndpnet.files import replace_file
from ndpnet.station.config import LineConfig
from ndpnet.station.journal import FullError
from ndpnet.station.store import Intake

logger = logging.getLogger(__name__)
UNFINISHED = (".partial", ".part", ".tmp", ".crdownload", ".filepart")

Stamp = tuple[int, int]  # size and time of change: another file of the same name differs in one


class FolderWatch:
    """The source folder of one line."""

    def __init__(self, line: LineConfig, intake: Intake) -> None:
        assert line.source is not None
        self.line, self.root, self.intake = line, line.source, intake
        self.scan_seconds = 0.0  # of the last look: a folder with very many files is looked at less often
        self._seen: dict[str, tuple[Stamp, float]] = {}  # since when a file has been as it is
        self._done: dict[str, Stamp] = {}  # accepted, and left where they are
        self._left: list[tuple[str, Stamp]] = []  # of the last look, when there was no room: nothing is listed for them
        self._told: set[str] = set()  # what is not taken or moved, and has been named

    def look(self) -> int:
        """Take all files that are complete, oldest first. -> how many. OSError: the disk is full."""
        self.scan_seconds = 0.0
        found, self._left = self._left or self._list(), []
        now, num_accepted = time.monotonic(), 0
        for place, (name, stamp) in enumerate(found):
            if self._done.get(name) == stamp or not self._is_complete(name, stamp, now):
                continue
            try:
                num_accepted += self._take(name, stamp)
                self._put_away(name, stamp)
            except FullError:
                self._left = found[place:]
                break  # they wait in the folder
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._tell(name, f"cannot be taken, or moved to done_dir: {error.strerror}")  # gone, or locked
        return num_accepted

    def _list(self) -> list[tuple[str, Stamp]]:
        """All files with their stamps, oldest first; what is gone is forgotten."""
        start = time.monotonic()
        stamps = dict(self._files(os.fspath(self.root)))
        self.scan_seconds = time.monotonic() - start
        for known in (self._seen, self._done):
            for name in known.keys() - stamps.keys():
                del known[name]
        return sorted(stamps.items(), key=lambda item: (item[1][1], item[0]))

    def _files(self, folder: str) -> Iterator[tuple[str, Stamp]]:
        """Pictures below a folder with their stamps; hidden and unfinished ones are none yet."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    try:
                        yield from self._files(entry.path)
                    except OSError as error:
                        self._tell(entry.path, f"cannot be read: {error.strerror}")
                elif entry.is_symlink():
                    # who may write here must not make the station read what lies elsewhere
                    if _is_picture(entry.name) or entry.is_dir():
                        self._tell(entry.path, "is a symbolic link, not followed (copy pictures here)")
                elif (_is_picture(entry.name) or "." not in entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # moved away meanwhile
                        stamp = _stamp(Path(entry.path))
                        if _is_picture(entry.name):
                            yield os.path.relpath(entry.path, self.root), stamp
                        elif stamp[0]:
                            self._look_at_nameless(entry.path)

    def _tell(self, path: str, what: str) -> None:
        """Name once what is not taken, or not moved: the others are all the same."""
        if path not in self._told:
            self._told.add(path)
            logger.warning("%s: %s %s", self.line.name, path, what)

    def _look_at_nameless(self, path: str) -> None:
        if path not in self._told and format_of(Path(path)) is None:
            self._told.add(path)  # no picture: it is not opened again
        self._tell(path, "is a picture without an ending, not taken (name it as .png)")

    def _is_complete(self, name: str, stamp: Stamp, now: float) -> bool:
        last, since = self._seen.get(name, (None, now))
        if last != stamp:
            since = now
        self._seen[name] = (stamp, since)
        return now - since >= self.line.settle_seconds

    def _take(self, name: str, stamp: Stamp) -> bool:
        """Enter a file into the journal. -> False: a killed station did, and left it here."""
        path, shown = self.root / name, os.fsencode(name).decode(errors="backslashreplace")  # it may be no UTF-8
        key = f"{shown}|{stamp[0]}|{stamp[1]}"
        if self.intake.known(self.line.name, key) is not None:
            return False
        # a larger one is not read: that it is too large is its verdict
        content = path.read_bytes() if stamp[0] <= self.intake.max_bytes else b""
        if _stamp(path) != stamp:
            raise OSError(errno.EAGAIN, "it is being written")
        return self.intake.add(self.line.name, shown, key, content, path.suffix.lower())[1]

    def _put_away(self, name: str, stamp: Stamp) -> None:
        self._seen.pop(name, None)
        if self.line.done_dir is None:
            self._done[name] = stamp
            return
        source, target = self.root / name, self.line.done_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target = target.with_name(f"{target.stem}-{stamp[1]}{target.suffix}")
        with suppress(FileNotFoundError):  # another station that watches this folder has moved it
            if _stamp(source) == stamp:  # else it is the next picture of this name, and taken at the next look
                _move(source, target)


def _stamp(path: Path) -> Stamp:
    about = path.lstat()  # a link that took its place is another file
    return about.st_size, about.st_mtime_ns


def _is_picture(name: str) -> bool:
    return has_picture_name(name) and not name.lower().endswith(UNFINISHED)


def _move(source: Path, target: Path) -> None:
    """Rename; between file systems copy, then remove."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        replace_file(target, source.read_bytes())
        source.unlink()
