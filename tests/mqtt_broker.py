"""A real mosquitto for the tests."""

import shutil

import pytest
from servers import ServerProcess, is_listening

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None, reason="no mosquitto on this machine (apt-get install mosquitto)"
)


class Broker(ServerProcess):
    """A real mosquitto on a port of its own."""

    name = "mosquitto"

    def command(self) -> list[str]:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        return [MOSQUITTO, "-c", str(config)]

    def answers(self) -> bool:
        return is_listening(self.port)
