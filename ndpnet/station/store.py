"""Pictures and maps as files, here or on S3: how a picture enters, its bytes before its row, and when it goes."""

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ndpnet.files import replace_file
from ndpnet.station.config import MAPS, PICTURES, StationConfig, StoreConfig
from ndpnet.station.journal import FullError, Journal, LostError, is_waiting
from ndpnet.station.queries import num_bytes_stored
from ndpnet.station.sinks import Receiver
from ndpnet.station.tables import pictures

logger = logging.getLogger(__name__)
FILES = ("seq", "judged_at", "file", "map")  # what `deliver` is told
DAY = 86400.0
GIGABYTE = 1e9
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"II*\x00": ".tif", b"MM\x00*": ".tif", b"BM": ".bmp"}
AT_ONCE = 500  # pictures that are removed between two notes in the journal


class Store(Receiver):
    """Files of the station, written whole or not at all. A sink, too: those of judged pictures go to the bucket."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        """Nothing is asked of the bucket yet. ValueError: there are no S3 settings."""
        self.folder, self._bucket = Path(folder), None
        self._moving = threading.Lock()  # what is removed is not on its way
        if url is not None:
            from ndpnet.storage.bucket import Bucket

            self._bucket = Bucket(url)

    def add(self, content: bytes, line: str, suffix: str) -> tuple[str, str]:
        """Write a picture under a new name. -> that name, below the folder, and its sha256"""
        name = f"{PICTURES}/{line}/{time.strftime('%Y-%m-%d')}/{uuid.uuid4().hex}{suffix}"
        replace_file(self.folder / name, content)
        return name, hashlib.sha256(content).hexdigest()

    def add_map(self, content: bytes, picture: str) -> str:
        """Write the heat map of a picture; the same picture's again replaces it. -> its name"""
        name = f"{MAPS}/{picture.partition('/')[2]}.png"
        replace_file(self.folder / name, content)
        return name

    def read(self, name: str) -> bytes:
        """Bytes of a file. FileNotFoundError: it is not here, nor in the bucket; ValueError: that does not answer."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            if self._bucket is None:
                raise
        try:
            return self._bucket.read(name)
        except ValueError as error:
            answer = getattr(error.__cause__, "response", {})
            if answer.get("Error", {}).get("Code") != "NoSuchKey":
                raise
            raise FileNotFoundError(str(error)) from error

    def take_back(self, name: str) -> None:
        """Remove a file that was just added."""
        (self.folder / name).unlink(missing_ok=True)

    def remove(self, *names: str | None) -> None:
        """Remove files, those that are there. ValueError: the bucket does not answer, and all stay here."""
        with self._moving:
            for name in filter(None, names):
                if self._bucket is not None:
                    self._bucket.delete(name)
                (self.folder / name).unlink(missing_ok=True)

    def deliver(self, row: dict[str, Any]) -> None:
        """Bring the files of a judged picture to the bucket. ValueError: it does not answer; they stay here."""
        assert self._bucket is not None
        for name in filter(None, (row["file"], row["map"])):
            with self._moving, suppress(FileNotFoundError):  # it is there already, or was removed
                path = self.folder / name
                with path.open("rb") as stream:
                    self._bucket.put(name, stream)
                path.unlink()

    def remove_unknown(self, journal: Journal) -> int:
        """Remove what a killed station wrote and did not enter in its journal. -> how many"""
        stored = journal.rows(sa.select(pictures.c.file, pictures.c.map).where(pictures.c.file.is_not(None)))
        known = {name for row in stored for name in row.values()}
        num_removed = 0
        for root in (PICTURES, MAPS):
            for path in (self.folder / root).rglob("*"):
                if path.is_file() and path.relative_to(self.folder).as_posix() not in known:
                    path.unlink()
                    num_removed += 1
        return num_removed


class Intake:
    """Takes pictures as long as there is room; `accepted` is called once one is in the journal."""

    def __init__(self, journal: Journal, store: Store, station: StationConfig, accepted: Callable[[], None]) -> None:
        self.journal, self.store, self.limits, self._accepted = journal, store, station.server, accepted
        self._sample, self.station_name = station.review_sample, station.name or ""

    @property
    def max_bytes(self) -> float:
        """Of one picture."""
        return self.limits.max_megabytes * 1e6

    def look_up(self, line: str, keys: Sequence[str]) -> tuple[dict[str, int], int]:
        """Ids of those pictures that were taken before, by key, and for how many others there is room."""
        known, num_waiting = self.journal.look_up(line, keys)
        return known, max(self.limits.max_waiting - num_waiting, 0)

    def take(self, line: str, name: str, key: str, content: bytes) -> int:
        """Enter a picture once. -> its id. FullError: no room; OSError: no disk."""
        known, room = self.look_up(line, [key])
        if key in known:
            return known[key]
        if not room:
            raise FullError
        return self.enter(line, [self.stored(line, name, key, content, suffix_of(content))])[0][0]

    def stored(self, line: str, name: str, key: str, content: bytes, suffix: str) -> dict[str, Any]:
        """Write a picture's file. -> what `enter` takes. OSError: no disk."""
        file, sha256 = self.store.add(content, line, suffix)
        is_sampled = int(sha256[:16], 16) < self._sample * 2**64  # drawn by the content: no score or restart decides
        about = {"key": key, "name": name, "file": file, "sha256": sha256, "num_bytes": len(content)}
        return about | {"is_sampled": is_sampled}

    def enter(self, line: str, entries: Sequence[dict[str, Any]]) -> list[tuple[int, bool]]:
        """Enter pictures that are stored. -> id of each, and whether nobody has entered it meanwhile."""
        unused = [entry["file"] for entry in entries]
        try:
            entered = self.journal.accept(line, entries)
            unused = [file for file, (_, is_new) in zip(unused, entered, strict=True) if not is_new]
        except LostError:
            unused = []  # they may be in: if they are not, the next start removes the files
            raise
        finally:
            for file in unused:
                self.store.take_back(file)
        self._accepted()
        return entered


def suffix_of(content: bytes) -> str:
    """How the name of a file with this content ends."""
    return next((suffix for magic, suffix in SUFFIXES.items() if content.startswith(magic)), ".bin")


def retain(journal: Journal, store: Store, config: StoreConfig, review: tuple[str, ...]) -> int:
    """Remove pictures that are too old, and the oldest while there are too many bytes; none that waits. -> how many"""
    excess = num_bytes_stored(journal) - config.keep_gigabytes * GIGABYTE
    columns = [pictures.c[name] for name in ("id", "file", "map", "num_bytes", "judged_at")]
    is_done = journal.is_mine, pictures.c.file.is_not(None), pictures.c.seq.is_not(None), ~is_waiting(review)
    removed = []
    for row in journal.rows(sa.select(*columns).where(*is_done).order_by(pictures.c.judged_at).limit(AT_ONCE)):
        if row["judged_at"] >= time.time() - config.keep_days * DAY and excess <= 0:
            break
        store.remove(row["file"], row["map"])  # before the journal: what a kill leaves is removed again
        excess -= row["num_bytes"]
        removed.append(row["id"])
    with journal.write() as db:
        db.execute(sa.update(pictures).where(pictures.c.id.in_(removed)).values(file=None, map=None))
    return len(removed)
