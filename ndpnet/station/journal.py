"""The station's memory: one SQLite file (WAL) in which a picture has one row, and that row gets one verdict."""

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA_PATH = Path(__file__).with_name("schema.sql")
LOCK_SECONDS = 30.0  # how long a writer waits for another one
MAX_CRASHES = 3  # a picture at whose turn the station died so often gets no further one
LABELS = ("good", "defective", "cannot tell")
DISPUTED = "disputed"


class FullError(Exception):
    """So many pictures wait for their verdict that no more are taken."""


@dataclass(frozen=True)
class Picture:
    """A picture as it arrives; `file` is below the station's folder."""

    line: str
    name: str
    key: str
    file: str
    sha256: str
    num_bytes: int
    is_sampled: bool = False


@dataclass(frozen=True)
class Judgement:
    """What is written of a judged picture."""

    verdict: str
    score: float | None = None
    threshold: float | None = None
    threshold_source: str | None = None
    width: int | None = None
    height: int | None = None
    regions: list[dict[str, Any]] = field(default_factory=list)
    properties: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    model: str | None = None
    map: str | None = None
    seconds: float = 0.0


class Journal:
    """Connections to the station's SQLite file, one per thread; every write is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        self._db().executescript(SCHEMA_PATH.read_text(encoding="utf-8"))

    def _db(self) -> sqlite3.Connection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # what was answered outlives a power cut
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        db = self._db()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has ended it already
                db.execute("ROLLBACK")
            raise

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query, JSON columns decoded."""
        return [_decoded(row) for row in self._db().execute(query, values)]

    def value(self, query: str, *values: Any) -> Any:
        """First column of a query's first row; None without one."""
        row = self._db().execute(query, values).fetchone()
        return None if row is None else row[0]

    # ---- pictures

    def accept(self, picture: Picture, *, max_waiting: int | None = None) -> tuple[int, bool]:
        """Enter a picture unless it is there. -> its id, and whether it is new. FullError: too many wait."""
        with self.write() as db:
            known = db.execute("SELECT id FROM pictures WHERE line = ? AND key = ?", (picture.line, picture.key))
            if (row := known.fetchone()) is not None:
                return row["id"], False
            if max_waiting is not None and _count_waiting(db) >= max_waiting:
                raise FullError
            values = picture.__dict__ | {"received_at": time.time()}
            return _insert(db, "pictures", values), True

    def num_waiting(self) -> int:
        """How many pictures wait for their verdict."""
        return _count_waiting(self._db())

    def next_picture(self, lines: list[str]) -> dict[str, Any] | None:
        """The picture of these lines that has waited longest."""
        marks = ", ".join("?" * len(lines))
        rows = self.rows(f"SELECT * FROM pictures WHERE seq IS NULL AND line IN ({marks}) ORDER BY id LIMIT 1", *lines)
        return rows[0] if rows else None

    def count_crash(self, lines: list[str]) -> None:
        """At the start: it was the turn of the first waiting picture when the station ended. Too often is an error."""
        first = self.next_picture(lines)
        if first is None:
            return
        with self.write() as db:
            db.execute("UPDATE pictures SET num_crashes = num_crashes + 1 WHERE id = ?", (first["id"],))
        if first["num_crashes"] + 1 >= MAX_CRASHES:
            self.finish(
                first["id"], Judgement("error", error=f"the station ended {MAX_CRASHES} times at this picture's turn")
            )

    def finish(self, picture_id: int, judgement: Judgement) -> int | None:
        """Write a verdict. -> its place in the order of verdicts; None: it has one, which stays."""
        with self.write() as db:
            seq = _last_seq(db) + 1
            values = judgement.__dict__ | {"seq": seq, "judged_at": time.time()}
            names = ", ".join(f"{name} = ?" for name in values)
            query = f"UPDATE pictures SET {names} WHERE id = ? AND seq IS NULL"
            changed = db.execute(query, (*map(_encoded, values.values()), picture_id)).rowcount
            return seq if changed else None

    def picture(self, picture_id: int) -> dict[str, Any] | None:
        """All of a picture's row, with its label."""
        rows = self.rows(
            "SELECT p.*, l.label FROM pictures p LEFT JOIN labels l ON l.picture = p.id WHERE p.id = ?", picture_id
        )
        return rows[0] if rows else None

    def last_seq(self) -> int:
        """Place of the last verdict in their order; 0 before the first."""
        return _last_seq(self._db())

    # ---- people

    def review(self, picture_id: int, label: str, who: str) -> None:
        """Note what a person says of a judged picture. ValueError: no such picture or label, or nobody's name."""
        if label not in LABELS:
            raise ValueError(f"{label!r} is no label (one of {', '.join(LABELS)})")
        check_name(who)
        with self.write() as db:
            judged = db.execute("SELECT seq FROM pictures WHERE id = ?", (picture_id,)).fetchone()
            if judged is None or judged["seq"] is None:
                raise ValueError(f"there is no judged picture {picture_id}")
            _insert(db, "reviews", {"picture": picture_id, "label": label, "who": who, "at": time.time()})

    def opinions(self, picture_id: int) -> list[dict[str, Any]]:
        """Everything that people said of a picture, oldest first."""
        return self.rows("SELECT who, label, at FROM reviews WHERE picture = ? ORDER BY id", picture_id)

    def note(self, kind: str, facts: dict[str, Any], *, line: str | None = None, who: str = "station") -> int:
        """Write an event that is no verdict: a model, a threshold, an alarm. -> its id"""
        with self.write() as db:
            values = {"line": line, "kind": kind, "who": who, "at": time.time(), "seq": _last_seq(db), "facts": facts}
            return _insert(db, "events", values)

    def last_event(self, line: str, *kinds: str) -> dict[str, Any] | None:
        """The last event of these kinds on a line."""
        marks = ", ".join("?" * len(kinds))
        query = f"SELECT * FROM events WHERE line = ? AND kind IN ({marks}) ORDER BY id DESC LIMIT 1"
        rows = self.rows(query, line, *kinds)
        return rows[0] if rows else None

    def know_model(self, line: str, model: str, facts: dict[str, Any]) -> None:
        """Keep what is known of a model that judges on a line."""
        with self.write() as db:
            values = (line, model, json.dumps(facts))
            db.execute("INSERT OR REPLACE INTO models (line, hash, facts) VALUES (?, ?, ?)", values)

    # ---- tokens

    def add_token(self, name: str, role: str, secret: str, *, is_replacing: bool = False) -> None:
        """Store a token's hash. ValueError: the name has one."""
        check_name(name)
        with self.write() as db:
            if is_replacing:
                db.execute("DELETE FROM tokens WHERE name = ?", (name,))
            if db.execute("SELECT 1 FROM tokens WHERE name = ?", (name,)).fetchone():
                raise ValueError(f"{name} has a token (remove it first: `ndpnet station --remove-token {name}`)")
            _insert(db, "tokens", {"name": name, "role": role, "sha256": _digest(secret), "at": time.time()})

    def remove_token(self, name: str) -> None:
        """Take a token away. ValueError: there is none."""
        with self.write() as db:
            if not db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
                raise ValueError(f"{name} has no token")

    def owner_of(self, secret: str) -> dict[str, Any] | None:
        """Name and role of a token."""
        rows = self.rows("SELECT name, role FROM tokens WHERE sha256 = ?", _digest(secret))
        return rows[0] if rows else None

    def has_tokens(self) -> bool:
        """Whether anybody has one."""
        return self.value("SELECT 1 FROM tokens LIMIT 1") is not None


def check_name(who: str) -> None:
    """ValueError: nobody's name."""
    if not who.strip() or len(who) > 80 or not who.isprintable():
        raise ValueError("a name is missing (say who you are, in at most 80 characters)")


def is_waiting(verdicts: tuple[str, ...]) -> str:
    """SQL, of a picture p: people have to look at it. By indices alone: Live asks every second."""
    names = ", ".join(f"'{verdict}'" for verdict in verdicts) or "NULL"
    unseen = "seq IS NOT NULL AND id NOT IN (SELECT picture FROM labels)"
    return (
        f"p.id IN (SELECT id FROM pictures WHERE verdict IN ({names}) AND {unseen} "
        f"UNION SELECT id FROM pictures WHERE is_sampled AND {unseen} "
        f"UNION SELECT picture FROM labels WHERE label = '{DISPUTED}')"
    )


def _digest(secret: str) -> str:
    # a token has 256 random bits: nothing to guess, so a slow hash would protect nothing
    return hashlib.sha256(secret.encode()).hexdigest()


def _count_waiting(db: sqlite3.Connection) -> int:
    return db.execute("SELECT count(*) FROM pictures WHERE seq IS NULL").fetchone()[0]


def _last_seq(db: sqlite3.Connection) -> int:
    return db.execute("SELECT coalesce(max(seq), 0) FROM pictures").fetchone()[0]


def _insert(db: sqlite3.Connection, table: str, values: dict[str, Any]) -> int:
    marks = ", ".join("?" * len(values))
    query = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
    return db.execute(query, [_encoded(value) for value in values.values()]).lastrowid


def _encoded(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _decoded(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    for name in ("regions", "properties", "facts"):
        if isinstance(values.get(name), str):
            values[name] = json.loads(values[name])
    return values
