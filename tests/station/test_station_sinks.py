"""Sinks against real receivers: in order, nothing lost while they are away, and no verdict waits for them."""

import csv
import hashlib
import hmac
import json
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from asyncua import ua
from asyncua.sync import Client
from http_servers import Answer, serving
from mqtt_broker import Broker, needs_mosquitto
from servers import free_port
from sqlalchemy import text
from stations import accept, delivered, wait_until

from ndpnet.station import tables
from ndpnet.station.config import FileSink, MqttSink, OpcuaSink, WebhookSink
from ndpnet.station.journal import Journal, JournalError, Judgement
from ndpnet.station.mqtt import make_client
from ndpnet.station.sinks import open_sinks


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.sqlite")


def judge(journal, num, *, verdict="good", name="part", line="wall"):
    first = journal.value(text("SELECT count(*) FROM pictures"))
    for number in range(first, first + num):
        picture_id, _ = accept(journal, str(number), line, name=f"{name}{number}.png")
        regions = [{"area": 4}] if verdict == "defective" else []
        journal.finish(picture_id, Judgement(verdict, score=0.25, threshold=0.5, regions=regions))


def plc() -> OpcuaSink:
    return OpcuaSink(name="plc", kind="opcua", endpoint=f"opc.tcp://127.0.0.1:{free_port()}/ndpnet/")


def sink_of(config, journal, is_alive=lambda: True):
    return open_sinks([config], journal, ["wall", "roof"], is_alive)[config.name]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_has_every_verdict_once_whatever_was_cut(journal, tmp_path, kind):
    config = FileSink(name="files", kind=kind, path=tmp_path / "out" / f"verdicts.{kind}")
    sink_of(config, journal)
    judge(journal, 2)
    judge(journal, 1, verdict="defective", name="=HYPERLINK(1)\n")
    sink_of(config, journal).step()
    whole = config.path.read_bytes()
    # killed while it wrote, before the journal knew: half a line, and one that the journal does not know to be there
    config.path.write_bytes(whole + b'{"seq": 4, "id"')
    with journal.write() as db:
        db.execute(text("UPDATE sinks SET seq = 1"))
    judge(journal, 1)
    again = sink_of(config, journal)
    again.step()
    assert again.lag() == 0
    if kind == "jsonl":
        rows = [json.loads(line) for line in config.path.read_text().splitlines()]
        assert rows[2]["regions"] == [{"area": 4}]
    else:
        with config.path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows[2]["name"].startswith("'=HYPERLINK")
    assert [int(row["seq"]) for row in rows] == [1, 2, 3, 4]
    assert config.path.read_bytes().startswith(whole)


@pytest.mark.parametrize("small_disk", ["32k"], indirect=True)
def test_a_full_disk_leaves_no_half_line_in_a_file(journal, small_disk):
    sink = sink_of(FileSink(name="files", kind="jsonl", path=small_disk / "verdicts.jsonl"), journal)
    judge(journal, 60)
    (small_disk / "ballast").write_bytes(bytes(24_000))
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            sink.step()
    (small_disk / "ballast").unlink()
    sink.step()
    assert delivered(small_disk / "verdicts.jsonl") == list(range(1, 61))


def test_a_verdict_whose_delivery_could_not_be_noted_is_not_delivered_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LOCK_SECONDS", 0.1)
    journal = Journal(tmp_path / "journal.sqlite")
    feeder = sink_of(FileSink(name="files", kind="jsonl", path=tmp_path / "verdicts.jsonl"), journal)
    judge(journal, 2)
    with sqlite3.connect(journal.place) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            feeder.step()
    feeder.step()
    assert (delivered(tmp_path / "verdicts.jsonl"), feeder.lag()) == ([1, 2], 0)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("jsonl", '{"seq": 7}\n', "sink files has verdicts up to 7, this station made 3"),
        *(("jsonl", line, "/verdicts does not end with a verdict of this station") for line in ("hello\n", "[7]\n")),
        ("csv", "seq;id;line\r\n1;2;wall\r\n", "/verdicts does not end with a verdict of this station"),
    ],
)
def test_a_file_of_another_station_or_program_is_not_continued(journal, tmp_path, kind, content, said):
    (tmp_path / "verdicts").write_text(content)
    judge(journal, 3)
    with pytest.raises(ValueError, match=rf"{said} \(move that file away\)"):
        sink_of(FileSink(name="files", kind=kind, path=tmp_path / "verdicts"), journal)


def test_a_new_sink_is_told_what_happens_from_then_on(journal, tmp_path):
    judge(journal, 3)
    sink = sink_of(FileSink(name="late", kind="jsonl", path=tmp_path / "late.jsonl"), journal)
    judge(journal, 1)
    sink.step()
    assert delivered(tmp_path / "late.jsonl") == [4]


def test_a_webhook_gets_signed_verdicts_in_order_and_again_what_it_did_not_take(journal, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    taken, answers = [], iter([200, 500, 302, 200, 200])

    def answer(request):
        status = next(answers)
        at = request.headers["X-Ndpnet-Time"]
        expected = hmac.new(b"s3cret", f"{at}.".encode() + request.body, hashlib.sha256).hexdigest()
        assert request.headers["X-Ndpnet-Signature"] == f"sha256={expected}"
        if status == 200:
            taken.append(json.loads(request.body)["seq"])
        return Answer(status=status, headers={"Location": "http://127.0.0.1:9/"})

    with serving(answer) as address:
        config = WebhookSink(name="hook", kind="webhook", url=f"http://{address}/verdicts", secret_file=secret)
        sink = sink_of(config, journal)
        judge(journal, 3)
        for _ in range(2):
            with pytest.raises(ValueError, match="answered"):
                sink.step()
        assert sink.lag() == 2
        sink.step()
    assert taken == [1, 2, 3]
    assert sink.lag() == 0
    judge(journal, 1)
    with pytest.raises(OSError, match=r"refused|aborted") as refused:
        sink.step()
    assert "verdicts" not in str(refused.value)  # the page shows it, and the address may be the secret
    assert "s3cret" not in json.dumps(journal.rows(text("SELECT * FROM sinks")))


@needs_mosquitto
def test_mqtt_messages_come_in_order_and_none_is_lost_while_the_broker_is_away(journal, tmp_path):
    broker, got, subscribed = Broker(tmp_path), [], threading.Event()
    broker.start()
    config = MqttSink(name="bus", kind="mqtt", host="127.0.0.1", port=broker.port, topic="plant/verdicts")
    client = make_client(config)
    client.on_message = lambda *args: got.append((args[2].topic, json.loads(args[2].payload)["seq"]))
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_connect = lambda *_: client.subscribe("plant/#", qos=1)
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert subscribed.wait(20)
        sink = sink_of(config, journal)
        judge(journal, 3)
        sink.step()
        wait_until(lambda: len(got) == 3)  # what the broker had not handed on when it is killed is gone with it
        broker.kill()
        judge(journal, 2)
        with pytest.raises(OSError, match=r"127\.0\.0\.1"):
            sink.step()
        subscribed.clear()
        broker.start()
        assert subscribed.wait(20)
        sink.step()
        wait_until(lambda: len(got) >= 5)
        assert got == [("plant/verdicts/wall", seq) for seq in (1, 2, 3, 4, 5)]
        sink.close()
    finally:
        client.loop_stop()
        broker.stop()


def test_a_plc_finds_a_line_under_the_same_ids_whichever_is_judged_first(journal, caplog):
    caplog.set_level("INFO")
    config = plc()
    for last in ("wall", "roof"):  # a restart, and the other line first
        with closing(sink_of(config, journal)) as sink, Client(config.endpoint) as client:
            space = client.get_namespace_index("urn:ndpnet:station")
            nodes = {name: client.get_node(f"ns={space};s={name}.Sequence") for name in ("wall", "roof")}
            assert [node.read_value() for node in nodes.values()] == [0, 0]
            assert client.get_node(f"ns={space};s=wall.IsGood").read_value() is False
            judge(journal, 1, line="gone")
            judge(journal, 1, line=last)
            sink.step()
            assert {name for name, node in nodes.items() if node.read_value()} == {last}
            assert nodes[last].read_value() == journal.last_seq()
    assert not [record for record in caplog.records if record.name.startswith("asyncua") and record.levelname == "INFO"]


def test_a_plc_reads_the_last_verdict_and_a_watchdog_that_stops_with_the_station(journal, caplog):
    alive, config = [True], plc()
    sink = sink_of(config, journal, lambda: alive[0])
    with pytest.raises(OSError, match="in use"):
        sink_of(config, journal)
    # of the one that cannot start nothing is left that keeps the station from ending
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    with closing(sink), Client(config.endpoint) as client:
        (endpoint,) = client.get_endpoints()  # nobody is asked for a password, which would go in plain text
        assert [token.TokenType for token in endpoint.UserIdentityTokens] == [ua.UserTokenType.Anonymous]
        assert "password" not in caplog.text
        judge(journal, 2)
        judge(journal, 1, verdict="defective")
        sink.step()
        space = client.get_namespace_index("urn:ndpnet:station")
        root = client.nodes.objects.get_child(f"{space}:Station")
        line = {each.read_browse_name().Name: each for each in root.get_child(f"{space}:wall").get_children()}
        told = {"Verdict": "defective", "VerdictCode": 2, "IsGood": False, "Score": 0.25, "NumRegions": 1}
        told |= {"Picture": "part2.png", "PictureId": 3, "Sequence": 3}
        assert {name: node.read_value() for name, node in line.items()} == told
        with pytest.raises(ua.UaStatusCodeError):
            line["Verdict"].write_value("good")
        watchdog = root.get_child(f"{space}:Watchdog")
        assert watchdog.nodeid.Identifier == "Watchdog"

        def turns():
            before = watchdog.read_value()
            for _ in range(3):
                time.sleep(0.3)
                sink.step()
                if watchdog.read_value() != before:
                    return True
            return False

        assert turns()
        assert turns()
        alive[0] = False
        assert not turns()
