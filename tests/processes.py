"""Real processes for the tests: the command line in a child of a server that has torch and MLflow loaded already."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

TIME_LIMIT = 240.0  # seconds, for any one process

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = """ndpnet.cli ndpnet.steps ndpnet.training.run ndpnet.evaluation.evaluate ndpnet.inference.calibration
    ndpnet.inference.folder ndpnet.station.station ndpnet.station.routes ndpnet.tracking.models
    mlflow.store.tracking.sqlalchemy_store mlflow.store.model_registry.sqlalchemy_store"""
SERVER.set_forkserver_preload(PRELOADED.split())


@dataclass(frozen=True)
class Finished:
    """How a process ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def error_lines(self) -> list[str]:
        """Standard error without the log's lines."""
        is_log = [line[2:3] == line[5:6] == ":" and line[:2].isdigit() for line in self.stderr.splitlines()]
        return [line for line, skip in zip(self.stderr.splitlines(), is_log, strict=True) if not skip]


def start(
    function: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Start a function of a module in a process of its own, in this environment or another."""
    variables = dict(os.environ if environment is None else environment)
    process = SERVER.Process(target=_call, args=(function, arguments, variables))
    process.start()
    return process


def start_cli(
    arguments: Sequence[object],
    log_path: Path,
    environment: Mapping[str, str] | None = None,
    folder: str | Path = ".",
) -> BaseProcess:
    """Start `ndpnet ARGUMENTS`, in this environment or another, in a folder; it prints to LOG_PATH.out and .err."""
    return start(_call_main, [str(each) for each in arguments], str(log_path), str(folder), environment=environment)


def run_cli(arguments: Sequence[object], log_path: Path, folder: str | Path = ".") -> Finished:
    """Run `ndpnet ARGUMENTS` to its end, or kill it when it takes too long."""
    process = start_cli(arguments, log_path, folder=folder)
    process.join(TIME_LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    return Finished(process.exitcode, *(Path(f"{log_path}.{end}").read_text() for end in ("out", "err")))


def wait_until(condition: Callable[[], Any], seconds: float = TIME_LIMIT, *, what: str = "it did not happen") -> Any:
    """Wait for a condition. -> what it returned; AssertionError: it never came true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return result


def paths_below(folder: Path) -> list[str]:
    """Everything under a folder but the log of `run_cli`."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(path for path in paths if path not in ("log.out", "log.err"))


def kill_when(process: BaseProcess, is_time: Callable[[], bool]) -> bool:
    """SIGKILL a process as soon as `is_time`. -> False if it ended by itself before."""
    deadline = time.monotonic() + TIME_LIMIT
    while process.is_alive() and not is_time():
        assert time.monotonic() < deadline, "it is never time to kill"
        time.sleep(0.0005)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _call(function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str]) -> None:
    # that of the test, which may differ from the one that the server was started in
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def _call_main(arguments: list[str], log_path: str, folder: str) -> None:
    for descriptor, end in ((1, "out"), (2, "err")):
        file = os.open(f"{log_path}.{end}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    os.chdir(folder)
    from ndpnet.cli import main

    main(arguments, prog_name="ndpnet")
