"""MQTT: the connection to a broker, and pictures that come as messages."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.station.config import Broker, LineConfig
from ndpnet.station.journal import FullError
from ndpnet.station.security import read_secret

if TYPE_CHECKING:
    from paho.mqtt.client import Client

    from ndpnet.station.store import Intake

LOOP_SECONDS = 1.0
MAX_SHOWN = 300  # characters of a name


def make_client(broker: Broker, **options: Any) -> "Client":
    """A client of the broker that is not connected yet. ValueError: the password cannot be read."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, **options)
    if broker.username is not None:
        password = None if broker.password_file is None else read_secret(broker.password_file).decode()
        client.username_pw_set(broker.username, password)
    if broker.authority is not None:
        client.tls_set(str(broker.authority))
    return client


class MessageSource:
    """The pictures of one line; the broker keeps a message until its picture is in the journal."""

    def __init__(self, line: LineConfig, intake: "Intake") -> None:
        assert line.mqtt is not None
        self.line, self.broker, self.intake = line.name, line.mqtt, intake
        self._client: Client | None = None

    def step(self) -> None:
        """Take what has come. OSError: the broker is away, or there is no room; it sends again what was not taken."""
        if self.intake.journal.num_waiting() >= self.intake.limits.max_waiting:
            return
        try:
            self._client = self._client or self._connect()
            if self._client.loop(LOOP_SECONDS):
                raise OSError(f"the broker {self.broker.host}:{self.broker.port} is away")
        except Exception as error:
            self.close()
            if isinstance(error, FullError):
                raise OSError("too many pictures wait (the broker sends again)") from error
            raise

    def close(self) -> None:
        """Leave the broker."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()

    def _connect(self) -> "Client":
        # by this name the broker knows the line again, and what it has not had; of two of one name it throws one out
        place = hashlib.sha256(f"{self.intake.station_name}/{self.broker.topic}".encode()).hexdigest()[:12]
        options = {"client_id": f"ndpnet-{self.line}-{place}", "clean_session": False, "manual_ack": True}
        client = make_client(self.broker, **options)
        client.on_connect = self._subscribe
        client.on_message = self._take
        client.connect(self.broker.host, self.broker.port)
        return client

    def _subscribe(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            raise OSError(f"the broker {self.broker.host}:{self.broker.port} refuses: {reason}")
        client.subscribe(self.broker.topic, qos=1)

    def _take(self, client: Any, data: Any, message: Any) -> None:
        name, key, content = self._picture(message)
        self.intake.take(self.line, name, key, content)
        client.ack(message.mid, message.qos)

    def _picture(self, message: Any) -> tuple[str, str, bytes]:
        """Name, key and bytes, none of a file that is not there, lies elsewhere or is too large: it gets an error."""
        content, limit = message.payload, self.intake.max_bytes
        if self.broker.folder is None:
            key = f"mqtt|{hashlib.sha256(content).hexdigest()}"  # sent again after a kill it is the same picture
            return message.topic, key, content if len(content) <= limit else b""
        name, root = os.fsdecode(content), self.broker.folder.resolve()
        shown = content.decode(errors="backslashreplace").replace("\0", "\\0")  # PostgreSQL takes no NUL
        path = Path(os.path.realpath(root / name)) if "\0" not in name else root
        with suppress(OSError):  # too long for a name, gone, not readable: the broker would send it for ever
            if path.is_relative_to(root) and path.is_file():
                about = path.stat()
                key = f"mqtt|{shown}|{about.st_size}|{about.st_mtime_ns}"
                return shown[:MAX_SHOWN], key, path.read_bytes() if about.st_size <= limit else b""
        return shown[:MAX_SHOWN], f"mqtt|{hashlib.sha256(content).hexdigest()}", b""
