"""What a station does when it is killed, its disk is full, its journal is locked or its pictures are damaged."""

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from stations import config_of, delivered, get, picture, post, put, served, start_station, wait_until

from ndpnet.inference.inspector import Inspector

NUM_KILLS = int(os.environ.get("NDPNET_TEST_KILLS", "10"))


def query(path: Path, text: str) -> list[tuple]:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as db:
            return db.execute(text).fetchall()
    except sqlite3.OperationalError:  # not there yet
        return []


@pytest.mark.slow
@pytest.mark.timeout(60 * NUM_KILLS)
def test_killed_at_random_moments_it_loses_no_picture_and_judges_none_twice(pipeline, tmp_path):
    draw, journal, contents = random.Random(18), tmp_path / "station/journal.sqlite", {}
    for number in range(6 * NUM_KILLS):
        name = f"{number % 3}/part{number:03}.png"
        contents[name] = picture(number)[: 150 if number % 10 == 9 else None]  # every tenth is damaged
        put(tmp_path / "in" / name, contents[name])

    def num_judged() -> int:
        return (query(journal, "SELECT count(*) FROM pictures WHERE seq IS NOT NULL") or [(0,)])[0][0]

    def run_until(condition: Callable[[], bool], *, pause: float = 0.0) -> None:
        process = start_station(tmp_path, pipeline.model_dir, server={"port": 0, "max_waiting": 8})
        try:
            wait_until(condition)
            time.sleep(pause)
            assert process.is_alive()
        finally:
            process.kill()
            process.join()

    for _ in range(NUM_KILLS):
        goal = min(num_judged() + draw.randrange(0, 5), len(contents))  # a fast machine may be done
        run_until(lambda goal=goal: num_judged() >= goal, pause=draw.random() * 0.1)
    in_order = list(range(1, len(contents) + 1))
    run_until(lambda: len(delivered(tmp_path / "station.jsonl")) >= len(in_order))
    rows = query(journal, "SELECT name, seq, verdict, score, file FROM pictures")
    assert sorted(row[0] for row in rows) == sorted(contents)
    assert sorted(row[1] for row in rows) == delivered(tmp_path / "station.jsonl") == in_order
    inspector = Inspector.load(pipeline.model_dir)
    for name, _, verdict, score, file in rows:
        content = contents[name]
        assert (tmp_path / "station" / file).read_bytes() == (tmp_path / "done" / name).read_bytes() == content
        if len(content) > 150:
            assert score == inspector.inspect(content).score
        else:
            assert (verdict, score) == ("error", None)
    assert not [path for path in (tmp_path / "in").rglob("*") if path.is_file()]


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_full_disk_loses_nothing_and_when_there_is_room_again_it_goes_on(pipeline, tmp_path, small_disk):
    config = config_of(tmp_path, pipeline.model_dir, folder=str(small_disk / "station"))
    with served(config) as (station, url):
        assert post(url, picture(0)).status_code == 200
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        sent = post(url, picture(1))
        assert sent.status_code == 507
        assert int(sent.headers["Retry-After"]) > 0
        put(config.lines[0].source / "part.png", picture(2))
        wait_until(lambda: "folder wall" in station.problems)
        station.problems.pop("disk", None)  # nobody need post a picture
        assert get(f"{url}/readyz").status_code == 503
        assert not station.is_working()
        assert station.dead_threads() == []
        assert station.journal.value(text("SELECT count(*) FROM pictures")) == 1
        ballast.unlink()
        wait_until(lambda: station.journal.value(text("SELECT 1 FROM pictures WHERE name = 'part.png' AND seq = 2")))
        station.problems["disk"] = "full"
        assert post(url, picture(1)).status_code == 200
        assert "disk" not in station.problems
        station.problems["sink files"] = "away"
        wait_until(station.is_working)
        assert get(f"{url}/readyz").text == "ok\n"


def test_no_room_for_a_verdict_makes_no_error_of_a_good_picture(pipeline, tmp_path, monkeypatch):
    with served(config_of(tmp_path, pipeline.model_dir)) as (station, url):
        add_map, calls = station.store.add_map, []

        def full_once(content, name):
            calls.append(name)
            if len(calls) == 1:
                raise OSError(28, "No space left on device")
            return add_map(content, name)

        monkeypatch.setattr(station.store, "add_map", full_once)
        answer = post(url, picture(0))
        assert answer.status_code == 200
        assert calls == [calls[0]] * 2


def test_a_journal_that_another_program_locks_delays_and_loses_nothing(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("ndpnet.station.tables.LOCK_SECONDS", 0.5)
    with served(config_of(tmp_path, pipeline.model_dir)) as (station, url):
        other = sqlite3.connect(station.journal.place, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        put(station.config.lines[0].source / "part.png", picture(3))
        answer = post(url, picture(4))
        assert (answer.status_code, "locked" in answer.json()["error"]) == (503, True)
        assert station.journal.num_waiting() == 0
        other.execute("ROLLBACK")
        wait_until(lambda: station.journal.value(text("SELECT 1 FROM pictures WHERE name = 'part.png' AND seq = 1")))
        assert post(url, picture(4)).status_code == 200
        wait_until(station.is_working)


def test_with_a_new_journal_it_does_not_start_and_removes_no_picture(pipeline, tmp_path):
    with served(config_of(tmp_path, pipeline.model_dir)) as (station, url):
        post(url, picture(0))
    shutil.copytree(station.store.folder / "pictures", tmp_path / "other/pictures")
    config = config_of(tmp_path, pipeline.model_dir, folder="other")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"pictures, and .*journal\.sqlite does not know this"), served(config):
            pass
    assert len([path for path in (tmp_path / "other/pictures").rglob("*") if path.is_file()]) == 1
