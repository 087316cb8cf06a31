"""Threads that do jobs as they come; the first error stops all of them."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

Job = Callable[[], None]
JOIN_SECONDS = 2.0  # for jobs that are under way when another one failed: they end by themselves at the next chunk


class Workers:
    """A pool of daemon threads: one that waits for a dead server holds up neither an error nor Ctrl-C.

    `submit` blocks while enough jobs wait, so that a listing is read no faster than it is worked off.
    """

    def __init__(self, num_threads: int, stop: threading.Event) -> None:
        self._stop = stop  # the jobs look at it too
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
        self._max_waiting = 2 * num_threads
        self._num_running = 0
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(num_threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all jobs and raise the first error of one; after an error or Ctrl-C here, stop them."""
        if error is None:
            self._wait_for(lambda: not (self._urgent or self._waiting or self._num_running))
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(JOIN_SECONDS / len(self._threads))
        if self._error is not None and (error is None or isinstance(error, Exception)):
            raise self._error

    def submit(self, job: Job) -> None:
        """Add a job behind the others. After an error it is dropped."""
        self._wait_for(lambda: len(self._waiting) < self._max_waiting)
        self._add(self._waiting, [job])

    def submit_urgent(self, jobs: Iterable[Job]) -> None:
        """Add parts of a job under way, before those of `submit`; may be called by a job, never blocks."""
        self._add(self._urgent, jobs)

    @property
    def has_stopped(self) -> bool:
        """Whether a job failed: there is no use in more of them."""
        return self._stop.is_set()

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or is_so())

    def _add(self, jobs: deque[Job], new: Iterable[Job]) -> None:
        with self._changed:
            jobs.extend(new)
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            error = None
            try:
                job()
            except BaseException as failure:
                error = failure
            self._end_job(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or self._urgent or self._waiting)
            if self._stop.is_set():
                return None
            self._num_running += 1
            job = (self._urgent or self._waiting).popleft()
            self._changed.notify_all()
            return job

    def _end_job(self, error: BaseException | None) -> None:
        with self._changed:
            self._num_running -= 1
            if error is not None and not self._stop.is_set():  # later ones come of the stop
                self._error = error
                self._stop.set()
            self._changed.notify_all()


def do_all(jobs: Iterable[Job], *, num_threads: int, stop: threading.Event) -> None:
    """Do jobs side by side and raise the first error of one. `stop`, which they look at, is set by an error alone."""
    try:
        with Workers(num_threads, threading.Event()) as workers:
            for job in jobs:
                if workers.has_stopped:
                    break
                workers.submit(job)
    except BaseException:
        stop.set()  # those under way end, too
        raise
