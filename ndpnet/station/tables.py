"""The journal's tables, the same on SQLite and PostgreSQL, and how a database is opened."""

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

LOCK_SECONDS = 30.0  # how long a writer waits for another one
ANSWER_SECONDS = LOCK_SECONDS + 10.0  # of PostgreSQL, which says itself when it waited too long for a lock
GOOD, DEFECTIVE, CANNOT_TELL, DISPUTED = "good", "defective", "cannot tell", "disputed"
LABELS = (GOOD, DEFECTIVE, CANNOT_TELL)
# kinds of events; what a station does itself concerns no other one that has a line of this name
MODEL, THRESHOLD, ACKNOWLEDGED, DRIFT, RESTARTED = "model", "threshold", "acknowledged", "drift", "restarted"
RETRAIN, RETRAINED = "retrain", "retrained"  # asked for, and what came of it
OF_ONE_STATION = (MODEL, RESTARTED, RETRAIN, RETRAINED)
# begins a write: one writer at a time, so that verdicts get their order without a gap
BEGIN_WRITE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7236973850)"}

metadata = sa.MetaData()
KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows by itself under this type alone


def _json(name: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(none_as_null=True), **options)


def _partial(name: str, *columns: sa.Column[Any], where: sa.ColumnElement[bool]) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


pictures = sa.Table(
    "pictures",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("station", sa.Text, nullable=False, server_default=""),  # which took it, has its files and judges it
    sa.Column("line", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),  # what makes it this picture and no other: where it came from
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("file", sa.Text),  # in the store; NULL once it was removed
    sa.Column("map", sa.Text),
    sa.Column("num_bytes", sa.BigInteger, nullable=False),  # of the picture, and of its map once it has one
    sa.Column("received_at", sa.Double, nullable=False),
    # drawn at random, whatever its score: a person looks at it
    sa.Column("is_sampled", sa.Boolean, nullable=False, server_default=sa.text("false")),
    # of the station while it was this picture's turn
    sa.Column("num_crashes", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("seq", sa.BigInteger, unique=True),  # the order of verdicts; NULL: it waits for its verdict
    sa.Column("verdict", sa.Text),
    sa.Column("score", sa.Double),
    sa.Column("threshold", sa.Double),
    sa.Column("threshold_source", sa.Text),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    _json("regions"),
    sa.Column("largest_area", sa.Integer),  # of its regions
    _json("properties"),
    sa.Column("error", sa.Text),
    sa.Column("label", sa.Text),  # what all people together say of it, by what each of them said last; NULL: nothing
    sa.Column("model", sa.Text),
    sa.Column("engine", sa.Text),
    sa.Column("judged_at", sa.Double),
    sa.Column("seconds", sa.Double),
    sa.UniqueConstraint("line", "key"),
    sa.CheckConstraint("verdict IN ('good', 'review', 'defective', 'error')"),
    sa.CheckConstraint("(seq IS NULL) = (verdict IS NULL)"),
    # no picture is good or defective by a score that is no number: NULL on SQLite, the highest of all on PostgreSQL
    sa.CheckConstraint("verdict IS NULL OR verdict = 'error' OR (score IS NOT NULL AND score < 1e300)"),
)
_partial("waiting_for_verdict", pictures.c.id, where=pictures.c.seq.is_(None))
ERROR = "error"  # the verdict of what could not be judged
# a parameter would hide from SQLite that the index has the condition
GOOD_WORD: sa.ColumnClause[str] = sa.literal_column("'good'")
_partial("not_good", pictures.c.verdict, pictures.c.label, where=pictures.c.verdict != GOOD_WORD)
# written as queries write it: SQLite takes no other words for the same
_partial("sample", pictures.c.is_sampled, pictures.c.label, where=pictures.c.is_sampled == sa.true())
_partial("by_label", pictures.c.label, pictures.c.seq, where=pictures.c.label.is_not(None))
_partial("stored", pictures.c.id, pictures.c.num_bytes, where=pictures.c.file.is_not(None))
_partial("stored_by_time", pictures.c.judged_at, where=pictures.c.file.is_not(None))
sa.Index("by_verdict", pictures.c.verdict, pictures.c.seq)
sa.Index("by_line", pictures.c.line, pictures.c.seq)
sa.Index("by_time", pictures.c.judged_at, pictures.c.verdict, pictures.c.line)

reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("picture", sa.ForeignKey(pictures.c.id), nullable=False),
    sa.Column("label", sa.Text, sa.CheckConstraint("label IN ('good', 'defective', 'cannot tell')"), nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("mask", sa.LargeBinary),  # PNG of the defect's area, if it was painted
)
sa.Index("of_picture", reviews.c.picture, reviews.c.who, reviews.c.id)


def last_of(picture: int) -> sa.Select[tuple[int]]:
    """Ids of what each person said last of a picture."""
    return sa.select(sa.func.max(reviews.c.id)).where(reviews.c.picture == picture).group_by(reviews.c.who)


def note_label(db: sa.Connection, picture: int) -> None:
    """Note on a picture what most people say of it: DISPUTED, if as many say the other."""
    said = sa.select(reviews.c.label).where(reviews.c.id.in_(last_of(picture)), reviews.c.label != CANNOT_TELL)
    labels = list(db.scalars(said))
    excess = labels.count(GOOD) - labels.count(DEFECTIVE)
    label = GOOD if excess > 0 else DEFECTIVE if excess < 0 else DISPUTED if labels else None
    db.execute(sa.update(pictures).where(pictures.c.id == picture).values(label=label))


events = sa.Table(
    "events",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("station", sa.Text, nullable=False),  # that noted it
    sa.Column("line", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),  # of the last verdict before it
    _json("facts", nullable=False),
)

sinks = sa.Table(
    "sinks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),  # of the last verdict that was delivered
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False, unique=True),
    sa.Column("at", sa.Double, nullable=False),
)


def open_database(place: Path | str) -> sa.Engine:
    """An engine for the file of SQLite, or the address of PostgreSQL; nothing is asked of it yet."""
    options: dict[str, Any] = {"hide_parameters": True, "pool_timeout": LOCK_SECONDS, "max_overflow": 15}
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        # no transaction but those of BEGIN_WRITE
        how: dict[str, object] = {"timeout": LOCK_SECONDS, "isolation_level": None}
        engine = sa.create_engine(f"sqlite:///{place}", connect_args=how, **options)
        sa.event.listen(engine, "connect", _set_up)
        return engine
    milliseconds = int(1000 * LOCK_SECONDS)
    limits = f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={2 * milliseconds}"
    # a station without power or cable leaves its locks
    limits += " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4"
    how = {"options": limits, "connect_timeout": 10, "application_name": "ndpnet station"}
    # a server that is cut off is away, too: else a query would wait for it a quarter of an hour, or for ever
    how |= {"tcp_user_timeout": milliseconds, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
    url = sa.make_url(place).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, connect_args=how, pool_pre_ping=True, **options)
    sa.event.listen(engine, "do_connect", _connect_in_time)
    return engine


def _connect_in_time(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """Connect so that every wait has an end: a server may be frozen or cut off, and libpq has no option for it."""
    from psycopg import Connection, OperationalError

    class LimitedConnection(Connection[Any]):
        def wait(self, *arguments: Any, **options: Any) -> Any:
            try:
                return super().wait(*arguments, **options | {"timeout": ANSWER_SECONDS})
            except OperationalError as error:
                if error.sqlstate is None:  # not the server says so: it does not answer, or is gone
                    self.close()
                raise

    return LimitedConnection.connect(*arguments, **options)


def _set_up(connection: sqlite3.Connection, record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what was answered outlives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def make_tables(db: sa.Connection) -> None:
    """Make what is not there yet. ValueError: there are tables of another version of ndpnet."""
    metadata.create_all(db)
    for table in metadata.sorted_tables:
        if {column["name"] for column in sa.inspect(db).get_columns(table.name)} != set(table.columns.keys()):
            reason = f"the table {table.name} of {db.engine.url} is that of another version of ndpnet"
            raise ValueError(f"{reason} (choose another folder for the station, or another database)")
