"""Pictures by MQTT: each once, and none lost while the station or room for it is away; a real mosquitto."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mqtt_broker import Broker, needs_mosquitto
from sqlalchemy import text
from stations import config_of, picture, put, wait_until

from ndpnet.station.intake import Intake
from ndpnet.station.journal import Journal, Judgement
from ndpnet.station.mqtt import MessageSource, make_client
from ndpnet.station.store import Store

pytestmark = needs_mosquitto
TOPIC = "line/wall"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path).running() as running:
        yield running


def source_of(folder: Path, broker: Broker, /, **settings) -> tuple[MessageSource, Journal, Store]:
    mqtt = {"host": "127.0.0.1", "port": broker.port, "topic": TOPIC, **settings}
    changes = {"source": None, "mqtt": mqtt}
    config = config_of(folder, folder / "model", wall=changes, server={"max_waiting": 3, "max_megabytes": 0.05})
    journal, store = Journal(config.folder / "journal.sqlite"), Store(config.folder)
    return MessageSource(config.lines[0], Intake(journal, store, config, lambda: None)), journal, store


def publish(source: MessageSource, *payloads: bytes) -> None:
    client, topic = make_client(source.broker), source.broker.topic
    client.connect(source.broker.host, source.broker.port)
    client.loop_start()
    for payload in payloads:
        client.publish(topic, payload, qos=1).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def listen_until(source: MessageSource, condition) -> None:
    def holds() -> bool:
        with suppress(OSError):  # no room: the broker sends again
            source.step()
        return condition()

    wait_until(holds)


def subscribe(source: MessageSource) -> None:
    listen_until(source, lambda: source._client and source._client.is_connected())
    source.step()


def judge_all(journal: Journal) -> None:
    for row in journal.next_pictures(["wall"]):
        journal.finish(row["id"], Judgement("good", score=0.1, threshold=0.5))


def test_messages_are_pictures_each_once_and_none_is_lost(tmp_path, broker):
    source, journal, store = source_of(tmp_path, broker)
    subscribe(source)
    source.close()  # from here on the broker keeps them
    contents = [picture(number) for number in range(8)]
    publish(source, *contents, contents[0], bytes(60_000))

    def num_taken():
        judge_all(journal)
        return journal.value(text("SELECT count(*) FROM pictures"))

    listen_until(source, lambda: num_taken() == 9)
    for _ in range(3):
        source.step()
    rows = journal.rows(text("SELECT file, num_bytes FROM pictures ORDER BY id"))
    assert sorted(store.read(row["file"]) for row in rows) == sorted([*contents, b""])  # one was too large
    assert all(row["file"].endswith(".png") for row in rows if row["num_bytes"])
    source.close()


def test_lines_of_one_name_at_two_stations_have_each_their_own_messages(tmp_path, broker):
    stations = [source_of(tmp_path / name, broker, topic=f"{name}/wall") for name in ("press", "oven")]
    for source, _, _ in stations:
        subscribe(source)
    for number, (source, journal, _) in enumerate(stations):
        publish(source, picture(number))
        listen_until(source, lambda journal=journal: journal.num_waiting() == 1)
    names = [row["name"] for _, journal, _ in stations for row in journal.next_pictures(["wall"])]
    assert names == ["press/wall", "oven/wall"]
    for source, _, _ in stations:
        source.close()


def test_what_was_not_in_the_journal_when_it_ended_comes_again(tmp_path, broker, monkeypatch):
    source, journal, _ = source_of(tmp_path, broker)
    subscribe(source)
    take = source.intake.take
    monkeypatch.setattr(source.intake, "take", lambda *args: take(*args) and 1 / 0)  # in the journal, not confirmed
    publish(source, picture(0))
    with pytest.raises(ZeroDivisionError):
        wait_until(source.step)
    monkeypatch.undo()
    publish(source, picture(1))
    listen_until(source, lambda: journal.num_waiting() == 2)
    source.step()
    assert journal.num_waiting() == 2
    source.close()


def test_messages_name_files_of_one_folder_and_no_other(tmp_path, broker):
    source, journal, store = source_of(tmp_path, broker, folder="shared")
    put(tmp_path / "shared/day/part.png", picture(3))
    put(tmp_path / "secret.png", picture(4))
    (tmp_path / "shared/link.png").symlink_to(tmp_path / "secret.png")
    subscribe(source)
    outside = [
        b"../secret.png",
        str(tmp_path / "secret.png").encode(),
        b"link.png",
        b"none.png",
        b"\xff\0",
        b"n" * 5000,
    ]
    names = [*outside, b"day/part.png"]  # what cannot be a file does not stop the next
    publish(source, *names)

    def num_taken():
        judge_all(journal)
        return journal.value(text("SELECT count(*) FROM pictures"))

    listen_until(source, lambda: num_taken() == len(names))
    contents = {row["name"]: store.read(row["file"]) for row in journal.rows(text("SELECT name, file FROM pictures"))}
    assert contents.pop("day/part.png") == picture(3)
    assert set(contents.values()) == {b""}
    assert max(map(len, contents)) == 300
    assert "\0" not in "".join(contents)  # PostgreSQL takes none
    source.close()
