"""How a followed run is shown: a table that is drawn anew on a terminal, else one line per change."""

import shutil
from collections.abc import Callable
from typing import TextIO

from pipelines.follow import Task

MARKS = {"SUCCEEDED": "+", "SKIPPED": "-", "FAILED": "x", "RUNNING": ">", "CANCELED": "x", "CANCELING": "x"}


class Lines:
    """One line per change of a state: for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[str, str] = {}

    def __call__(self, state: str, tasks: list[Task]) -> None:
        """Print what has changed since the last call."""
        for task in tasks:
            if self._shown.get(task.name) != task.state:
                self._shown[task.name] = task.state
                print(task, file=self._stream, flush=True)
        if self._shown.get("") != state:
            self._shown[""] = state
            print(f"run: {state.lower()}", file=self._stream, flush=True)


class Table:
    """All tasks, one line each, drawn over the lines of the last call. size: columns and lines of the terminal."""

    def __init__(self, stream: TextIO, size: Callable[[], tuple[int, int]] = shutil.get_terminal_size) -> None:
        self._stream, self._size, self._num_lines = stream, size, 0

    def __call__(self, state: str, tasks: list[Task]) -> None:
        """Draw the tasks as they are now."""
        width, height = self._size()
        lines = [f"{MARKS.get(task.state, '.')} {task}" for task in _most_telling(tasks, max(height - 4, 1))]
        if len(lines) < len(tasks):
            lines.insert(0, f"({len(tasks) - len(lines)} more)")
        lines.append(f"run: {state.lower()}")
        up = f"\x1b[{self._num_lines}A\x1b[J" if self._num_lines else ""
        self._stream.write(up + "".join(f"{line[: width - 1]}\n" for line in lines))
        self._stream.flush()
        self._num_lines = len(lines)


def _most_telling(tasks: list[Task], number: int) -> list[Task]:
    """So many of them, in their order: those that succeeded first are left out first."""
    surplus = len(tasks) - number
    done = [task for task in tasks if task.state in ("SUCCEEDED", "SKIPPED")]
    left_out = [*done, *(task for task in tasks if task not in done)][: max(surplus, 0)]
    return [task for task in tasks if task not in left_out]


def progress_on(stream: TextIO) -> Lines | Table:
    """What fits the stream."""
    return Table(stream) if stream.isatty() else Lines(stream)
