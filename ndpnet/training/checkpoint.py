"""Checkpoints: written whole or not at all, found again by the hash of what is being trained."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ndpnet.files import naming_full_disk, write_text
from ndpnet.locks import locked

HISTORY = "history.jsonl"
LOCK_SECONDS = 10.0  # a step that DVC left behind needs a moment to end


class Checkpoint:
    """One work folder: the latest state, and the history up to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_path = self.folder / "state.pt"
        self.history_path = self.folder / HISTORY

    def save(self, state: dict[str, Any]) -> None:
        """Replace the latest state; a kill at any moment leaves the old one or the new one."""
        unfinished = self.state_path.with_suffix(".tmp")
        try:
            with naming_full_disk(self.folder, self.state_path), unfinished.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, self.state_path)
        finally:
            unfinished.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The latest state, None if there is none. ValueError if it cannot be read."""
        if not self.state_path.is_file():
            return None
        try:
            return torch.load(self.state_path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever damaged bytes make the reader raise
            raise ValueError(f"{self.state_path} is damaged (remove {self.folder}: the phase starts over)") from error

    def append_history(self, rows: list[dict[str, float]]) -> None:
        """Add rows, each with its `step`: the number of steps done, from 1."""
        with naming_full_disk(self.folder, self.history_path), self.history_path.open("a") as file:
            file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)

    def cut_history(self, last_step: int) -> None:
        """Drop rows after `last_step`, and a line that a kill left half written."""
        if not self.history_path.is_file():
            return
        lines = self.history_path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last_step]
        write_text(self.history_path, "".join(whole))


@contextmanager
def only_process(folder: Path, *, wait_seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Keep a work folder for this process; a killed one leaves it free. ValueError if another one trains in it."""
    lock_path = Path(folder).with_name(f"{Path(folder).name}.lock")

    def busy() -> str:
        owner = lock_path.read_text() if lock_path.exists() else "another"
        return f"process {owner} is training with {lock_path} (wait for it, or end it: kill {owner})"

    with locked(lock_path, busy, wait_seconds=wait_seconds):
        lock_path.write_text(str(os.getpid()))
        try:
            yield
        finally:
            lock_path.unlink(missing_ok=True)
