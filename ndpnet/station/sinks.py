"""Where verdicts go: files, webhooks, MQTT, OPC UA; each fed from the journal, in order, at its own pace."""

import csv
import errno
import hashlib
import hmac
import io
import json
import logging
import mmap
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import requests
import sqlalchemy as sa

from ndpnet.files import as_cells
from ndpnet.station.config import FileSink, MqttSink, OpcuaSink, Sink, WebhookSink
from ndpnet.station.journal import Journal
from ndpnet.station.mqtt import make_client
from ndpnet.station.security import read_secret
from ndpnet.station.tables import pictures, sinks

if TYPE_CHECKING:
    from paho.mqtt.client import Client

AT_ONCE = 100  # verdicts that are read from the journal in one go
SECONDS = 10.0  # how long a receiver may take
WATCHDOG_SECONDS = 0.5
CODES = {"good": 0, "review": 1, "defective": 2, "error": 3}
BEFORE_FIRST = {"verdict": "", "score": None, "regions": None, "name": "", "id": 0, "seq": 0}  # as OPC UA shows it
COLUMNS = (
    *("seq", "id", "line", "name", "verdict", "score", "threshold", "threshold_source", "width", "height"),
    *("regions", "model", "judged_at", "error"),
)

Row = dict[str, Any]


class Receiver(ABC):
    """Something that takes one verdict after the other."""

    def last_seq(self) -> int:
        """The last verdict that it has for sure; 0: it cannot say."""
        return 0

    @abstractmethod
    def deliver(self, row: Row) -> None:
        """Take a verdict. OSError or ValueError: it could not, and gets it again."""

    def beat(self) -> None:  # noqa: B027 - most have nothing to show
        """Show that the station works."""

    def close(self) -> None:  # noqa: B027 - nor anything to let go of
        """Let go of it."""


class Feeder:
    """Feeds one receiver; where it is stands in the journal."""

    def __init__(self, name: str, receiver: Receiver, journal: Journal, columns: Sequence[str] = COLUMNS) -> None:
        self.name, self._receiver, self._journal = name, receiver, journal
        self._key = f"{journal.station}/{name}" if journal.station else name
        self._mine = sa.select(*(pictures.c[column] for column in columns)).where(journal.is_mine)
        last, known = receiver.last_seq(), journal.last_seq()
        if last > known:
            raise ValueError(f"sink {name} has verdicts up to {last}, this station made {known} (move that file away)")
        with journal.write() as db:
            noted = db.scalar(sa.select(sinks.c.seq).where(sinks.c.name == self._key))
            if noted is None:  # a new sink is told what happens from now on
                noted = known
                db.execute(sa.insert(sinks).values(name=self._key, seq=noted))
        self._noted: int = noted
        self._delivered = max(noted, last)

    def lag(self) -> int:
        """How many verdicts it has not had yet."""
        after = pictures.c.seq > self._delivered, self._journal.is_mine
        return self._journal.value(sa.select(sa.func.count()).where(*after))

    def step(self) -> None:
        """Deliver what there is. OSError or ValueError: the receiver is away; nothing is lost."""
        self._note()  # what was delivered when the journal went away
        later = self._mine.where(pictures.c.seq > self._delivered).order_by(pictures.c.seq).limit(AT_ONCE)
        for row in self._journal.rows(later):
            self._receiver.deliver(row | {"judged_at": datetime.fromtimestamp(row["judged_at"], UTC).isoformat()})
            self._delivered = row["seq"]
            self._note()
        self._receiver.beat()

    def close(self) -> None:
        """Let go of the receiver."""
        self._receiver.close()

    def _note(self) -> None:
        if self._noted < self._delivered:
            with self._journal.write() as db:
                db.execute(sa.update(sinks).where(sinks.c.name == self._key).values(seq=self._delivered))
            self._noted = self._delivered


class FileReceiver(Receiver):
    """A file of JSON lines or CSV rows, each of them once."""

    def __init__(self, config: FileSink) -> None:
        self._path, self._is_csv = config.path, config.kind == "csv"
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def last_seq(self) -> int:
        """That of the last whole line: a full disk or a kill may have ended one early, which is cut off."""
        if not self._path.exists() or not self._path.stat().st_size:
            return 0
        with self._path.open("r+b") as stream:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                end = content.rfind(b"\n") + 1
                start = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
                last = content[start:end].decode(errors="replace").strip()
            stream.truncate(end)
        if not last or last == ",".join(COLUMNS):
            return 0
        try:
            return int(last.partition(",")[0] if self._is_csv else json.loads(last)["seq"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self._path} does not end with a verdict of this station (move that file away)"
            ) from error

    def deliver(self, row: Row) -> None:
        """Append a line that is whole, and on disk."""
        with self._path.open("ab", buffering=0) as stream:
            start = stream.tell()
            line = self._line(row, is_first=start == 0).encode()
            try:
                if stream.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(start)  # it comes again: not after half of itself
                raise

    def _line(self, row: Row, *, is_first: bool) -> str:
        if not self._is_csv:
            return json.dumps(row) + "\n"
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if is_first:
            writer.writeheader()
        row = row | {"regions": json.dumps(row["regions"])}
        writer.writerow(as_cells(row | {name: _one_line(row[name]) for name in ("name", "error")}))
        return text.getvalue()


class WebhookReceiver(Receiver):
    """A POST per verdict. Signed: HMAC-SHA256 over the time, a dot and the body, by a secret that both know."""

    def __init__(self, config: WebhookSink) -> None:
        self._url = config.url
        self._secret = None if config.secret_file is None else read_secret(config.secret_file)
        self._session = requests.Session()

    def deliver(self, row: Row) -> None:
        """Post a verdict. OSError, ValueError: nobody answered with 2xx."""
        body, at = json.dumps(row).encode(), str(int(time.time()))
        headers = {"Content-Type": "application/json", "X-Ndpnet-Seq": str(row["seq"]), "X-Ndpnet-Time": at}
        if self._secret is not None:
            signature = hmac.new(self._secret, at.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers["X-Ndpnet-Signature"] = f"sha256={signature}"
        options = {"headers": headers, "timeout": SECONDS, "allow_redirects": False}
        try:
            status = self._session.post(self._url, data=body, **options).status_code
        except requests.RequestException as error:  # names the address, and whoever knows it may post there
            raise OSError(re.sub(r" with url: \S+", "", str(error))) from error
        if not 200 <= status < 300:
            raise ValueError(f"the webhook answered {status} to verdict {row['seq']}")

    def close(self) -> None:
        """Close connections."""
        self._session.close()


class MqttReceiver(Receiver):
    """A message per verdict under TOPIC/LINE, of quality 1: the broker confirms each."""

    def __init__(self, config: MqttSink) -> None:
        self._config = config
        self._client: Client | None = None

    def deliver(self, row: Row) -> None:
        """Publish a verdict. OSError: the broker did not confirm it."""
        try:
            self._client = self._client or self._connect()
            message = self._client.publish(f"{self._config.topic}/{row['line']}", json.dumps(row), qos=1)
            message.wait_for_publish(SECONDS)
            if not message.is_published():
                raise OSError(f"the broker {self._config.host} does not confirm")
        except (OSError, RuntimeError, ValueError) as error:
            self.close()  # and with it what the client would send later, a second time
            raise OSError(f"{self._config.host}:{self._config.port}: {error}") from error

    def close(self) -> None:
        """Leave the broker."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> "Client":
        client = make_client(self._config)
        client.connect(self._config.host, self._config.port)
        client.loop_start()
        return client


class OpcuaReceiver(Receiver):
    """An OPC UA server with the last verdict of every line, to be read, and a watchdog bit."""

    def __init__(self, config: OpcuaSink, lines: Sequence[str], is_alive: Callable[[], bool]) -> None:
        from asyncua import ua
        from asyncua.sync import Server, ThreadLoop

        logging.getLogger("asyncua").setLevel(logging.WARNING)  # a line for every node of the standard
        self._is_alive, self._last_beat = is_alive, 0.0
        self._loop = ThreadLoop()
        self._loop.daemon = True  # a station that cannot start must end
        self._loop.start()
        self._server = Server(tloop=self._loop)
        self._server.set_endpoint(config.endpoint)
        self._server.set_server_name("ndpnet station")
        # as it is: no password is asked for, so none is to be sent to it in plain text
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self._server.set_identity_tokens([ua.AnonymousIdentityToken])
        space = self._server.register_namespace("urn:ndpnet:station")
        root = self._server.nodes.objects.add_object(f"ns={space};s=Station", f"{space}:Station")
        self._watchdog = root.add_variable(f"ns={space};s=Watchdog", f"{space}:Watchdog", False)
        self._lines: dict[str, dict[str, Any]] = {}
        for line in lines:
            place = root.add_object(f"ns={space};s=Station/{line}", f"{space}:{line}")
            self._lines[line] = {
                name: place.add_variable(f"ns={space};s={line}.{name}", f"{space}:{name}", value)
                for name, value in _opcua_values(BEFORE_FIRST).items()
            }
        self._server.start()

    def deliver(self, row: Row) -> None:
        """Set a line's variables, those of a line that is still in the station's file."""
        if row["line"] in self._lines:
            for name, value in _opcua_values(row).items():
                self._lines[row["line"]][name].write_value(value)

    def beat(self) -> None:
        """Turn the watchdog bit while the station works: a bit that stands still is a station that does not."""
        if time.monotonic() - self._last_beat >= WATCHDOG_SECONDS and self._is_alive():
            self._last_beat = time.monotonic()
            self._watchdog.write_value(not self._watchdog.read_value())

    def close(self) -> None:
        """Stop the server."""
        self._server.stop()
        self._loop.stop()


def open_sinks(
    configs: Sequence[Sink], journal: Journal, lines: Sequence[str], is_alive: Callable[[], bool]
) -> dict[str, Feeder]:
    """A feeder per sink, by name. ValueError: a secret cannot be read, or a library is missing."""
    makers: dict[str, Callable[[Any], Receiver]] = {
        "webhook": WebhookReceiver,
        "mqtt": MqttReceiver,
        "opcua": lambda config: OpcuaReceiver(config, lines, is_alive),
    }
    return {
        config.name: Feeder(config.name, makers.get(config.kind, FileReceiver)(config), journal) for config in configs
    }


def _opcua_values(row: Row) -> Row:
    return {
        "Verdict": row["verdict"],
        "VerdictCode": CODES.get(row["verdict"], -1),
        "IsGood": row["verdict"] == "good",
        "Score": -1.0 if row["score"] is None else row["score"],
        "NumRegions": len(row["regions"] or ()),
        "Picture": row["name"],
        "PictureId": row["id"],
        "Sequence": row["seq"],  # last: when it has changed, the others are this verdict's
    }


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
