"""Pictures in threads: in order, and never more pixels at once than the budget."""

import threading
import time

import pytest

from ndpnet.data import threads
from ndpnet.data.threads import map_in_threads


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)))


class Held:
    """Pixels of the pictures that are being read, or read and not yet done with; the most there ever were."""

    def __init__(self) -> None:
        self.lock, self.sizes, self.most = threading.Lock(), [], []

    def read(self, size: int) -> int:
        with self.lock:
            self.sizes.append(size)
            self.most = max(self.most, list(self.sizes), key=sum)
        time.sleep(0.002)
        return size

    def run(self, sizes: list[int]) -> list[int]:
        done = []
        for size in map_in_threads(self.read, sizes, pixels_of=lambda size: size):
            done.append(size)
            with self.lock:
                self.sizes.remove(size)
        return done


def test_results_come_in_order_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "HELD_PIXELS", 100)
    held, sizes = Held(), [30, 40, 20, 10, 60, 90, 5, 5, 5, 50] * 4
    assert held.run(sizes) == sizes
    assert 60 <= sum(held.most) <= 100


def test_a_picture_beyond_the_budget_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "HELD_PIXELS", 100)
    held = Held()
    held.run([10, 20, 500, 10, 400, 30])
    assert held.most == [500]


def test_the_first_error_in_order_is_raised() -> None:
    def read(number: int) -> int:
        time.sleep(0.01 if number == 3 else 0)
        if number in (3, 5):
            raise ValueError(f"picture {number}")
        return number

    with pytest.raises(ValueError, match="picture 3"):
        list(map_in_threads(read, range(100), pixels_of=lambda _: 1))
