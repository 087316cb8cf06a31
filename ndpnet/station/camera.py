"""An industrial camera: a helper process under the system's Python, which has Aravis, hands its frames over."""

import json
import subprocess
import time
import uuid
from pathlib import Path

import numpy as np

from ndpnet.inference.overlay import encode_png
from ndpnet.station.config import LineConfig
from ndpnet.station.intake import Intake
from ndpnet.station.journal import FullError

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
        if self._process is None or self._process.poll() is not None:
            self._start()
        if self.config.trigger == "software" and not self._ask():
            return
        frames = self._process.stdout
        header = frames.readline()
        if not header:
            self.close()
            raise OSError(f"the camera {self.config.id} is away (why: the log)")
        size = json.loads(header)
        shape = size["height"], size["width"], size["channels"]
        content = frames.read(shape[0] * shape[1] * shape[2])
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(shape)
        name = f"{self.line}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}.png"
        try:
            picture = encode_png(pixels[..., 0] if shape[2] == 1 else pixels)
            self.intake.take(self.line, name, f"camera|{uuid.uuid4().hex}", picture)
        except FullError as error:
            raise ValueError(f"a frame of {self.config.id} was lost: too many pictures wait") from error

    def close(self) -> None:
        """Let go of the camera."""
        process, self._process = self._process, None
        if process is not None:
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _ask(self) -> bool:
        """Trigger, if it is time and there is room."""
        now = time.monotonic()
        if now < self._next or self.intake.journal.num_waiting() >= self.intake.limits.max_waiting:
            return False
        self._next = now + 1.0 / self.config.pictures_per_second
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: why is read next
        return True

    def _start(self) -> None:
        settings = self.config.model_dump(include={"id", "trigger", "exposure_us", "gain"})
        command = [PYTHON, str(HELPER), json.dumps(settings)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # what it says is in the station's own log
        self._process = subprocess.Popen(command, **pipes, env={"PATH": "/usr/bin:/bin"})
