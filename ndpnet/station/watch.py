"""Watched folders: which files are complete, and how each enters the journal once."""

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ndpnet.data.images import format_of
from ndpnet.data.listing import has_picture_name
from ndpnet.files import replace_file
from ndpnet.station.config import LineConfig
from ndpnet.station.store import Intake

logger = logging.getLogger(__name__)
AT_ONCE, MAX_BYTES = 16, 4e6  # files, or bytes of them, that enter the journal in one transaction
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
        now, num_accepted, place = time.monotonic(), 0, 0
        complete = [
            (name, stamp)
            for name, stamp in found
            if self._done.get(name) != stamp and self._is_complete(name, stamp, now)
        ]
        while place < len(complete):
            num_new, num_done = self._take(complete[place : place + AT_ONCE])
            num_accepted, place = num_accepted + num_new, place + num_done
            if not num_done:  # no room: they wait in the folder
                self._left = complete[place:]
                break
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

    def _take(self, files: list[tuple[str, Stamp]]) -> tuple[int, int]:
        """Enter files into the journal at once, as many as there is room for. -> how many are new, and done with."""
        keys = [f"{_shown(name)}|{stamp[0]}|{stamp[1]}" for name, stamp in files]
        known, room = self.intake.look_up(self.line.name, keys)
        entries, there, num_done = list[dict[str, Any]](), list[tuple[str, Stamp]](), 0
        try:
            for (name, stamp), key in zip(files, keys, strict=True):
                if key not in known:  # else a killed station has entered it, and left it here
                    if room == len(entries) or sum(entry["num_bytes"] for entry in entries) > MAX_BYTES:
                        break
                    with self._telling(name):
                        entries.append(self._stored(name, stamp, key))
                        there.append((name, stamp))
                else:
                    there.append((name, stamp))
                num_done += 1
        finally:
            entered = self.intake.enter(self.line.name, entries) if entries else []
        for name, stamp in there:
            with self._telling(name):
                self._put_away(name, stamp)
        return sum(is_new for _, is_new in entered), num_done

    def _stored(self, name: str, stamp: Stamp, key: str) -> dict[str, Any]:
        path = self.root / name
        # a larger one is not read: that it is too large is its verdict
        content = path.read_bytes() if stamp[0] <= self.intake.max_bytes else b""
        if _stamp(path) != stamp:
            raise OSError(errno.EAGAIN, "it is being written")
        return self.intake.stored(self.line.name, _shown(name), key, content, path.suffix.lower())

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Name a file that is gone, or locked; OSError: the disk is full."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._tell(name, f"cannot be taken, or moved to done_dir: {error.strerror}")

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


def _shown(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")  # it may be no UTF-8


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
