"""Delivering a step's run while it runs, from a thread of its own: the step never waits for the tracking server.

The thread reads files that the step writes and sends what is new. It may fail, be slow or die with the process at any
moment: all that it has not delivered lies in the run's folder, and a later delivery takes it from there.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.redaction import redact
from ndpnet.tracking import client as settings
from ndpnet.tracking.plan import KEPT, add_results, new_record
from ndpnet.tracking.record import (
    PICTURES,
    SAMPLE_SECONDS,
    SYSTEM,
    Record,
    keep_files,
    records_below,
    remove_superseded,
)
from ndpnet.tracking.system import Sampler
from ndpnet.tracking.tail import Tail

if TYPE_CHECKING:
    from ndpnet.tracking.delivery import Delivery

POLL_SECONDS = 1.0
RETRY_SECONDS = (2.0, 4.0, 8.0, 15.0, 30.0)  # between attempts while the server is down
LAST_RETRY_SECONDS = 0.5
# how long the end of a step waits, once MLflow is loaded: for a server, and for a database on this disk
FLUSH_SECONDS, LOCAL_FLUSH_SECONDS, LOAD_SECONDS = 8.0, 60.0, 60.0
MAX_REASON = 200  # characters

logger = logging.getLogger(__name__)


class LiveRun:
    """One step's run: `start`, then `end` in every case. Neither raises nor waits long."""

    def __init__(self, record: Record, out: Path, work_dir: Path | None) -> None:
        self.record, self.out, self.work_dir = record, Path(out), work_dir
        self.pictures_dir = record.folder / PICTURES
        self._sampler = Sampler(record.folder / SYSTEM, int(record.params.get("train.batch_size", 0)))
        self._sampled = time.monotonic()
        self._is_measured = False  # at the end
        self._history: Tail | None = None
        self._system = Tail(record.folder / SYSTEM)
        self._delivery: Delivery | None = None
        self._num_failures = 0
        self._lock = threading.Lock()  # of the record's file
        self._has_ended, self._is_loaded, self._is_done = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def end(self, result: Mapping[str, Any] | None, error: BaseException | None) -> None:
        """Note the end, keep what is to be delivered, and wait a few seconds for it to be."""
        try:
            with self._lock:
                self._note_end(result, error)
        except Exception as problem:  # a full disk, say: the step's own result is what counts
            logger.warning("this run is not tracked to its end: %s", redact(problem)[:MAX_REASON])
            self._is_done.set()
            return
        self._has_ended.set()
        self._is_loaded.wait(LOAD_SECONDS)
        self._is_done.wait(FLUSH_SECONDS if settings.is_remote() else LOCAL_FLUSH_SECONDS)
        self._is_done.set()  # nobody waits any longer
        if not self.record.is_delivered:
            logger.warning(
                "the run of %s is not on the tracking server yet (deliver it with `ndpnet tracking flush %s`)",
                self.record.name,
                _shown(self.out.parent),
            )

    def _note_end(self, result: Mapping[str, Any] | None, error: BaseException | None) -> None:
        record = self.record
        if error is None:
            history, names = KEPT.get(record.step, (None, ()))
            keep_files(record, self.out, history=history, names=names)
            add_results(record, self.out, result or {})
            record.end("finished")
        elif isinstance(error, KeyboardInterrupt):
            record.end("killed", "interrupted")
        else:
            record.end("failed", redact(f"{type(error).__name__}: {error}"))
        record.save()

    def _follow(self) -> None:
        """The thread: until the step has ended and all is delivered."""
        is_swept = False
        while not self._is_done.is_set():
            is_last = self._has_ended.is_set()
            self._observe(is_last)
            is_sent = self._try_to_send(is_last)
            if is_sent and not is_swept:
                is_swept = True
                self._deliver_earlier_runs()
            if is_sent and is_last:
                self._is_done.set()
            elif is_last:
                time.sleep(LAST_RETRY_SECONDS)
            else:
                self._has_ended.wait(self._pause())

    def _pause(self) -> float:
        if not self._num_failures:
            return POLL_SECONDS
        return RETRY_SECONDS[min(self._num_failures, len(RETRY_SECONDS)) - 1]

    def _observe(self, is_last: bool) -> None:
        """Find the history that the step writes, and measure the machine."""
        try:
            if self._history is None and self.work_dir is not None and not is_last:
                self._find_history()
            if time.monotonic() - self._sampled >= SAMPLE_SECONDS or (is_last and not self._is_measured):
                self._sampled, self._is_measured = time.monotonic(), is_last
                self._sampler.sample(self._last_step())
        except (OSError, RuntimeError, ValueError) as error:
            logger.debug("no look at the machine: %s", error)

    def _find_history(self) -> None:
        """The work folder that this process has locked is the one it trains in."""
        for lock in Path(self.work_dir).glob("*.lock"):
            if lock.read_text() == str(os.getpid()):
                path = lock.with_suffix("") / "history.jsonl"
                with self._lock:
                    if self._has_ended.is_set() or self.record.status != "running":
                        return
                    self.record.history = str(path.resolve())
                    self.record.save()
                self._history = Tail(path)

    def _last_step(self) -> int:
        return self._history.last_step() if self._history is not None else 0

    def _try_to_send(self, is_last: bool) -> bool:
        """Whether the server has all that there is now."""
        try:
            self._send(is_last)
        except Exception as error:  # whatever the network, the server or a full disk comes up with: the step goes on
            self._forget_connection(error)
            return False
        finally:
            self._is_loaded.set()
        if self._num_failures:
            logger.info("the tracking server is back: the run is delivered")
        self._num_failures = 0
        return True

    def _send(self, is_last: bool) -> None:
        from ndpnet.tracking.delivery import Delivery

        self._is_loaded.set()
        if self._delivery is None:
            self._delivery = Delivery(settings.connect(), self.record)
        if is_last:
            self._delivery.finish()
            remove_superseded(self.out, self.record.key)
            return
        if self._history is not None:
            self._delivery.send_tail(self._history)
        self._delivery.send_tail(self._system)
        self._delivery.send_pictures()

    def _forget_connection(self, error: Exception) -> None:
        """The next attempt looks for the run again, and asks the server what it has."""
        self._delivery = None
        self._system = Tail(self._system.path)
        self._history = self._history and Tail(self._history.path)
        self._num_failures += 1
        if self._num_failures == 1:
            reason = redact(error)[:MAX_REASON]
            logger.warning("the tracking server does not take the run, the step goes on: %s", reason)

    def _deliver_earlier_runs(self) -> None:
        """What killed processes, or a server that was down, have left of this category's other steps."""
        from ndpnet.tracking.flush import deliver_all

        folder = self.out.resolve().parent
        try:
            earlier = [*records_below(folder, is_deep=False), *records_below(folder.parent, is_deep=False)]
            for name, outcome in deliver_all([each for each in earlier if each.folder != self.record.folder]):
                logger.info("%s: %s", name, outcome)
                if self._has_ended.is_set() and not self.record.is_delivered:
                    return  # its own end first
        except Exception as error:
            logger.debug("earlier runs are not delivered: %s", redact(error))


def start_run(
    step: str,
    category: str,
    *,
    params: Any,
    inputs: Mapping[str, Path],
    out: Path,
    work_dir: Path | None,
    identity: Mapping[str, str],
    source: Mapping[str, str],
) -> LiveRun | None:
    """Note that a step starts, and begin to deliver; None, and a line in the log, where that cannot be."""
    settings.prepare_environment()
    try:
        record = new_record(step, category, params=params, inputs=inputs, out=out, identity=identity, source=source)
        if record is None:
            return None
        run = LiveRun(record, out, work_dir)
        run.start()
    except Exception as error:  # tracking fails no step: a wrong input is the step's to name
        logger.warning("this run is not tracked: %s", redact(error)[:MAX_REASON])
        return None
    return run


def _shown(folder: Path) -> str:
    path = Path(folder)
    return str(path.parent if path.parent.name == "build" else path)
