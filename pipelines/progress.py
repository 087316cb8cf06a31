"""How a followed run is shown: a table that is drawn anew on a terminal, else one line per change."""

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
    """All tasks, one line each, drawn over the lines of the last call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._num_lines = stream, 0

    def __call__(self, state: str, tasks: list[Task]) -> None:
        """Draw the tasks as they are now."""
        lines = [f"{MARKS.get(task.state, '.')} {task}" for task in tasks] + [f"run: {state.lower()}"]
        up = f"\x1b[{self._num_lines}A" if self._num_lines else ""
        self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        self._stream.flush()
        self._num_lines = len(lines)


def progress_on(stream: TextIO) -> Lines | Table:
    """What fits the stream."""
    return Table(stream) if stream.isatty() else Lines(stream)
