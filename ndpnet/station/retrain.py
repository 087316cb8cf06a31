"""Training anew, by DVC or Kubeflow, from a new version of the data: the old one and reviewed pictures."""

import json
import os
import sys
import threading
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import TYPE_CHECKING, Any

from ndpnet.commands import git
from ndpnet.station.loop import export_batch
from ndpnet.station.tables import GOOD, RETRAIN, RETRAINED

if TYPE_CHECKING:
    from ndpnet.station.station import Station

REFUSED = 3  # exit code of `ndpnet promote`
NICE = ("nice", "-n", "19")  # the station judges meanwhile
PYTHON = (*NICE, sys.executable, "-m")  # in the checkout: its own code, not the station's


class Retraining:
    """Does what was asked for last and is not done; killed, it begins again: every command goes on where it was."""

    def __init__(self, station: "Station") -> None:
        assert station.config.checkout is not None
        self._station, self._journal, self._checkout = station, station.journal, station.config.checkout
        self._folder = station.config.folder / "retrain"
        self._process: Popen[bytes] | None = None
        self._is_closed = threading.Event()

    def is_asked(self, line: str) -> bool:
        """Whether a training of a line was asked for at this station, and has not ended."""
        event = self._journal.last_event(line, RETRAIN, RETRAINED)
        return event is not None and event["kind"] == RETRAIN

    def step(self) -> None:
        """Train, if it was asked for."""
        for line in filter(self.is_asked, self._station.lines):
            try:
                facts = self._train(line)
            except (ValueError, OSError) as error:
                facts = {"outcome": "failed", "reason": " ".join(str(error).split())}
            if self._is_closed.is_set():
                return  # the next start goes on
            self._journal.note(RETRAINED, facts, line=line)

    def close(self) -> None:
        """End a training that runs."""
        self._is_closed.set()
        process = self._process
        if process is not None:
            process.terminate()

    def _train(self, line: str) -> dict[str, Any]:
        category = self._station.lines[line].model.facts["category"]
        batch_dir = self._folder / line
        export_batch(self._journal, self._station.store, line, batch_dir)
        self._run("ndpnet", "data", "add", str(batch_dir / GOOD), "--category", category)
        if git(self._checkout, "status", "--porcelain", "data.dvc"):
            git(self._checkout, "commit", "--message", f"Add reviewed pictures of {line} to {category}", "data.dvc")
        if self._station.config.retrain == "kfp":
            self._run("dvc", "push")
            git(self._checkout, "push")
            _, said = self._run("ndpnet", "pipeline", "submit", "--category", category)
            return {"outcome": "submitted", "reason": said}
        self._run("dvc", "repro")
        build_dir = Path("build") / category
        outputs = ("--model", build_dir / "model", "--evaluation", build_dir / "evaluation")
        self._run("ndpnet", "register", *map(str, outputs), "--out", str(build_dir / "registered"))
        version = json.loads((self._checkout / build_dir / "registered/registered.json").read_text())["version"]
        promote = ("ndpnet", "promote", f"ndpnet-{category}", "--version", str(version))
        status, said = self._run(*promote, allowed=(0, REFUSED))
        return {"outcome": "refused" if status == REFUSED else "promoted", "reason": said}

    def _run(self, *command: str, allowed: tuple[int, ...] = (0,)) -> tuple[int, str]:
        """Run a program of this environment in the checkout. -> exit code, its last line. ValueError: it failed."""
        if self._is_closed.is_set():
            raise ValueError("the station ends")
        log_path = self._folder / "log.txt"
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
        with log_path.open("w+", encoding="utf-8") as log:
            self._process = Popen(
                [*PYTHON, *command], cwd=self._checkout, env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT
            )
            status = self._process.wait()
            log.seek(0)
            last = (log.read().strip().splitlines() or [""])[-1]
        if status not in allowed:
            raise ValueError(f"`{' '.join(command[:3])}` ended with {status}: {last} (all it said: {log_path})")
        return status, last
