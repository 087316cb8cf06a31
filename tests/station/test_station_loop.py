"""From reviews to folders, from the registry to the line, and what the command says."""

import json
import re
import shutil
import socket
import sqlite3
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import registered
import requests
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow_servers import new_database
from samples import Pipeline
from sqlalchemy import text
from stations import accept, command, config_of, picture, post, served, start_station, wait_until, wall

from ndpnet.cli import main
from ndpnet.inference.identity import package_hash
from ndpnet.inference.package import write_config
from ndpnet.station import judge, tables
from ndpnet.station.journal import Journal, JournalError, Judgement, open_journal
from ndpnet.station.models import open_model
from ndpnet.station.queries import last_events, num_to_review
from ndpnet.station.retrain import GROUP_PATTERN, export_batch
from ndpnet.station.station import running, serve
from ndpnet.station.store import Store

LINES = [{"name": "wall", "model": "model"}]
ALIASES, WALL = {"gate": "gate", "wall": "champion"}, {"line": "wall"}


@pytest.mark.slow
def test_the_station_changes_to_a_new_champion_between_two_pictures_and_back(
    pipeline: Pipeline, evaluation_dir, tmp_path, monkeypatch
):
    uri = registered.register_thresholds(pipeline, evaluation_dir, tmp_path / "registry", [2.0, 0.0, 3.0, 4.0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("NDPNET_TRACKING", raising=False)
    client, rng = MlflowClient(uri), np.random.default_rng(1)
    client.set_registered_model_alias(registered.NAME, "gate", "3")
    lines = [{"name": name, "model": f"models:/{registered.NAME}@{alias}"} for name, alias in ALIASES.items()]
    with served(config_of(tmp_path, pipeline.model_dir, lines=lines, model_seconds=0.2)) as (station, url):
        first = post(url, wall(rng), params=WALL).json()
        assert (first["verdict"], first["threshold"]) == ("good", 2.0)
        client.delete_registered_model_alias(registered.NAME, "gate")  # the line behind it is followed all the same
        wait_until(lambda: "gate: no ndpnet-wall 'gate'" in station.problems.get("registry", ""))
        for version, threshold in (("2", 0.0), ("4", 4.0), ("1", 2.0)):
            client.set_registered_model_alias(registered.NAME, "champion", version)
            told = wait_until(
                lambda at=threshold: (now := post(url, wall(rng), params=WALL).json())["threshold"] == at and now
            )
            assert told["verdict"] == ("defective" if threshold == 0.0 else "good")
        events = last_events(station.journal, 9, kind="model", line="wall")[::-1]
        assert [event["facts"]["version"] for event in events] == [1, 2, 4, 1]
        assert {event["facts"]["commit"] for event in events} == {registered.IDENTITY["git_commit"]}
        assert f"{registered.IDENTITY['git_commit']}</td>" in requests.get(f"{url}/pictures/{first['id']}").text
        assert events[1]["facts"]["before"] == events[0]["facts"]["hash"] == first["model"]
        # what is in use, the one before it, and what the other line uses
        folders = tmp_path / "station/models"
        wait_until(lambda: {path.name.split("-")[2] for path in folders.iterdir()} == {"1", "4", "3"})
    # the registry is away: the station starts with the champion that it had
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with served(config_of(tmp_path, pipeline.model_dir, lines=lines)) as (station, url):
        assert post(url, wall(rng), params=WALL).json()["model"] == first["model"]
        assert [line.model.facts["version"] for line in station.lines.values()] == [3, 1]


def test_a_threshold_by_hand_holds_for_its_model_and_leaves_the_bound_for_review(pipeline: Pipeline, tmp_path):
    packages = [registered.with_threshold(pipeline.model_dir, tmp_path / name, 2.0) for name in ("first", "second")]
    content = json.loads((packages[1] / "config.json").read_text())
    content["threshold"] |= {"review": {"value": -1.0, "statement": "at most half"}}  # below all scores
    write_config(packages[1], content)

    def by_hand(station, value, **facts):
        model = station.lines["wall"].model
        facts = {"value": value, "model": model.hash, "engine": model.engine} | facts
        station.journal.note("threshold", facts, line="wall", who="Ann")

    def judged(url):
        told = post(url, picture()).json()
        return told["verdict"], told["threshold"], told["threshold_source"]

    with served(config_of(tmp_path, packages[0])) as (station, url):
        by_hand(station, 3.0)
        by_hand(station, 9.0, engine="openvino-int8")
        assert judged(url) == ("good", 3.0, "manual")
    with served(config_of(tmp_path, packages[1])) as (station, url):
        assert judged(url) == ("review", 2.0, "calibrated")
        for value, verdict, source in (
            (4.0, "review", "manual"),
            (-2.0, "defective", "manual"),
            (4.0, "review", "manual"),
        ):
            by_hand(station, value)
            assert judged(url) == (verdict, value, source)
    with served(config_of(tmp_path, packages[0])) as (station, url):  # back
        assert judged(url) == ("good", 3.0, "manual")


def test_a_threshold_that_the_journal_did_not_tell_is_asked_for_again(pipeline: Pipeline, tmp_path):
    with served(config_of(tmp_path, pipeline.model_dir)) as (station, _), station.journal._engine.connect() as db:
        event = (
            "INSERT INTO events (station, line, kind, who, at, seq, facts) VALUES ('', 'wall', '{}', 'Ann', 0, 0, '{}')"
        )
        db.execute(text("BEGIN IMMEDIATE"))
        db.execute(text(event.format("threshold", "cut")))
        db.execute(text(event.format("acknowledged", "{}")))
        db.execute(text("COMMIT"))
        wait_until(lambda: "malformed JSON" in station.problems.get("judge", ""))
        model = station.lines["wall"].model
        facts = json.dumps({"value": 3.0, "model": model.hash, "engine": model.engine})
        db.execute(text("UPDATE events SET facts = :facts WHERE facts = 'cut'"), {"facts": facts})
        wait_until(lambda: "judge" not in station.problems)
        assert station.lines["wall"].threshold == 3.0


def test_an_alarm_that_was_answered_while_a_picture_was_judged_stays_so(pipeline: Pipeline, tmp_path, monkeypatch):
    with running(config_of(tmp_path, pipeline.model_dir)) as station:
        wait_until(station.is_working)
        line, journal = station.lines["wall"], station.journal
        monkeypatch.setattr(type(line.watch), "rings", True)
        monkeypatch.setattr(type(line.watch), "add", lambda *_: None)
        line.observe({"id": 1}, Judgement("good", score=0.1))
        assert line.alarm["kind"] == tables.DRIFT
        with monkeypatch.context() as patch:
            patch.setattr(line, "prepare", lambda: None)  # another picture is being judged
            journal.note(tables.ACKNOWLEDGED, {"reason": "another lamp"}, line="wall", who="Ann")
            line.observe({"id": 2}, Judgement("good", score=0.1))
            assert line.alarm is None
        monkeypatch.undo()
        shutil.copytree(pipeline.model_dir, tmp_path / "moved")
    with running(config_of(tmp_path, tmp_path / "moved")) as station:
        wait_until(station.is_working)
        assert station.journal.last_event("wall", "model", tables.ACKNOWLEDGED)["kind"] == tables.ACKNOWLEDGED


def test_each_line_computes_with_the_threads_of_its_own_model(pipeline: Pipeline, tmp_path):
    more = registered.with_threshold(pipeline.model_dir, tmp_path / "more", 2.0)
    content = json.loads((more / "config.json").read_text())
    content["params"]["train"]["num_threads"] += 1
    write_config(more, content)
    lines = [{"name": "wall", "model": str(pipeline.model_dir)}, {"name": "roof", "model": str(more)}]
    with running(config_of(tmp_path, pipeline.model_dir, lines=lines)) as station:
        picture_id = station.intake.take("wall", "a.png", "a", picture())
        wait_until(lambda: station.journal.is_judged(picture_id))
        row, num_threads = station.journal.picture(picture_id), {}
        for name, line in station.lines.items():
            line.judge(row)
            num_threads[name] = torch.get_num_threads()
    torch.set_num_threads(num_threads["wall"])
    assert num_threads["roof"] == num_threads["wall"] + 1


def test_a_model_that_the_journal_could_not_note_judges_once_it_can(pipeline: Pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LOCK_SECONDS", 0.1)
    config, journal = config_of(tmp_path, pipeline.model_dir), Journal(tmp_path / "journal.sqlite")
    line = judge.Line(config.lines[0], config, journal, Store(tmp_path))
    line.next_model = open_model(config.lines[0], tmp_path)
    with sqlite3.connect(journal.place) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            line.prepare()
    line.prepare()
    assert (line.model.hash, line.next_model) == (package_hash(pipeline.model_dir), None)


@pytest.mark.parametrize(
    ("used", "asked", "is_away", "starts"),
    [
        ("models:/ndpnet-press@champion", "models:/ndpnet-press@champion", True, True),
        (None, "models:/ndpnet-press@champion", True, False),
        ("models:/ndpnet-press@champion", "models:/ndpnet-press@other", True, False),
        ("models:/ndpnet-press/2", "models:/ndpnet-press/3", True, False),
        ("models:/ndpnet-press-left@champion", "models:/ndpnet-press@champion", True, False),
        ("models:/ndpnet-press@champion", "models:/ndpnet-press@champion", False, False),  # it answers: no such alias
    ],
)
def test_while_the_registry_is_away_a_line_starts_with_what_it_has_used_itself(
    pipeline: Pipeline, tmp_path, monkeypatch, used, asked, is_away, starts
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9" if is_away else new_database(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("NDPNET_TRACKING", raising=False)
    config, digest = config_of(tmp_path, pipeline.model_dir, wall={"model": asked}), package_hash(pipeline.model_dir)
    if used is not None:
        facts = {"model": used, "version": 2, "hash": digest, "engine": "torch-fp32"}
        open_journal(config).note("model", facts, line="wall")
    for name in ("ndpnet-press", "ndpnet-press-left"):
        shutil.copytree(pipeline.model_dir, config.folder / f"models/{name}-2-{digest[:12]}")
    shutil.copytree(pipeline.model_dir, config.folder / f"models/ndpnet-press-9-{'0' * 12}")  # newer, of another line
    with nullcontext() if starts else pytest.raises(ValueError, match="registry"), running(config) as station:
        assert station.lines["wall"].model.facts["version"] == 2


def test_an_alarm_that_nobody_answers_lets_the_watch_start_anew_and_stays(pipeline: Pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "PERIOD", 40)
    rng, drift = np.random.default_rng(2), {"pictures_per_false_alarm": 100, "highest_defect_rate": 0.4}
    with served(config_of(tmp_path, pipeline.model_dir, drift=drift)) as (station, url):
        line, counted = station.lines["wall"], []
        for _ in range(100):
            post(url, wall(rng, light=0.5))
            counted.append(line.watch.num_pictures)
        assert max(counted) <= 40
        assert line.alarm is not None
        assert len(last_events(station.journal, 9, kind="drift")) == 1
        assert len(last_events(station.journal, 9, kind="restarted")) == 2
        surest = requests.get(f"{url}/health").text.partition("The surest change: ")[2].partition("</p>")[0]
        assert re.findall("<b>(.*?)</b>", surest) == ["not good", "brightness"]  # of the others nothing is sure


@pytest.fixture
def journal(tmp_path) -> Journal:
    journal, store = Journal(tmp_path / "station/journal.sqlite"), Store(tmp_path / "station")
    for number in range(6):
        file, _ = store.add(bytes([number]), "wall", ".png")
        picture_id, _ = accept(journal, str(number), file=file, is_sampled=number % 2 == 0)
        journal.finish(picture_id, Judgement("defective", score=0.9, threshold=0.5))
    return journal


def test_only_pictures_drawn_at_random_are_for_calibration(journal, tmp_path):
    for picture_id, label in ((1, "good"), (2, "good"), (3, "defective"), (4, "cannot tell"), (6, "good")):
        journal.review(picture_id, label, "Ann")
    journal.review(6, "defective", "Bob")
    journal.review(5, "good", "Ann")
    (tmp_path / "station" / journal.picture(5)["file"]).unlink()  # by hand, or as the oldest while this is written
    batch = export_batch(journal, Store(tmp_path / "station"), "wall", tmp_path / "batch")
    assert batch == ({"good": 2, "defective": 1, "painted": 0, "calibration": 1}, 0)
    assert len(json.loads((tmp_path / "batch/batch.json").read_text())["pictures"]) == 3
    names = sorted(path.relative_to(tmp_path / "batch").as_posix() for path in (tmp_path / "batch").rglob("*.png"))
    assert [name.split("/")[0] for name in names] == ["calibration", "defective", "good", "good"]
    assert names[0].endswith("_1.png")
    assert all(re.search(GROUP_PATTERN, name) for name in names)


def test_what_could_not_be_judged_is_not_asked_about_and_teaches_nothing(journal, tmp_path):
    file, _ = Store(tmp_path / "station").add(b"cut", "wall", ".png")
    for is_sampled in (True, False):
        picture_id, _ = accept(journal, f"cut {is_sampled}", file=file, is_sampled=is_sampled)
        journal.finish(picture_id, Judgement("error", error="cannot read cut.png"))
    assert num_to_review(journal, ("review",)) == 3  # the sample of others
    journal.review(picture_id, "good", "Ann")
    journal.review(1, "good", "Ann")
    batch = export_batch(journal, Store(tmp_path / "station"), "wall", tmp_path / "batch")
    assert batch == ({"good": 1, "defective": 0, "painted": 0, "calibration": 1}, 2)


def test_the_command_exports_and_says_what_comes_next(journal, tmp_path):
    export = partial(command, tmp_path, "--export", tmp_path / "batch", lines=LINES)
    refused = export()
    assert refused.exit_code == 1
    assert "nobody has called" in refused.output
    journal.review(1, "good", "Ann")
    journal.note("model", {"category": "Fläche 1"}, line="wall")
    told = export()
    assert told.exit_code == 0, told.output
    assert "1 good, 0 defective, 0 painted, 1 calibration" in told.output
    assert f"next: dvc add {tmp_path}/batch\n" in told.output
    assert f"ndpnet data add {tmp_path}/batch/good --category 'Fläche 1'\n" in told.output
    assert "2 pictures of the sample wait" in told.output


def test_the_command_makes_tokens_and_takes_them_away(tmp_path):
    change = partial(command, tmp_path, lines=LINES, server={"host": "0.0.0.0"})
    secret = change("--add-token", "cam:camera").output.split()[0]
    journal = Journal(tmp_path / "station/journal.sqlite")
    assert journal.owner_of(secret) == {"name": "cam", "role": "camera"}
    with pytest.raises(ValueError, match="lamp has the token of cam"):
        journal.add_token("lamp", "reader", secret)
    assert "has a token" in change("--add-token", "cam:camera").output
    assert "no role" in change("--add-token", "x:boss").output
    assert change("--remove-token", "cam").exit_code == 0
    assert journal.owner_of(secret) is None


def test_a_demo_that_is_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["station", "--demo"])
    assert (told.exit_code, told.output.count("\n")) == (1, 1)
    assert "make demo" in told.output


@pytest.mark.parametrize(
    ("model", "server", "said"),
    [
        ("nowhere", {}, "no model package"),
        ("model", {"certificate": "none.pem", "key": "none.pem"}, "no TLS with {folder}/none.pem"),
        ("model", {"certificate": "a.pem", "key": "a.pem"}, "no TLS with {folder}/a.pem"),
        ("model", {"host": "0.0.0.0"}, "nobody has a token"),  # beyond loopback
        ("model", {"token_file": "none"}, "cannot read the secret"),
        ("model", {"host": "192.0.2.7", "token_file": "tokens"}, "7:0: Cannot assign requested address (choose"),
    ],
)
def test_what_keeps_a_station_from_starting_is_one_line(pipeline, tmp_path, model, server, said):
    (tmp_path / "model").symlink_to(pipeline.model_dir)
    (tmp_path / "a.pem").write_text("no certificate")
    (tmp_path / "tokens").write_text(f"gate camera {'x' * 32}")
    told = command(tmp_path, lines=[LINES[0] | {"model": model}], server={"port": 0} | server)
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert said.format(folder=tmp_path) in told.stderr


@pytest.mark.parametrize("logs", ["lines", "json"])
def test_the_log_has_dates_and_is_lines_or_json(pipeline, tmp_path, logs):
    (tmp_path / "in").mkdir()
    process = start_station(tmp_path, pipeline.model_dir, logs=logs, server={"port": 0})
    said = tmp_path / "station.log.err"
    try:
        wait_until(lambda: "judging with" in said.read_text() if said.exists() else False)
        shutil.rmtree(tmp_path / "in")
        wait_until(lambda: "No such file" in said.read_text())
    finally:
        process.kill()
        process.join()
    for line in said.read_text().splitlines():
        if logs == "json":
            record = json.loads(line)
            assert (record["level"], record["logger"][:14]) in {("INFO", "ndpnet.station"), ("ERROR", "ndpnet.station")}
            assert datetime.fromisoformat(record["at"]).utcoffset() == timedelta(0)
        else:
            assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|ERROR) wall: |.* ERROR folder wall: ", line)


def test_the_page_of_a_station_that_others_reach_is_no_wildcard(pipeline, tmp_path):
    def ready(_, url):
        raise InterruptedError(url)

    config = config_of(tmp_path, pipeline.model_dir, server={"host": "0.0.0.0", "port": 0})
    open_journal(config).add_token("gate", "camera", "x" * 40)
    with pytest.raises(InterruptedError, match=rf"^http://{re.escape(socket.gethostname())}:\d+/$"):
        serve(config, ready)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 on this machine")
def test_the_address_of_the_page_is_a_url_by_ipv6_too(pipeline, tmp_path):
    def ready(_, url):
        raise InterruptedError(url)

    with pytest.raises(InterruptedError, match=r"^http://\[::1\]:\d+/$"):
        serve(config_of(tmp_path, pipeline.model_dir, server={"host": "::1", "port": 0}), ready)
