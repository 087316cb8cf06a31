"""The journal: a picture has one row, and the row one verdict."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from stations import accept

from ndpnet.station.config import StoreConfig
from ndpnet.station.journal import MAX_CRASHES, Journal, JournalError, Judgement
from ndpnet.station.queries import counts, daily_pictures, next_to_review, num_to_review, scores, search, what_if
from ndpnet.station.store import Store, retain

KINDS = ("review", "defective")


@pytest.fixture(params=["sqlite", "postgresql"])
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Journal:
    is_file = request.param == "sqlite"
    return Journal(tmp_path / "journal.sqlite" if is_file else request.getfixturevalue("journal_url"))


def judged(journal, key, verdict="good", score=0.1):
    picture_id, _ = accept(journal, key)
    journal.finish(picture_id, Judgement(verdict, score=score, threshold=0.5))
    return picture_id


def test_a_picture_enters_once_and_keeps_its_first_verdict(journal):
    picture_id, is_new = accept(journal, "a")
    assert is_new
    assert accept(journal, "a") == (picture_id, False)
    assert journal.finish(picture_id, Judgement("good", score=0.1)) == (1, None)
    assert journal.finish(picture_id, Judgement("defective", score=0.9)) is None
    assert journal.picture(picture_id)["verdict"] == "good"


def test_many_threads_that_bring_the_same_picture_make_one_row(journal):
    with ThreadPoolExecutor(12) as threads:
        results = list(threads.map(lambda _: accept(journal, "same"), range(12)))
    assert sum(is_new for _, is_new in results) == 1
    assert len({picture_id for picture_id, _ in results}) == 1


@pytest.mark.parametrize("verdict", ["good", "defective", "review"])
def test_a_score_that_is_no_number_is_never_good_nor_defective(journal, verdict):
    picture_id, _ = accept(journal, "a")
    with pytest.raises(IntegrityError):
        journal.finish(picture_id, Judgement(verdict, score=float("nan"), threshold=0.5))
    assert journal.picture(picture_id)["verdict"] is None
    assert journal.finish(picture_id, Judgement("error", error="the score is no number")) == (1, None)


def test_a_picture_at_whose_turn_the_station_always_ends_gets_an_error(journal):
    fatal, _ = accept(journal, "fatal")
    accept(journal, "next")
    for _ in range(MAX_CRASHES):
        assert journal.picture(fatal)["verdict"] is None
        journal.count_crash(["wall"])
    assert journal.picture(fatal)["verdict"] == "error"
    assert journal.next_pictures(["wall"])[0]["name"] == "next.png"


def test_what_waits_for_a_line_that_is_gone_gets_an_error_and_takes_no_place(journal):
    ours, _ = accept(journal, "ours")
    other, _ = accept(journal, "other", "roof")
    journal.refuse_other_lines(["wall"])
    assert journal.num_waiting() == 1
    assert journal.picture(ours)["verdict"] is None
    told = journal.picture(other)
    assert (told["verdict"], told["error"]) == ("error", "the line roof is no longer in the station's file")


def test_the_order_of_verdicts_has_no_gap_and_does_not_follow_the_clock(journal, monkeypatch):
    for number in range(4):
        monkeypatch.setattr(time, "time", lambda number=number: 1e9 - number)  # a clock that is set back
        judged(journal, str(number))
    assert [row["seq"] for row in journal.rows(text("SELECT seq FROM pictures ORDER BY id"))] == [1, 2, 3, 4]


def test_people_who_disagree_make_a_picture_disputed_until_most_say_the_same(journal):
    picture_id = judged(journal, "a", "defective", 0.9)
    journal.review(picture_id, "cannot tell", "Ann")  # leaves it to others
    assert (num_to_review(journal, KINDS), journal.picture(picture_id)["label"]) == (1, None)
    journal.review(picture_id, "good", "Ann")
    assert journal.picture(picture_id)["label"] == "good"
    assert num_to_review(journal, KINDS) == 0
    journal.review(picture_id, "defective", "Bob")
    assert journal.picture(picture_id)["label"] == "disputed"
    assert num_to_review(journal, KINDS) == 1
    assert next_to_review(journal, KINDS, "Ann") is None
    journal.review(picture_id, "defective", "Ann")
    assert journal.picture(picture_id)["label"] == "defective"
    said = [("Ann", "cannot tell"), ("Ann", "good"), ("Bob", "defective"), ("Ann", "defective")]
    assert [(each["who"], each["label"]) for each in journal.opinions(picture_id)] == said
    for who, label in (("Cid", "defective"), ("Dan", "disputed"), ("Eve", "good")):
        journal.review(picture_id, "good", who)
        assert journal.picture(picture_id)["label"] == label


def test_what_nobody_agrees_on_counts_as_unknown(journal):
    for key, labels in {"a": ["good"], "b": ["defective"], "c": ["good", "defective"], "d": []}.items():
        picture_id, _ = accept(journal, key)
        journal.finish(picture_id, Judgement("good", score=0.1, threshold=0.5, model="m", engine="torch"))
        for number, label in enumerate(labels):
            journal.review(picture_id, label, f"person {number}")
    rows = scores(journal, "wall", "m", "torch")
    assert [row["label"] for row in rows] == [None, None, "defective", "good"]
    follows = what_if(rows, 0.05, None, ("review", "defective"))
    assert follows["false_alarms"] == (1, 1)
    assert follows["defects_found"] == (1, 1)


@pytest.mark.parametrize(
    ("review_from", "waiting", "num_to_people"),
    [
        (None, ("review", "defective"), 2),
        (0.25, ("review", "defective"), 4),
        (0.25, ("review", "error"), 2),
        (0.25, ("defective",), 2),
        (0.45, ("review", "defective"), 2),  # above the threshold that is tried: nothing is left for it
        (0.25, (), 0),
    ],
)
def test_what_another_threshold_would_send_to_people_is_counted_by_the_verdicts_that_wait(
    review_from, waiting, num_to_people
):
    rows = [{"score": score / 10, "label": None} for score in range(1, 7)]
    follows = what_if(rows, 0.4, review_from, waiting)
    assert (follows["called_defective"], follows["to_people"]) == ((2, 6), (num_to_people, 6))


def test_scores_are_those_of_one_model_and_engine(journal):
    for score, (model, engine) in enumerate((("m", "torch"), ("m", "onnx"), ("n", "torch"), ("m", "torch")), start=1):
        judgement = Judgement("good", score=score, threshold=9.0, model=model, engine=engine)
        journal.finish(accept(journal, str(score))[0], judgement)
    assert [row["score"] for row in scores(journal, "wall", "m", "torch")] == [4, 1]
    assert [row["score"] for row in scores(journal, "wall", "n", "torch")] == [3]
    assert [row["score"] for row in search(journal, {"model": "m", "engine": "onnx"})] == [2]


@pytest.mark.parametrize(("label", "who"), [("fine", "Ann"), ("good", " "), ("good", "A\nB"), ("good", "x" * 81)])
def test_a_review_has_a_known_label_a_name_and_a_verdict(journal, label, who):
    judged_id, waiting_id = judged(journal, "a"), accept(journal, "b")[0]
    with pytest.raises(ValueError, match=r"label|name"):
        journal.review(judged_id, label, who)
    with pytest.raises(ValueError, match="no judged picture"):
        journal.review(waiting_id, "good", "Ann")


def test_history_is_filtered_by_score_region_and_label(journal):
    for number, score in enumerate((0.2, 0.6, 0.8)):
        picture_id, _ = accept(journal, str(number))
        regions = [{"area": 10 * number}]
        verdict = "good" if score < 0.5 else "defective"
        journal.finish(picture_id, Judgement(verdict, score=score, threshold=0.5, regions=regions))
    journal.review(3, "good", "Ann")

    def ids(**filters):
        return [row["id"] for row in search(journal, filters)]

    assert ids() == [3, 2, 1]
    assert ids(min_score=0.5, max_score=0.7) == [2]
    assert ids(min_area=15) == [3]
    assert ids(label="good") == [3]
    assert ids(verdict="defective", below_seq=3) == [2]


def test_the_shift_is_counted_by_verdict_and_the_day_by_line(journal):
    assert counts(journal) == dict.fromkeys(("good", "review", "defective", "error"), 0)
    for key, verdict in enumerate(("defective", "good", "good", "defective", "good")):
        judged(journal, str(key), verdict)
    assert daily_pictures(journal, "wall") == 5 * 144.0  # as if it were those of ten minutes
    with journal.write() as db:
        db.execute(text("UPDATE pictures SET judged_at = judged_at - 9 * 3600 WHERE seq IN (1, 3)"))  # before it
    accept(journal, "waits")
    judged(journal, "ahead")
    with journal.write() as db:
        db.execute(text("UPDATE pictures SET judged_at = judged_at + 86400 WHERE seq = 6"))  # a clock that ran ahead
    assert counts(journal) == {"good": 2, "review": 0, "defective": 1, "error": 0}
    assert daily_pictures(journal, "wall") == pytest.approx(5 / (9 / 24), rel=0.01)  # in the last nine hours
    assert daily_pictures(journal, "roof") == 0.0


def fill(journal, store, num, verdict="good"):
    for number in range(num):
        file, _ = store.add(bytes(1000), "wall", ".png")
        picture_id, _ = accept(journal, f"{verdict} {number}", file=file)
        journal.finish(picture_id, Judgement(verdict, score=0.1, map_bytes=500))


def keeping(*, days=30, gigabytes=1):
    return StoreConfig(url=None, maps="none", keep_days=days, keep_gigabytes=gigabytes)


def stored(store):
    return [path for path in (store.folder / "pictures").rglob("*.png")]


def test_retention_by_bytes_takes_the_oldest_and_never_what_waits_for_review(journal, tmp_path):
    store = Store(tmp_path)
    fill(journal, store, 3, "defective")
    fill(journal, store, 10)
    assert retain(journal, store, keeping(gigabytes=7500 / 1e9), KINDS) == 8  # of five and their maps
    rows = journal.rows(text("SELECT verdict, file FROM pictures ORDER BY id"))
    assert [row["verdict"] for row in rows if row["file"]] == ["defective"] * 3 + ["good"] * 2
    assert len(stored(store)) == 5
    # what was asked for cannot be had: everything left waits for a person
    assert retain(journal, store, keeping(gigabytes=1e-9), KINDS) == 2
    assert len(stored(store)) == 3
    journal.review(1, "good", "Ann")
    assert retain(journal, store, keeping(gigabytes=1e-9), KINDS) == 1
    # a picture that is not stored any more waits for nobody
    assert retain(journal, store, keeping(gigabytes=1e-9), ("review",)) == 2
    assert (num_to_review(journal, KINDS), next_to_review(journal, KINDS, "Bob")) == (0, None)


def test_retention_by_days_looks_at_the_age(journal, tmp_path):
    store = Store(tmp_path)
    fill(journal, store, 4)
    with journal.write() as db:
        db.execute(text("UPDATE pictures SET judged_at = judged_at - 3 * 86400 WHERE id IN (2, 3)"))
        db.execute(text("UPDATE pictures SET judged_at = judged_at + 400 * 86400 WHERE id = 1"))  # a clock set wrong
    assert retain(journal, store, keeping(days=2), KINDS) == 2
    assert len(stored(store)) == 2


def test_a_damaged_journal_is_said_in_one_line(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    with pytest.raises(JournalError, match=r"the journal cannot be used: file is not a database"):
        Journal(tmp_path / "journal.sqlite")


def test_files_that_a_killed_station_did_not_enter_are_removed(journal, tmp_path):
    store = Store(tmp_path)
    fill(journal, store, 1)
    store.add(b"of a killed one", "wall", ".png")
    assert store.remove_unknown(journal) == 1
    assert len(stored(store)) == 1
