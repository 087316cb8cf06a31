"""A real mosquitto for the tests."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from mlflow_servers import free_port
from processes import wait_until
from servers import _end_with_parent

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None, reason="no mosquitto on this machine (apt-get install mosquitto)"
)


class Broker:
    """A real mosquitto on a port of its own."""

    def __init__(self, folder: Path):
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.process = None

    def start(self):
        command = [MOSQUITTO, "-c", str(self.config)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, preexec_fn=_end_with_parent, **quiet)  # noqa: PLW1509
        wait_until(self._answers)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
