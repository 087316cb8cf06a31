"""An industrial camera: a helper process under the system's Python, which has Aravis, hands its frames over."""

import json
import subprocess
import time
import uuid
from pathlib import Path
from typing import IO, Any

import numpy as np

from ndpnet.inference.overlay import encode_png
from ndpnet.station.config import LineConfig
from ndpnet.station.journal import FullError
from ndpnet.station.store import Intake

PYTHON, HELPER = "/usr/bin/python3", Path(__file__).with_name("aravis_frames.py")
STOP_SECONDS = 5.0


class Camera:
    """The camera of one line; when it is gone the next step opens it again."""

    def __init__(self, line: LineConfig, intake: Intake) -> None:
        assert line.camera is not None
        self.line, self.intake, self.config = line.name, intake, line.camera
        self._process: subprocess.Popen[bytes] | None = None
        self._next = 0.0  # when the next picture may be taken

    def step(self) -> None:
        """Take one picture. OSError: the camera is away, or there is no room; ValueError: a frame was lost."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        asking, frames = _pipes(process)
        if self.config.trigger == "software" and not self._ask(asking):
            return
        header = frames.readline()
        size: dict[str, Any] = json.loads(header) if header else {"error": "its program has ended (why: the log)"}
        if "error" in size:
            self.close()
            raise OSError(f"the camera {self.config.id or '(any)'} is away: {size['error']}")
        shape = size["height"], size["width"], size["channels"]
        content = frames.read(shape[0] * shape[1] * shape[2])
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(shape)
        name = f"{self.line}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}.png"
        try:
            picture = encode_png(pixels[..., 0] if shape[2] == 1 else pixels)
            self.intake.take(self.line, name, f"camera|{uuid.uuid4().hex}", picture)
        except FullError as error:
            raise ValueError(f"a frame of {self.line} was lost: too many pictures wait") from error

    def close(self) -> None:
        """Let go of the camera."""
        process, self._process = self._process, None
        if process is not None:
            asking, _ = _pipes(process)
            asking.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _ask(self, asking: IO[bytes]) -> bool:
        """Trigger, if it is time and there is room."""
        now = time.monotonic()
        if now < self._next or self.intake.journal.num_waiting() >= self.intake.limits.max_waiting:
            return False
        self._next = now + 1.0 / self.config.pictures_per_second
        try:
            asking.write(b"\n")
            asking.flush()
        except BrokenPipeError:
            pass  # it has ended: why is read next
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        settings = self.config.model_dump(include={"id", "trigger", "exposure_us", "gain"})
        command = [PYTHON, str(HELPER), json.dumps(settings)]
        # what it says is in the station's own log
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"})


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Where the helper is asked for a frame, and where frames come."""
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout
