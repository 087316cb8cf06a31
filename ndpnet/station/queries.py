"""What the page asks of the journal."""

import time
from typing import Any

import numpy as np

from ndpnet.metrics.threshold import fit_review
from ndpnet.station.journal import Journal, is_waiting
from ndpnet.station.models import Calibration

SHIFT_SECONDS, NUM_BINS, BIN_SECONDS = 8 * 3600, 60, 60
PAGE_SIZE = 24
REVIEW_RATES = (0.01, 0.02, 0.05, 0.1)
MAX_SCORES = 20_000  # of the last pictures, for What if
PICTURES = "FROM pictures p LEFT JOIN labels l ON l.picture = p.id"
FILTERS = {
    "line": "p.line = ?",
    "verdict": "p.verdict = ?",
    "label": "l.label = ?",
    "min_score": "p.score >= ?",
    "max_score": "p.score <= ?",
    "after": "p.judged_at >= ?",
    "before": "p.judged_at < ?",
    "min_area": "EXISTS (SELECT 1 FROM json_each(p.regions) r WHERE json_extract(r.value, '$.area') >= ?)",
    "below_seq": "p.seq < ?",
}


def search(journal: Journal, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """Judged pictures that pass all filters, last first; one page, and one more if there is a next one."""
    where = " AND ".join(["p.seq IS NOT NULL", *(FILTERS[name] for name in filters)])
    query = f"SELECT p.*, l.label {PICTURES} WHERE {where} ORDER BY p.seq DESC LIMIT {PAGE_SIZE + 1}"
    return journal.rows(query, *filters.values())


def counts(journal: Journal, *, seconds: float = SHIFT_SECONDS) -> dict[str, int]:
    """How many pictures had which verdict lately."""
    query = "SELECT verdict, count(*) AS number FROM pictures WHERE judged_at >= ? GROUP BY verdict"
    found = {row["verdict"]: row["number"] for row in journal.rows(query, time.time() - seconds)}
    return {verdict: found.get(verdict, 0) for verdict in ("good", "review", "defective", "error")}


def history_bars(journal: Journal) -> list[dict[str, int]]:
    """Pictures per minute of the last hour, oldest first: {total, bad}."""
    first = (time.time() // BIN_SECONDS - NUM_BINS + 1) * BIN_SECONDS
    query = (
        "SELECT CAST((judged_at - ?) / ? AS INTEGER) AS bin, count(*) AS total, sum(verdict = 'defective') AS bad "
        "FROM pictures WHERE judged_at >= ? GROUP BY bin"
    )
    found = {row["bin"]: row for row in journal.rows(query, first, BIN_SECONDS, first)}
    return [
        {name: found[place][name] if place in found else 0 for name in ("total", "bad")} for place in range(NUM_BINS)
    ]


def num_to_review(journal: Journal, verdicts: tuple[str, ...]) -> int:
    """How many pictures wait for a person."""
    return journal.value(f"SELECT count(*) {PICTURES} WHERE p.seq IS NOT NULL AND {is_waiting(verdicts)}")


def next_to_review(journal: Journal, verdicts: tuple[str, ...], who: str) -> dict[str, Any] | None:
    """The picture that this person should look at next: one nobody has judged before one that is disputed."""
    query = (
        f"SELECT p.*, l.label {PICTURES} WHERE p.seq IS NOT NULL AND p.file IS NOT NULL AND {is_waiting(verdicts)} "
        "AND p.id NOT IN (SELECT picture FROM reviews WHERE who = ?) ORDER BY l.label IS NOT NULL, p.seq DESC LIMIT 1"
    )
    rows = journal.rows(query, who)
    return rows[0] if rows else None


def scores(journal: Journal, line: str, model: str) -> list[dict[str, Any]]:
    """Scores of a line's last pictures by one model, with what people said of them."""
    query = f"SELECT p.score, l.label {PICTURES} WHERE p.line = ? AND p.model = ? AND p.score IS NOT NULL"
    return journal.rows(f"{query} ORDER BY p.seq DESC LIMIT {MAX_SCORES}", line, model)


def what_if(rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """What would have followed of a threshold: counts over `scores`' rows."""
    above = [row for row in rows if row["score"] > threshold]
    by_label = {
        label: (sum(row["label"] == label for row in above), sum(row["label"] == label for row in rows))
        for label in ("good", "defective")
    }
    unknown = [row for row in rows if row["label"] is None]
    return {
        "num_pictures": len(rows),
        "num_defective": len(above),
        "false_alarms": by_label["good"],
        "defects_found": by_label["defective"],
        "unreviewed": (sum(row["score"] > threshold for row in unknown), len(unknown)),
    }


def review_loads(rows: list[dict[str, Any]], calibration: Calibration, record: dict[str, Any]) -> list[dict[str, Any]]:
    """What three verdicts would send to people, of `scores`' rows; record: of the model's own threshold."""
    if not calibration.scores:
        return []
    known, target = (np.array(calibration.scores), calibration.groups), record["target_rate"]
    rates = [rate for rate in REVIEW_RATES if rate + target < 1]
    bounds = [fit_review(*known, target_rate=target, review_rate=rate) for rate in rates]
    return [
        bound | {"num_review": sum(bound["value"] < row["score"] <= record["value"] for row in rows)}
        for bound in bounds
    ]


def daily_pictures(journal: Journal) -> float:
    """Pictures a day, at the pace of the last 24 hours."""
    first, number = journal.rows(
        "SELECT min(judged_at) AS first, count(*) AS number FROM pictures WHERE judged_at >= ?", time.time() - 86400
    )[0].values()
    return 0.0 if not number else number * 86400 / max(time.time() - first, 600.0)
