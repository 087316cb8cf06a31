"""The station's memory, in SQLite or PostgreSQL: a picture has one row, and that row gets one verdict."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ndpnet.station.config import StationConfig
from ndpnet.station.tables import (
    BEGIN_WRITE,
    DEFECTIVE,
    DISPUTED,
    ERROR,
    GOOD_WORD,
    LABELS,
    OF_ONE_STATION,
    events,
    last_of,
    make_tables,
    note_label,
    open_database,
    pictures,
    reviews,
    tokens,
)

FILE_NAME = "journal.sqlite"
NUM_NEXT = 16  # waiting pictures that are read at a time
MAX_CRASHES = 3  # a picture at whose turn the station died so often gets no further one
# made once: each takes longer to make than to run
LAST_SEQ = sa.select(sa.func.coalesce(sa.func.max(pictures.alias().c.seq), 0))
LAST_EVENT = sa.select(sa.func.max(events.c.id))
IDS_OF = sa.select(pictures.c.key, pictures.c.id).where(
    pictures.c.line == sa.bindparam("line"), pictures.c.key.in_(sa.bindparam("keys", expanding=True))
)
INSERT = sa.insert(pictures).returning(pictures.c.id)
FINISH = (
    sa.update(pictures)
    .where(pictures.c.id == sa.bindparam("picture"), pictures.c.seq.is_(None))
    .values(seq=1 + LAST_SEQ.scalar_subquery(), num_bytes=pictures.c.num_bytes + sa.bindparam("map_bytes"))
    .returning(pictures.c.seq, LAST_EVENT.scalar_subquery())
)


class FullError(Exception):
    """So many pictures wait for their verdict that no more are taken."""


class JournalError(ValueError):
    """The database is away, locked or full."""


class LostError(JournalError):
    """The database went away meanwhile: what was written may be there, or not."""


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
    engine: str | None = None
    map: str | None = None
    map_bytes: int = 0
    seconds: float = 0.0


class Journal:
    """One station's part of a journal: a file of its own, or a database that several write to under their names."""

    def __init__(self, place: Path | str, *, station: str = "", has_all_files: bool = True) -> None:
        """Open or make it; `has_all_files`: other stations' pictures can be read here. JournalError: no answer."""
        self.place, self.station = place, station
        self.is_mine = pictures.c.station == station
        self.is_readable = sa.true() if has_all_files else self.is_mine
        self._num_waiting = sa.select(sa.func.count()).where(pictures.c.seq.is_(None), self.is_mine)
        self._engine = open_database(place)
        with self.write() as db:
            make_tables(db)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others of this station's name from the database. ValueError: one is there. A file's folder is locked."""
        if isinstance(self.place, Path):
            yield
            return
        with _in_words():
            db = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        db.detach()  # it is closed with the block, and the lock with it
        try:
            db.exec_driver_sql("SET lock_timeout = '5s'")  # one that was killed may not have left yet
            try:
                db.execute(sa.select(sa.func.pg_advisory_lock(sa.func.hashtext(self.station))))
            except sa.exc.OperationalError as error:
                reason = f"another station {self.station} writes to this journal (give each its own name)"
                raise ValueError(reason) from error
            yield
        finally:
            db.invalidate()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: all of it or nothing, one after the other."""
        with _in_words(), self._engine.begin() as db:
            db.exec_driver_sql(BEGIN_WRITE[self._engine.dialect.name])
            yield db

    def rows(self, statement: sa.Executable) -> list[dict[str, Any]]:
        """Rows of a query."""
        with _in_words(), self._engine.connect() as db:
            return [dict(row) for row in db.execute(statement).mappings()]

    def first(self, statement: sa.Executable) -> dict[str, Any] | None:
        """A query's first row, if it has one."""
        return next(iter(self.rows(statement)), None)

    def value(self, statement: sa.Executable) -> Any:
        """First column of a query's first row; None without one."""
        with _in_words(), self._engine.connect() as db:
            return db.execute(statement).scalar()

    # ---- pictures

    def accept(self, line: str, entries: Sequence[dict[str, Any]]) -> list[tuple[int, bool]]:
        """Enter pictures, all of them or none, but those that are there; entries: their other columns.

        -> id of each, and whether it is new.
        """
        about, entered = {"line": line, "station": self.station, "received_at": time.time()}, []
        with self.write() as db:
            known = _ids_of(db, line, [entry["key"] for entry in entries])
            for entry in entries:
                is_new = entry["key"] not in known
                if is_new:
                    known[entry["key"]] = db.execute(INSERT, about | entry).scalar_one()
                entered.append((known[entry["key"]], is_new))
        return entered

    def look_up(self, line: str, keys: Sequence[str]) -> tuple[dict[str, int], int]:
        """Ids of those pictures that were taken from there before, by key, and how many wait for their verdict."""
        with _in_words(), self._engine.connect() as db:
            return _ids_of(db, line, keys), db.execute(self._num_waiting).scalar_one()

    def num_waiting(self) -> int:
        """How many pictures wait for their verdict."""
        return self.value(self._num_waiting)

    def next_pictures(self, lines: list[str]) -> list[dict[str, Any]]:
        """Pictures of these lines that have waited longest, in their order."""
        waiting = sa.select(pictures).where(pictures.c.seq.is_(None), self.is_mine, pictures.c.line.in_(lines))
        return self.rows(waiting.order_by(pictures.c.id).limit(NUM_NEXT))

    def count_crash(self, lines: list[str]) -> None:
        """At the start: it was the turn of the first waiting picture when the station ended. Too often is an error."""
        first = next(iter(self.next_pictures(lines)), None)
        if first is None:
            return
        num_crashes = first["num_crashes"] + 1
        with self.write() as db:
            db.execute(sa.update(pictures).where(pictures.c.id == first["id"]).values(num_crashes=num_crashes))
        if num_crashes >= MAX_CRASHES:
            reason = f"the station ended {MAX_CRASHES} times at this picture's turn"
            self.finish(first["id"], Judgement("error", error=reason))

    def refuse_other_lines(self, lines: list[str]) -> None:
        """At the start: what waits for a line that the station does not have any more gets an error."""
        waiting = sa.select(pictures.c.id, pictures.c.line).where(pictures.c.seq.is_(None), self.is_mine)
        for row in self.rows(waiting.where(pictures.c.line.not_in(lines))):
            reason = f"the line {row['line']} is no longer in the station's file"
            self.finish(row["id"], Judgement("error", error=reason))

    def finish(self, picture_id: int, judgement: Judgement) -> tuple[int, int | None] | None:
        """Write a verdict. -> its place in their order, and `last_event_id`; None: it has one, which stays."""
        largest_area = max((region["area"] for region in judgement.regions), default=None)
        with self.write() as db:
            values = judgement.__dict__ | {"judged_at": time.time(), "largest_area": largest_area}
            written = db.execute(FINISH, values | {"picture": picture_id}).one_or_none()
        return None if written is None else (written[0], written[1])

    def is_judged(self, picture_id: int) -> bool:
        """Whether a picture has its verdict."""
        return self.value(sa.select(pictures.c.seq).where(pictures.c.id == picture_id)) is not None

    def picture(self, picture_id: int) -> dict[str, Any] | None:
        """All of a picture's row."""
        return self.first(sa.select(pictures).where(pictures.c.id == picture_id))

    def check_same(self, store: Path) -> None:
        """ValueError: the store has pictures, and this journal no model of the station: one of the two is new."""
        known = sa.select(events.c.id).where(events.c.station == self.station).limit(1)
        if self.value(known) is None and any(path.is_file() for path in store.rglob("*")):
            where = f"{store} has pictures, and the journal {self._engine.url} does not know this station"
            raise ValueError(f"{where} (bring their journal or the station's old name back, or move them away)")

    def last_seq(self) -> int:
        """Place of the last verdict in their order; 0 before the first."""
        return self.value(LAST_SEQ)

    # ---- people

    def review(self, picture_id: int, label: str, who: str, mask: bytes | None = None) -> None:
        """Note what a person says of a judged picture, and paints. ValueError: no such picture or label, or no name."""
        if label not in LABELS:
            raise ValueError(f"{label!r} is no label (one of {', '.join(LABELS)})")
        if mask is not None and label != DEFECTIVE:
            raise ValueError(f"an area is painted on a {label} picture (clear it, or call the picture defective)")
        check_name(who)
        with self.write() as db:
            if db.scalar(sa.select(pictures.c.seq).where(pictures.c.id == picture_id)) is None:
                raise ValueError(f"there is no judged picture {picture_id}")
            values = {"picture": picture_id, "label": label, "who": who, "at": time.time(), "mask": mask}
            db.execute(sa.insert(reviews).values(values))
            note_label(db, picture_id)

    def opinions(self, picture_id: int) -> list[dict[str, Any]]:
        """Everything that people said of a picture, oldest first."""
        columns = reviews.c.who, reviews.c.label, reviews.c.at, reviews.c.mask.is_not(None).label("is_painted")
        return self.rows(sa.select(*columns).where(reviews.c.picture == picture_id).order_by(reviews.c.id))

    def mask(self, picture_id: int) -> bytes | None:
        """The area that was painted last, of those who have not changed their mind: PNG of the picture's size."""
        painted = sa.select(reviews.c.mask).where(reviews.c.id.in_(last_of(picture_id)), reviews.c.mask.is_not(None))
        return self.value(painted.order_by(reviews.c.id.desc()).limit(1))

    def note(self, kind: str, facts: dict[str, Any], *, line: str | None = None, who: str = "station") -> None:
        """Write an event that is no verdict: a model, a threshold, an alarm."""
        with self.write() as db:
            event = sa.insert(events).values(station=self.station, line=line, kind=kind, who=who, facts=facts)
            db.execute(event.values(at=time.time(), seq=db.scalar(LAST_SEQ)))

    def last_event(self, line: str, *kinds: str, **facts: str) -> dict[str, Any] | None:
        """The last event of these kinds on a line that has these facts, and concerns this station."""
        has_facts = [events.c.facts[name].as_string() == value for name, value in facts.items()]
        is_its = sa.or_(events.c.station == self.station, events.c.kind.not_in(OF_ONE_STATION))
        of_line = sa.select(events).where(events.c.line == line, events.c.kind.in_(kinds), is_its, *has_facts)
        return self.first(of_line.order_by(events.c.id.desc()).limit(1))

    def last_event_id(self) -> int | None:
        """Another one: something was noted, here or by another station."""
        return self.value(LAST_EVENT)

    # ---- tokens

    def add_token(self, name: str, role: str, secret: str, *, is_replacing: bool = False) -> None:
        """Store a token's hash. ValueError: the name has one, or somebody else has this one."""
        check_name(name)
        with self.write() as db:
            if is_replacing:
                db.execute(sa.delete(tokens).where(tokens.c.name == name))
            if db.scalar(sa.select(tokens.c.name).where(tokens.c.name == name)):
                raise ValueError(f"{name} has a token (remove it first: `ndpnet station --remove-token {name}`)")
            if owner := db.scalar(sa.select(tokens.c.name).where(tokens.c.sha256 == _digest(secret))):
                raise ValueError(f"{name} has the token of {owner} (give each its own)")
            db.execute(sa.insert(tokens).values(name=name, role=role, sha256=_digest(secret), at=time.time()))

    def remove_token(self, name: str) -> None:
        """Take a token away. ValueError: there is none."""
        with self.write() as db:
            if not db.execute(sa.delete(tokens).where(tokens.c.name == name)).rowcount:
                raise ValueError(f"{name} has no token")

    def owner_of(self, secret: str) -> dict[str, Any] | None:
        """Name and role of a token."""
        return self.first(sa.select(tokens.c.name, tokens.c.role).where(tokens.c.sha256 == _digest(secret)))

    def has_tokens(self) -> bool:
        """Whether anybody has one."""
        return self.value(sa.select(tokens.c.name).limit(1)) is not None


def open_journal(config: StationConfig) -> Journal:
    """The journal that a station is told to write. JournalError: it does not answer."""
    if config.journal is None:
        return Journal(config.folder / FILE_NAME)
    assert config.name is not None
    return Journal(config.journal, station=config.name, has_all_files=config.store.url is not None)


def check_name(who: str) -> None:
    """ValueError: nobody's name."""
    if not who.strip() or len(who) > 80 or not who.isprintable():
        raise ValueError("a name is missing (say who you are, in at most 80 characters)")


def is_waiting(verdicts: tuple[str, ...]) -> sa.ColumnElement[bool]:
    """Of a judged picture: people have to look at it. By indices alone: Live asks every second."""
    one = pictures.alias().c
    unseen = sa.select(one.id).where(one.label.is_(None), one.verdict.is_not(None))
    by_verdict = unseen.where(one.verdict != GOOD_WORD, one.verdict.in_(verdicts))
    disputed = sa.select(one.id).where(one.label == DISPUTED)
    return pictures.c.id.in_(by_verdict.union(unseen.where(one.is_sampled, one.verdict != ERROR), disputed))


def _ids_of(db: sa.Connection, line: str, keys: Sequence[str]) -> dict[str, int]:
    return {row.key: row.id for row in db.execute(IDS_OF, {"line": line, "keys": keys})}


def _digest(secret: str) -> str:
    # a token has 256 random bits: nothing to guess, so a slow hash would protect nothing
    return hashlib.sha256(secret.encode()).hexdigest()


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (OverflowError, sa.exc.DataError) as error:
        raise ValueError("a number is larger than any in the journal") from error
    except sa.exc.IntegrityError:
        raise  # a bug
    except (sa.exc.DatabaseError, sa.exc.TimeoutError) as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())
        kind = LostError if getattr(error, "connection_invalidated", False) else JournalError
        raise kind(f"the journal cannot be used: {reason}") from error
