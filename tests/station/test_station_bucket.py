"""Pictures and maps on S3: delivered, read, removed; and a store that is away delays no verdict and loses nothing."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from servers import set_only
from stations import SECONDS, config_of, get, picture, post, served, wait_until

from ndpnet.station.journal import open_journal
from ndpnet.station.retrain import export_batch
from ndpnet.station.routes import MAX_ANSWERS
from ndpnet.station.station import BUCKET
from ndpnet.station.store import Store, retain

NUM_PICTURES = 3


@pytest.fixture
def server(request, monkeypatch):
    """An S3 server that this process knows: that of all tests, or one of its own for a test that kills it."""
    server = request.getfixturevalue(getattr(request, "param", "s3"))
    set_only(monkeypatch, server.environment() | {"AWS_MAX_ATTEMPTS": "1"})
    return server


def keys(server, bucket: str) -> dict[str, bytes]:
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {each["Key"]: server.client().get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


def files(folder) -> list[str]:
    return sorted(path.name for root in ("pictures", "maps") for path in (folder / root).rglob("*") if path.is_file())


def statuses(url: str, ids: range) -> set[int]:
    return {get(f"{url}/pictures/{number}/{kind}").status_code for number in ids for kind in ("image", "map")}


@pytest.mark.parametrize("server", ["private_s3"], indirect=True)
def test_files_go_to_s3_stay_here_while_it_is_away_and_follow_when_it_is_back(pipeline, tmp_path, server):
    bucket = server.make_bucket()
    config = config_of(tmp_path, pipeline.model_dir, store={"url": f"s3://{bucket}/line"})
    with served(config) as (station, url):
        for number in range(NUM_PICTURES):
            assert post(url, picture(number), headers={"Idempotency-Key": f"part-{number}"}).status_code == 200
        wait_until(lambda: station.sinks[BUCKET].lag() == 0)
        assert files(config.folder) == []
        stored = keys(server, bucket)
        rows = [station.journal.picture(number + 1) for number in range(NUM_PICTURES)]
        assert sorted(stored) == sorted(f"line/{row[name]}" for row in rows for name in ("file", "map"))
        assert [stored[f"line/{row['file']}"] for row in rows] == [picture(number) for number in range(NUM_PICTURES)]
        assert statuses(url, range(1, NUM_PICTURES + 1)) == {200}
        server.kill()
        assert statuses(url, range(1, NUM_PICTURES + 1)) == {503}
        again = post(url, picture(0), params={"map": "1"}, headers={"Idempotency-Key": "part-0"})
        assert (again.status_code, "map" in again.json()) == (200, False)
        for number in range(NUM_PICTURES, 2 * NUM_PICTURES):
            answer = post(f"{url}", picture(number), params={"map": "1"})
            assert (answer.status_code, "map" in answer.json()) == (200, True)
        wait_until(lambda: f"sink {BUCKET}" in station.problems)
        assert station.sinks[BUCKET].lag() == NUM_PICTURES
        assert len(files(config.folder)) == 2 * NUM_PICTURES
        assert statuses(url, range(NUM_PICTURES + 1, 2 * NUM_PICTURES + 1)) == {200}  # they are here
        # the disk has too many bytes, and nothing goes before it is delivered
        settings = config.store.model_copy(update={"keep_gigabytes": 1e-9})
        with pytest.raises(ValueError, match="cannot reach") as refused:
            retain(station.journal, station.store, settings, ())
        station._note_problem("retention", refused.value)
        assert station.is_working()  # nothing of that keeps a picture from its verdict
        assert len(files(config.folder)) == 2 * NUM_PICTURES
        server.start()
        wait_until(lambda: station.sinks[BUCKET].lag() == 0)
        assert files(config.folder) == []
        assert len(keys(server, bucket)) == 4 * NUM_PICTURES
        assert statuses(url, range(1, 2 * NUM_PICTURES + 1)) == {200}


def test_a_store_that_is_frozen_keeps_no_page_waiting_but_its_pictures(pipeline, tmp_path, server):
    config = config_of(tmp_path, pipeline.model_dir, store={"url": f"s3://{server.make_bucket()}"})
    with served(config) as (station, url), ThreadPoolExecutor(MAX_ANSWERS) as browser:
        post(url, picture(0))
        wait_until(lambda: station.sinks[BUCKET].lag() == 0)
        os.killpg(server._process.pid, signal.SIGSTOP)
        try:
            shown = [browser.submit(statuses, url, range(1, 2)) for _ in range(MAX_ANSWERS)]
            time.sleep(0.5)  # all of them wait for the store
            assert requests.get(f"{url}/live", timeout=5).status_code == 200
        finally:
            os.killpg(server._process.pid, signal.SIGCONT)
        assert [each.result(SECONDS) for each in shown] == [{200}] * MAX_ANSWERS


def test_what_a_killed_station_has_delivered_and_not_noted_is_delivered_again(pipeline, tmp_path, server):
    bucket = server.make_bucket()
    plain = config_of(tmp_path, pipeline.model_dir)
    with served(plain) as (station, url):
        post(url, picture(0))
        post(url, picture(1))
        first = station.journal.picture(1)
    store = Store(plain.folder, f"s3://{bucket}")
    store.deliver(first)
    store.deliver(first)
    assert sorted(keys(server, bucket)) == sorted([first["file"], first["map"]])
    assert store.read(first["file"]) == picture(0)
    assert len(files(plain.folder)) == 2
    with pytest.raises(FileNotFoundError, match="NoSuchKey"):
        store.read("pictures/wall/none.png")


def test_retention_on_s3_removes_the_oldest_and_never_what_waits_for_review(pipeline, tmp_path, server):
    bucket = server.make_bucket()
    config = config_of(tmp_path, pipeline.model_dir, store={"url": f"s3://{bucket}/a/b/"}, review=[], review_sample=1)
    with served(config) as (station, url):
        for number in range(NUM_PICTURES):
            post(url, picture(number))
        wait_until(lambda: station.sinks[BUCKET].lag() == 0)
    journal, store = open_journal(config), Store(config.folder, config.store.url)
    settings = config.store.model_copy(update={"keep_gigabytes": 1e-9})
    assert retain(journal, store, settings, config.review) == 0  # all were drawn for review
    journal.review(2, "good", "Ann")
    num_pictures, _ = export_batch(journal, store, "wall", tmp_path / "batch")
    assert num_pictures == {"good": 1, "defective": 0, "painted": 0, "calibration": 1}
    assert next((tmp_path / "batch/good").iterdir()).read_bytes() == picture(1)
    assert retain(journal, store, settings, config.review) == 1
    left = [journal.picture(number) for number in (1, 3)]
    assert sorted(keys(server, bucket)) == sorted(f"a/b/{row[name]}" for row in left for name in ("file", "map"))
    assert journal.picture(2)["file"] is None
