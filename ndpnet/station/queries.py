"""What the page asks of the journal."""

import time
from collections.abc import Callable, Sequence
from operator import eq, ge, le, lt
from typing import Any

import numpy as np
import sqlalchemy as sa

from ndpnet.metrics.threshold import fit_review
from ndpnet.station.journal import Journal, is_waiting
from ndpnet.station.models import Calibration
from ndpnet.station.tables import MODEL, events, pictures, reviews
from ndpnet.station.values import finite, moment

SHIFT_SECONDS, NUM_BINS, BIN_SECONDS = 8 * 3600, 60, 60
PAGE_SIZE = 24
VERDICTS = ("good", "review", "defective", "error")
REVIEW_RATES = (0.01, 0.02, 0.05, 0.1)
MAX_SCORES = 20_000  # of the last pictures, for What if
IS_JUDGED = pictures.c.seq.is_not(None)
Compared = tuple[Callable[[Any, Any], sa.ColumnElement[bool]], sa.Column[Any], Callable[[str], str | float]]
FILTERS: dict[str, Compared] = {  # how a picture is compared with what a person typed
    "line": (eq, pictures.c.line, str),
    "verdict": (eq, pictures.c.verdict, str),
    "label": (eq, pictures.c.label, str),
    "model": (eq, pictures.c.model, str),
    "engine": (eq, pictures.c.engine, str),
    "min_score": (ge, pictures.c.score, finite),
    "max_score": (le, pictures.c.score, finite),
    "after": (ge, pictures.c.judged_at, moment),
    "before": (lt, pictures.c.judged_at, moment),
    "min_area": (ge, pictures.c.largest_area, finite),
    "below_seq": (lt, pictures.c.seq, finite),
}


def search(journal: Journal, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """Judged pictures that pass all filters, last first; one page, and one more if there is a next one.

    ValueError: a filter is no number or time.
    """
    judged = sa.select(pictures).where(IS_JUDGED)
    for name, value in filters.items():
        compare, column, parse = FILTERS[name]
        judged = judged.where(compare(column, parse(value)))
    return journal.rows(judged.order_by(pictures.c.seq.desc()).limit(PAGE_SIZE + 1))


def last_judged(journal: Journal, line: str | None = None) -> dict[str, Any] | None:
    """The picture of this station, or of one of its lines, that was judged last."""
    mine = sa.select(pictures).where(IS_JUDGED, journal.is_mine, _of_line(line))
    return journal.first(mine.order_by(pictures.c.seq.desc()).limit(1))


def neighbours(journal: Journal, seq: int) -> dict[str, int | None]:
    """Ids of the pictures that were judged before and after a place in the order of verdicts."""
    before = sa.select(pictures.c.id).where(pictures.c.seq < seq).order_by(pictures.c.seq.desc()).limit(1)
    after = sa.select(pictures.c.id).where(pictures.c.seq > seq).order_by(pictures.c.seq).limit(1)
    return {"previous": journal.value(before), "next": journal.value(after)}


def facts_of(journal: Journal, picture: dict[str, Any]) -> dict[str, Any]:
    """What is known of the model that judged a picture, as its station noted it."""
    is_its = events.c.kind == MODEL, events.c.station == picture["station"], events.c.line == picture["line"]
    used = {"hash": picture["model"], "engine": picture["engine"]}
    has_facts = [events.c.facts[name].as_string() == value for name, value in used.items()]
    return journal.value(sa.select(events.c.facts).where(*is_its, *has_facts).order_by(events.c.id.desc())) or {}


def last_events(journal: Journal, number: int, **of: str) -> list[dict[str, Any]]:
    """Events, last first; of: a line, a kind."""
    conditions = [events.c[name] == value for name, value in of.items()]
    return journal.rows(sa.select(events).where(*conditions).order_by(events.c.id.desc()).limit(number))


def _of_line(line: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if line is None else pictures.c.line == line


def num_bytes_stored(journal: Journal) -> int:
    """Of this station's pictures."""
    total = sa.func.coalesce(sa.func.sum(pictures.c.num_bytes), 0)
    return int(journal.value(sa.select(total).where(pictures.c.file.is_not(None), journal.is_mine)))


def counts(journal: Journal, line: str | None = None) -> dict[str, int]:
    """How many pictures, of all lines or of one, had which verdict lately."""
    now = time.time()
    numbers = [sa.func.count().filter(pictures.c.verdict == verdict).label(verdict) for verdict in VERDICTS]
    lately = pictures.c.judged_at.between(now - SHIFT_SECONDS, now)  # not what a clock that ran ahead has left
    return journal.rows(sa.select(*numbers).where(lately, _of_line(line)))[0]  # in one pass over an index


def history_bars(journal: Journal, line: str | None = None) -> list[dict[str, int]]:
    """Pictures per minute of the last hour, oldest first: {total, bad}."""
    first = int(time.time() // BIN_SECONDS - NUM_BINS + 1)
    minute = (sa.cast(pictures.c.judged_at, sa.BigInteger) // BIN_SECONDS).label("minute")
    bad = sa.func.count().filter(pictures.c.verdict == "defective")
    lately = sa.select(minute, sa.func.count().label("total"), bad.label("bad"))
    rows = journal.rows(lately.where(pictures.c.judged_at >= first * BIN_SECONDS, _of_line(line)).group_by(minute))
    found = {row.pop("minute") - first: row for row in rows}
    return [found.get(place, {"total": 0, "bad": 0}) for place in range(NUM_BINS)]


def num_to_review(journal: Journal, verdicts: tuple[str, ...]) -> int:
    """How many pictures wait for a person."""
    return journal.value(sa.select(sa.func.count()).where(*_to_review(journal, verdicts)))


def next_to_review(journal: Journal, verdicts: tuple[str, ...], who: str) -> dict[str, Any] | None:
    """The picture that this person should look at next: one nobody has judged before one that is disputed."""
    is_new = ~sa.exists().where(reviews.c.picture == pictures.c.id, reviews.c.who == who)
    waiting = sa.select(pictures).where(*_to_review(journal, verdicts), is_new)
    return journal.first(waiting.order_by(pictures.c.label.is_not(None), pictures.c.seq.desc()).limit(1))


def _to_review(journal: Journal, verdicts: tuple[str, ...]) -> tuple[sa.ColumnElement[bool], ...]:
    return is_waiting(verdicts), pictures.c.file.is_not(None), journal.is_readable


def scores(journal: Journal, line: str, model: str, engine: str) -> list[dict[str, Any]]:
    """Scores of a line's last pictures by one model and engine, with what people agree on; None: nothing yet."""
    agreed = sa.case((pictures.c.label.in_(("good", "defective")), pictures.c.label)).label("label")
    judged = sa.select(pictures.c.score, agreed).where(IS_JUDGED, pictures.c.score.is_not(None))
    judged = judged.where(pictures.c.line == line, pictures.c.model == model, pictures.c.engine == engine)
    return journal.rows(judged.order_by(pictures.c.seq.desc()).limit(MAX_SCORES))


def scores_after(journal: Journal, line: str, seq: int) -> list[dict[str, Any]]:
    """What this station's watch over a line sees: scores and properties after a place in the order of verdicts."""
    columns = pictures.c.id, pictures.c.score, pictures.c.properties
    judged_here = sa.select(*columns).where(pictures.c.line == line, journal.is_mine, pictures.c.verdict != "error")
    return journal.rows(judged_here.where(pictures.c.seq > seq).order_by(pictures.c.seq))


def what_if(
    rows: list[dict[str, Any]], threshold: float, review_from: float | None, waiting: Sequence[str]
) -> dict[str, Any]:
    """What would have followed of a threshold: counts over `scores`' rows, and of which others: all, or reviewed ones.

    waiting: the verdicts that people look at.
    """
    above = [row for row in rows if row["score"] > threshold]
    num_review = 0 if review_from is None else sum(review_from < row["score"] <= threshold for row in rows)
    num_to_people = len(above) * ("defective" in waiting) + num_review * ("review" in waiting)
    by_label = {
        label: (sum(row["label"] == label for row in above), sum(row["label"] == label for row in rows))
        for label in ("good", "defective")
    }
    return {
        "called_defective": (len(above), len(rows)),
        "to_people": (num_to_people, len(rows)),
        "false_alarms": by_label["good"],
        "defects_found": by_label["defective"],
    }


def review_loads(rows: list[dict[str, Any]], calibration: Calibration, record: dict[str, Any]) -> list[dict[str, Any]]:
    """What three verdicts would send to people, of `scores`' rows; record: of the model's own threshold."""
    known, target = (np.array(calibration.scores), calibration.groups), record["target_rate"]
    rates = [rate for rate in REVIEW_RATES if rate + target < 1]
    bounds = [fit_review(*known, target_rate=target, review_rate=rate) for rate in rates]
    return [
        bound | {"num_review": sum(bound["value"] < row["score"] <= record["value"] for row in rows)}
        for bound in bounds
    ]


def daily_pictures(journal: Journal, line: str) -> float:
    """Pictures of a line a day, at the pace of the last 24 hours."""
    is_its, now = pictures.c.line == line, time.time()  # no condition of the query: it is to go by time alone
    columns = sa.func.min(pictures.c.judged_at).filter(is_its), sa.func.count().filter(is_its)
    first, number = journal.rows(sa.select(*columns).where(pictures.c.judged_at.between(now - 86400, now)))[0].values()
    return 0.0 if not number else number * 86400 / max(now - first, 600.0)
