"""Several stations that write to one journal in PostgreSQL, and a journal of another version."""

import os
import signal
import sqlite3

import pytest
from proxy import Proxy
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from stations import accept, config_of, delivered, get, intake_of, picture, post, put, served, start_station, wait_until

from ndpnet.station import queries, tables
from ndpnet.station.journal import LAST_SEQ, Journal, JournalError, Judgement
from ndpnet.station.store import Store, retain


def test_a_journal_of_another_version_is_refused_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("CREATE TABLE reviews (id INTEGER PRIMARY KEY, picture INTEGER, label TEXT)")
    said = r"the table reviews of sqlite:////.*journal\.sqlite is that of another version of ndpnet \(choose another"
    with pytest.raises(ValueError, match=said):
        Journal(tmp_path / "journal.sqlite")
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["reviews"]


def test_a_station_judges_removes_and_counts_its_own_pictures_and_shows_those_of_all(journal_url, tmp_path):
    press, oven = (Journal(journal_url, station=name, has_all_files=False) for name in ("press", "oven"))
    picture_id, _ = accept(press, "a")
    assert (press.num_waiting(), oven.num_waiting()) == (1, 0)
    assert oven.next_pictures(["wall"]) == []
    assert accept(oven, "a") == (picture_id, False)
    press.finish(picture_id, Judgement("defective", score=0.9))
    assert [row["id"] for row in queries.search(oven, {})] == [picture_id]
    kinds = ("defective",)
    assert (queries.num_to_review(press, kinds), queries.num_to_review(oven, kinds)) == (1, 0)  # oven has no such file
    press.review(picture_id, "good", "Ann")
    settings = config_of(tmp_path, tmp_path, store={"keep_gigabytes": 1e-9}).store
    assert retain(oven, Store(tmp_path), settings, kinds) == 0
    assert retain(press, Store(tmp_path), settings, kinds) == 1


def test_a_line_of_one_name_at_two_stations_has_its_own_model_and_watch_and_the_thresholds_of_both(journal_url):
    press, oven = (Journal(journal_url, station=name) for name in ("press", "oven"))
    for number, journal in enumerate((press, oven)):
        used = {"hash": f"model of {journal.station}", "engine": "torch-fp32", "version": number}
        journal.note("model", used, line="wall")
        judgement = Judgement("good", score=number, model=used["hash"], engine=used["engine"])
        journal.finish(accept(journal, journal.station)[0], judgement)
    for number, journal in enumerate((press, oven)):
        assert journal.last_event("wall", "model")["facts"]["version"] == number
        assert [row["score"] for row in queries.scores_after(journal, "wall", 0)] == [number]
        assert queries.facts_of(press, journal.picture(number + 1))["version"] == number
    facts = {"value": 0.4, "model": "model of press", "engine": "torch-fp32"}
    press.note("threshold", facts, line="wall", who="Ann")
    assert oven.last_event("wall", "threshold", model="model of press")["facts"] == facts
    assert oven.last_event("wall", "threshold", model="model of oven") is None


def test_two_stations_of_one_name_do_not_share_a_journal(journal_url):
    press, again, oven = (Journal(journal_url, station=name) for name in ("press", "press", "oven"))
    said = r"^another station press writes to this journal \(give each its own"
    with press.alone(), oven.alone(), pytest.raises(ValueError, match=said), again.alone():
        pass
    with again.alone():  # it is free once the first has ended
        pass


def test_a_server_that_is_frozen_is_away_and_goes_on_when_it_thaws(journal_url, monkeypatch):
    monkeypatch.setattr(tables, "ANSWER_SECONDS", 0.5)
    journal = Journal(journal_url, station="press")
    with journal._engine.connect() as db:
        process = db.scalar(text("SELECT pg_backend_pid()"))
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(OperationalError, match="timeout expired"):
                db.scalar(LAST_SEQ)
        finally:
            os.kill(process, signal.SIGCONT)
    assert accept(journal, "a")[1]


def test_a_picture_whose_entry_the_server_did_not_confirm_keeps_its_file(journal_url, tmp_path, postgres):
    with Proxy(f"127.0.0.1:{postgres.port}") as proxy:
        address = journal_url.replace(str(postgres.port), proxy.url.rpartition(":")[2])
        intake = intake_of(config_of(tmp_path, tmp_path, journal=address, name="press"))
        journal = intake.journal

        def cut_the_answer(_) -> None:
            proxy.at(proxy.num_bytes + 1, proxy.cut)

        event.listen(journal._engine, "commit", cut_the_answer, once=True)
        with pytest.raises(JournalError):
            intake.take("wall", "a.png", "a", picture(0))
        again = intake.take("wall", "a.png", "a", picture(0))
        assert intake.store.read(journal.picture(again)["file"]) == picture(0)


def test_a_journal_that_does_not_answer_is_one_line_without_the_password(postgres):
    address = f"postgresql://mlflow:wrong-secret@127.0.0.1:{postgres.port}/postgres"
    with pytest.raises(JournalError, match="password authentication failed") as caught:
        Journal(address)
    assert "wrong-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_while_the_database_is_away_nothing_is_taken_and_then_everything(pipeline, tmp_path, postgres, journal_url):
    config = config_of(tmp_path, pipeline.model_dir, journal=journal_url, name="press")
    with served(config) as (station, url):
        assert post(url, picture(0)).status_code == 200
        postgres.kill()
        try:
            refused = post(url, picture(1))
            assert (refused.status_code, int(refused.headers["Retry-After"])) == (503, 10)
            assert get(f"{url}/history").status_code == 503
            assert get(f"{url}/healthz").status_code == 200  # a restart would mend nothing
            put(config.lines[0].source / "part.png", picture(2))
            wait_until(lambda: "folder wall" in station.problems and "judge" in station.problems)
            assert "journal cannot be used" in station.problems["judge"]
            assert postgres.password not in str(station.problems)
        finally:
            postgres.start()
        wait_until(lambda: not {"folder wall", "judge"} & set(station.problems))
        wait_until(lambda: station.journal.value(text("SELECT count(*) FROM pictures WHERE seq IS NOT NULL")) == 2)
        assert post(url, picture(1)).status_code == 200
        assert station.dead_threads() == []


@pytest.mark.slow
def test_two_stations_with_one_folder_killed_at_any_time_judge_every_picture_once(pipeline, tmp_path, journal_url):
    num_pictures, journal = 40, Journal(journal_url, station="nobody")
    for number in range(num_pictures):
        put(tmp_path / f"in/part{number:02}.png", picture(number))

    def start(name: str):
        server = {"port": 0, "max_waiting": 4}
        return start_station(tmp_path, pipeline.model_dir, name, name=name, journal=journal_url, server=server)

    def num_judged() -> int:
        return journal.value(text("SELECT count(*) FROM pictures WHERE seq IS NOT NULL"))

    running = {name: start(name) for name in ("press", "oven")}
    try:
        for number, name in enumerate(("press", "oven", "press", "oven")):
            wait_until(lambda number=number: num_judged() >= 6 * (number + 1), seconds=120)
            running[name].kill()
            running[name].join()
            running[name] = start(name)
        wait_until(lambda: num_judged() == num_pictures, seconds=120)
        files, in_order = [tmp_path / f"{name}.jsonl" for name in running], list(range(1, num_pictures + 1))
        wait_until(lambda: sorted(seq for path in files for seq in delivered(path)) == in_order)
    finally:
        for process in running.values():
            process.kill()
            process.join()
    rows = journal.rows(text("SELECT name, station, file FROM pictures"))
    assert sorted(row["name"] for row in rows) == [f"part{number:02}.png" for number in range(num_pictures)]
    assert {row["station"] for row in rows} == {"press", "oven"}
    assert all((tmp_path / row["station"] / row["file"]).exists() for row in rows)
