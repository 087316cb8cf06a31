"""Jobs in threads: order, limits, errors."""

import threading
import time
from collections.abc import Callable

import pytest

from ndpnet.storage.workers import Workers

TIME_LIMIT = 20.0


def test_all_jobs_are_done_those_that_jobs_add_too() -> None:
    done: list[str] = []
    with Workers(3, threading.Event()) as workers:

        def large(number: int) -> Callable[[], None]:
            return lambda: workers.submit_urgent(
                [lambda part=part: done.append(f"{number}.{part}") for part in range(9)]
            )

        for number in range(50):
            workers.submit(large(number))
    assert sorted(done) == sorted(f"{number}.{part}" for number in range(50) for part in range(9))


def test_urgent_jobs_come_first() -> None:
    done: list[str] = []
    gate = threading.Event()
    with Workers(1, threading.Event()) as workers:
        workers.submit(lambda: gate.wait(TIME_LIMIT))
        workers.submit(lambda: done.append("later"))
        workers.submit_urgent([lambda: done.append("first"), lambda: done.append("second")])
        gate.set()
    assert done == ["first", "second", "later"]


def test_few_jobs_wait() -> None:
    gate, num_submitted = threading.Event(), 0
    with Workers(2, threading.Event()) as workers:

        def submit() -> None:
            nonlocal num_submitted
            for _ in range(100):
                workers.submit(lambda: gate.wait(TIME_LIMIT))
                num_submitted += 1

        thread = threading.Thread(target=submit)
        thread.start()
        thread.join(0.3)
        num_before = num_submitted
        gate.set()
        thread.join(TIME_LIMIT)
    assert num_before <= 2 + 4
    assert num_submitted == 100


def test_the_first_error_ends_all_soon() -> None:
    stop, done = threading.Event(), []

    def fail() -> None:
        raise ValueError("the first")

    def ends_with_the_others() -> None:
        stop.wait(TIME_LIMIT)
        raise ValueError("comes of the stop")

    def run() -> None:
        with Workers(3, stop) as workers:
            workers.submit(ends_with_the_others)
            workers.submit(lambda: time.sleep(TIME_LIMIT))  # waits for a dead server
            workers.submit(fail)
            for _ in range(100):
                workers.submit(lambda: done.append(1))
            assert workers.has_stopped

    started = time.monotonic()
    with pytest.raises(ValueError, match="the first"):
        run()
    assert time.monotonic() - started < TIME_LIMIT / 2
    assert not done


def test_an_error_of_the_submitter_is_its_own() -> None:
    stop = threading.Event()

    def fails_late() -> None:
        stop.wait(TIME_LIMIT)
        raise ValueError("comes of the stop")

    def run() -> None:
        with Workers(2, stop) as workers:
            workers.submit(fails_late)
            raise KeyError("listing")

    with pytest.raises(KeyError, match="listing"):
        run()
    assert stop.is_set()
