"""Delivering a step's run while it runs, from a thread of its own: the step never waits for the tracking server.

The thread reads files that the step writes and sends what is new. It may fail, be slow or die with the process at any
moment: all that it has not delivered lies in the run's folder, and a later delivery takes it from there.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.locks import locked
from ndpnet.redaction import redact
from ndpnet.tracking import client as settings
from ndpnet.tracking.identity import run_identity
from ndpnet.tracking.record import HISTORY, Record, finish, new_record, records_below, remove_superseded
from ndpnet.training.processes import is_first_process

if TYPE_CHECKING:
    from ndpnet.tracking.delivery import Delivery

POLL_SECONDS, LAST_RETRY_SECONDS, RETRY_SECONDS = 1.0, 0.5, 15.0  # the last: while the server is down
# how long the end of a step waits: for a server, and for a database on this disk
FLUSH_SECONDS, LOCAL_FLUSH_SECONDS = 30.0, 60.0
LOCK_SECONDS = 0.5
MAX_REASON = 200  # characters

logger = logging.getLogger(__name__)


@dataclass
class StepRun:
    """What a step's adapter sees of its run. watch_dir: where a training shows itself; None: it is not tracked."""

    watch_dir: Path | None = None
    returned: Mapping[str, Any] = field(default_factory=dict)

    def result(self, returned: dict[str, Any]) -> dict[str, Any]:
        """Note what the step returned. -> the same"""
        self.returned = returned
        return returned


@contextmanager
def step_run(step: str, category: str = "", *, out: Path, **inputs: Any) -> Iterator[StepRun]:
    """Track the step that runs in the block of this: a run that ends as the block does. Where tracking is off: nothing.

    inputs: what else `new_record` takes. No error of the tracking server comes out of here. Of the processes of one
    training the first tracks. ValueError: an input is not there; then the run that made `out` stays as it is.
    """
    for path in inputs.get("inputs", {}).values():
        if not Path(path).is_dir():
            raise ValueError(f"no folder {path} (check the path, or run the step that makes it)")
    with ExitStack() as held:  # the record's folder, until this process is done with it
        run, sender, started = StepRun(), None, time.monotonic()
        if is_first_process() and not settings.is_off():
            try:
                record = new_record(step, category, out=Path(out), identity=run_identity(), **inputs)
                # who looks whether it is locked holds the lock for a moment
                busy = f"another process runs {record.name} with the same inputs"
                held.enter_context(locked(record.folder, busy, is_folder=True, wait_seconds=LOCK_SECONDS))
                run.watch_dir, sender = record.folder, Sender(record, Path(out))
            except Exception as error:  # tracking fails no step: a wrong input is the step's to name
                logger.warning("this run is not tracked: %s", redact(error)[:MAX_REASON])
        ended: BaseException | None = None
        try:
            yield run
        except BaseException as error:
            ended = error
            raise
        finally:
            if sender is not None:
                sender.end(ended, {**run.returned, "step_seconds": time.monotonic() - started})


class Sender:
    """Delivers one step's run from now on, until `end`, which neither raises nor waits long."""

    def __init__(self, record: Record, out: Path) -> None:
        self.record, self.out = record, out
        (record.folder / HISTORY).unlink(missing_ok=True)  # of an earlier end
        record.save()
        self._delivery: Delivery | None = None
        self._has_ended, self._is_given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)
        self._thread.start()

    def end(self, error: BaseException | None, result: Mapping[str, Any]) -> None:
        """Note the end, keep what is to be delivered, and wait a few seconds for it to be."""
        try:
            if error is None:
                finish(self.record, self.out, result)
            elif isinstance(error, KeyboardInterrupt):
                self.record.end("killed", "interrupted")
            else:
                self.record.end("failed", redact(f"{type(error).__name__}: {error}"))
            self.record.save()
        except Exception as problem:  # a full disk, say: the step's own result is what counts
            logger.warning("this run is not tracked to its end: %s", redact(problem)[:MAX_REASON])
        else:
            self._has_ended.set()
            self._thread.join(LOCAL_FLUSH_SECONDS if settings.local_database() else FLUSH_SECONDS)
        self._is_given_up.set()
        if self._has_ended.is_set() and not self.record.is_delivered:
            logger.warning(
                "the run of %s is not on the tracking server yet (deliver it with `ndpnet tracking flush %s`)",
                self.record.name,
                self.out.parent.parent if self.out.parent.parent.name == "build" else self.out.parent,
            )

    def _follow(self) -> None:
        """The thread: until the step has ended and all is delivered."""
        is_down, is_swept = False, False
        while not self._is_given_up.is_set():
            is_last = self._has_ended.is_set()
            try:
                self._send(is_last=is_last)
                if not is_swept:
                    is_swept = True
                    self._deliver_earlier_runs()
                if is_down:
                    logger.info("the tracking server is back: the run is delivered")
                is_down = False
                if is_last:
                    return
            except Exception as error:  # whatever the network, the server or a full disk comes up with
                self._delivery = None  # the next attempt looks for the run again, and asks the server what it has
                if not is_down:
                    reason = redact(error)[:MAX_REASON]
                    logger.warning("the tracking server does not take the run, the step goes on: %s", reason)
                is_down = True
            if is_last:
                time.sleep(LAST_RETRY_SECONDS)
            else:
                self._has_ended.wait(RETRY_SECONDS if is_down else POLL_SECONDS)

    def _send(self, *, is_last: bool) -> None:
        from ndpnet.tracking.delivery import Delivery

        if self._delivery is None:
            self._delivery = Delivery(settings.connect(is_begun=False), self.record)
        self._delivery.send(is_last=is_last)
        if is_last:
            remove_superseded(self.out, self.record.key)

    def _deliver_earlier_runs(self) -> None:
        """What killed processes, or a server that was down, have left of this category's other steps."""
        from ndpnet.tracking.delivery import deliver_all

        folder = self.out.resolve().parent
        earlier = [*records_below(folder, is_deep=False), *records_below(folder.parent, is_deep=False)]
        for name, outcome in deliver_all(record for record in earlier if record.folder != self.record.folder):
            logger.info("%s: %s", name, outcome)
            if self._has_ended.is_set() and not self.record.is_delivered:
                return  # its own end first
