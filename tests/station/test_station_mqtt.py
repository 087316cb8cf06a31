"""Pictures by MQTT: each once, and none lost while the station or room for it is away; a real mosquitto."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mqtt_broker import Broker, needs_mosquitto
from paho.mqtt.publish import multiple
from sqlalchemy import text
from stations import config_of, intake_of, picture, put, wait_until

from ndpnet.station.journal import Judgement
from ndpnet.station.mqtt import MessageSource

pytestmark = needs_mosquitto
TOPIC = "line/wall"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path).running() as running:
        yield running


def source_of(folder: Path, broker: Broker, station: str | None = None, /, **settings) -> MessageSource:
    mqtt = {"host": "127.0.0.1", "port": broker.port, "topic": TOPIC, **settings}
    changes = {"source": None, "mqtt": mqtt}
    server = {"max_waiting": 3, "max_megabytes": 0.05}
    config = config_of(folder, folder / "model", wall=changes, server=server, name=station)
    return MessageSource(config.lines[0], intake_of(config))


def publish(source: MessageSource, *payloads: bytes) -> None:
    messages = [(source.broker.topic, payload, 1, False) for payload in payloads]
    multiple(messages, hostname=source.broker.host, port=source.broker.port)


def listen_until(source: MessageSource, condition) -> None:
    def holds() -> bool:
        with suppress(OSError):  # no room: the broker sends again
            source.step()
        return condition()

    wait_until(holds)


def subscribe(source: MessageSource) -> None:
    listen_until(source, lambda: source._client and source._client.is_connected())
    source.step()


def num_taken(source: MessageSource) -> int:
    """How many pictures there are; those that wait are judged, so that there is room."""
    journal = source.intake.journal
    for row in journal.next_pictures(["wall"]):
        journal.finish(row["id"], Judgement("good", score=0.1, threshold=0.5))
    return journal.value(text("SELECT count(*) FROM pictures"))


def test_messages_are_pictures_each_once_and_none_is_lost(tmp_path, broker):
    source = source_of(tmp_path, broker)
    subscribe(source)
    source.close()  # from here on the broker keeps them
    contents = [picture(number) for number in range(8)]
    publish(source, *contents, contents[0], bytes(60_000))
    listen_until(source, lambda: num_taken(source) == 9)
    for _ in range(3):
        source.step()
    rows = source.intake.journal.rows(text("SELECT file, num_bytes FROM pictures ORDER BY id"))
    expected = sorted([*contents, b""])  # one was too large
    assert sorted(source.intake.store.read(row["file"]) for row in rows) == expected
    assert all(row["file"].endswith(".png") for row in rows if row["num_bytes"])
    source.close()


@pytest.mark.parametrize(
    ("stations", "topics"), [((None, None), ("press/wall", "oven/wall")), (("press", "oven"), (TOPIC, TOPIC))]
)
def test_lines_of_one_name_at_two_stations_have_each_their_own_messages(tmp_path, broker, stations, topics):
    told = list(zip(stations, topics, "ab", strict=True))
    sources = [source_of(tmp_path / folder, broker, station, topic=topic) for station, topic, folder in told]
    for source in sources:
        subscribe(source)
    for _ in range(2):
        sources[0].step()  # the other one has not thrown it off
    for number, source in enumerate(sources):
        publish(source, picture(number))
    for source, topic in zip(sources, topics, strict=True):
        journal, number = source.intake.journal, topics.count(topic)
        listen_until(source, lambda journal=journal, number=number: journal.num_waiting() == number)
        assert {row["name"] for row in journal.next_pictures(["wall"])} == {topic}
        source.close()


def test_what_was_not_in_the_journal_when_it_ended_comes_again(tmp_path, broker, monkeypatch):
    source = source_of(tmp_path, broker)
    subscribe(source)
    take, journal = source.intake.take, source.intake.journal
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
    source = source_of(tmp_path, broker, folder="shared")
    journal, store = source.intake.journal, source.intake.store
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
    listen_until(source, lambda: num_taken(source) == len(names))
    contents = {row["name"]: store.read(row["file"]) for row in journal.rows(text("SELECT name, file FROM pictures"))}
    assert contents.pop("day/part.png") == picture(3)
    assert set(contents.values()) == {b""}
    assert max(map(len, contents)) == 300
    assert "\0" not in "".join(contents)  # PostgreSQL takes none
    source.close()
