"""Reading a file of JSON lines while another process, or another thread, writes it."""

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]
READ_BYTES = 1 << 18  # at once: some thousand rows
LAST_BYTES = 1 << 12


class Tail:
    """Gives complete lines once each; starts over when the file was replaced or cut, as a resumed training does."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.position = 0  # up to here it was taken
        self._file: tuple[int, int] | None = None

    def read(self) -> tuple[list[Row], int]:
        """Rows beyond what was taken, and where they end: there again if nothing is new or there is no file."""
        try:
            with self.path.open("rb") as stream:
                self._start_over_if_replaced(stream.fileno())
                stream.seek(self.position)
                text = stream.read(READ_BYTES)
                while b"\n" not in text and (more := stream.read(READ_BYTES)):
                    text += more
        except OSError:
            return [], self.position
        text = text[: text.rfind(b"\n") + 1]
        return [row for line in text.splitlines() if (row := _parse(line))], self.position + len(text)

    def advance(self, position: int) -> None:
        """Take what `read` gave: it is delivered."""
        self.position = position

    def last_step(self) -> int:
        """Step of the last complete row, whether taken or not; 0 where there is none."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - LAST_BYTES))
                lines = stream.read().rpartition(b"\n")[0].splitlines()
        except OSError:
            return 0
        row = _parse(lines[-1]) if lines else None
        return row["step"] if row else 0

    def _start_over_if_replaced(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        file = (status.st_dev, status.st_ino)
        if file != self._file or status.st_size < self.position:
            self._file, self.position = file, 0


def _parse(line: bytes) -> Row | None:
    """A row with its step; None for the torn line that a full disk leaves."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
