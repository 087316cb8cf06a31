"""Checkpoints: written whole or not at all, found again by the hash of what is being trained."""

import json
import os
from pathlib import Path
from typing import Any

import torch


class Checkpoint:
    """One work folder: the latest state, and the history up to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_path = self.folder / "state.pt"
        self.history_path = self.folder / "history.jsonl"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the latest state; a kill at any moment leaves the old one or the new one."""
        unfinished = self.state_path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.state_path)

    def load(self) -> dict[str, Any] | None:
        """The latest state, None if there is none; the history is cut back to it."""
        if not self.state_path.is_file():
            self.history_path.unlink(missing_ok=True)
            return None
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        self._cut_history(state["step"])
        return state

    def append_history(self, rows: list[dict[str, float]]) -> None:
        """Add rows, each with its `step`: the number of steps done, from 1."""
        with self.history_path.open("a") as file:
            file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)

    def _cut_history(self, last_step: int) -> None:
        """Drop rows after `last_step`, and a line that a kill left half written."""
        if not self.history_path.is_file():
            return
        lines = self.history_path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last_step]
        unfinished = self.history_path.with_suffix(".tmp")
        unfinished.write_text("".join(kept))
        os.replace(unfinished, self.history_path)
