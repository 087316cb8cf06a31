"""Has the line changed? Online conformal p-values and a restarting test martingale, with a bound on false alarms.

While pictures are exchangeable with those of calibration, smoothed conformal p-values are independent and uniform,
exactly (Vovk 2003). A bet on them multiplies its capital by e with E[e | past] <= 1, and R <- (1 + R) e has E[R_n] <= n
(Shiryaev-Roberts). So the chance that R reaches c within n pictures is at most n / c, and that of a mean of several R.
"""

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

JUMP = 0.01  # share of the capital that changes its bet at every picture: how fast a change is followed
POWERS = (0.2, 0.4, 0.7)
RATE_STEPS = (1.5, 2.5, 5.0, 10.0)  # by which the rate of pictures that are not good may have risen
MIN_P = 1e-12
MAX_STATISTIC = 1e15
NUM_RECENT, NUM_FIRST = 20, 50  # pictures whose median says how the line is now, and how it was without calibration
SCORE, NOT_GOOD = "score", "not good"


class Bets:
    """Capital spread over bets, a little of it changing sides at every step; the statistic starts anew at any.

    Plain numbers: for so few of them arrays take several times as long.
    """

    def __init__(self, num_bets: int) -> None:
        self._weights = [1.0 / num_bets] * num_bets
        self.statistic = 0.0  # what is compared with the number of pictures per false alarm

    def settle(self, payouts: Sequence[float]) -> None:
        """Take the payouts of one picture. payouts: (num_bets,), each of mean 1 at most while nothing has changed."""
        gains = [weight * payout for weight, payout in zip(self._weights, payouts, strict=True)]
        total = sum(gains)
        self.statistic = min((1.0 + self.statistic) * total, MAX_STATISTIC)
        self._weights = [(1.0 - JUMP) * gain / total + JUMP / len(gains) for gain in gains]


class ConformalWatch(Bets):
    """Bets that the p-values of a number are not uniform; every picture joins those that the next is compared with."""

    def __init__(self, calibration: Sequence[float]) -> None:
        super().__init__(len(payouts_of(0.5)))
        self._bag = sorted(calibration)

    def add(self, value: float, tie_breaker: float) -> float:
        """Take a picture's number. tie_breaker: uniform in (0, 1), independent of it. -> its p-value"""
        at_most = bisect_right(self._bag, value)
        num_equal, num_above = at_most - bisect_left(self._bag, value), len(self._bag) - at_most
        p = (num_above + tie_breaker * (num_equal + 1)) / (len(self._bag) + 1)
        insort(self._bag, value)
        self.settle(payouts_of(p))
        return p


class RateWatch(Bets):
    """Bets that pictures are not good more often than with the rate `highest`."""

    def __init__(self, highest: float) -> None:
        super().__init__(len(RATE_STEPS))
        self._highest = min(max(highest, 1e-6), 0.9)
        # at most 1 - (1 - highest) / 2: a rate of 1 would lose all at the first good picture
        rates = [min(self._highest * step, (1.0 + self._highest) / 2) for step in RATE_STEPS]
        self._if_not_good = [rate / self._highest for rate in rates]
        self._if_good = [(1.0 - rate) / (1.0 - self._highest) for rate in rates]

    def add(self, is_good: bool) -> None:
        """Take a verdict."""
        self.settle(self._if_good if is_good else self._if_not_good)


@dataclass(frozen=True)
class Change:
    """How a property is now, beside what it was: medians."""

    name: str
    before: float
    now: float
    statistic: float


class LineWatch:
    """All watches of a line. It rings when the mean of their statistics reaches `pictures_per_false_alarm`.

    scores, and each of properties: of calibration pictures, one of each independent unit, (N,); without them, the first
    pictures of the line stand for them. Only pictures below the threshold are compared, on both sides: defects are no
    drift.
    """

    def __init__(
        self,
        scores: Sequence[float],
        properties: Mapping[str, Sequence[float]],
        *,
        threshold: float,
        highest_rate: float,
        pictures_per_false_alarm: float,
    ) -> None:
        # the threshold is one of these scores: the others that it lets pass are as any good picture, itself is not
        good = [index for index, score in enumerate(scores) if score <= threshold]
        own = next((index for index in good if scores[index] == threshold), None)
        good = [index for index in good if index != own]
        self._threshold, self._limit = threshold, pictures_per_false_alarm
        self._calibration = {SCORE: [scores[index] for index in good]}
        self._calibration |= {
            name: [values[index] for index in good] if values else [] for name, values in properties.items()
        }
        self._watches = {name: ConformalWatch(values) for name, values in self._calibration.items()}
        # of all pictures, to name what has lifted them above the threshold; defects are among them: it rings no alarm
        self._hints = {name: ConformalWatch(list(values)) for name, values in properties.items()}
        self._rate = RateWatch(highest_rate)
        self._first: dict[str, list[float]] = {name: [] for name in self._calibration}
        self._recent: dict[str, deque[float]] = {name: deque(maxlen=NUM_RECENT) for name in self._calibration}
        self._recent_good: deque[bool] = deque(maxlen=NUM_RECENT)
        self.num_pictures = 0
        self._highest_rate = highest_rate

    @property
    def statistic(self) -> float:
        """Mean over all watches: at most the number of pictures in the mean, while nothing has changed."""
        values = [self._rate.statistic, *(watch.statistic for watch in self._watches.values())]
        return sum(values) / len(values)

    @property
    def rings(self) -> bool:
        """Whether the line has changed."""
        return self.statistic >= self._limit

    def add(self, picture: int | str, score: float, properties: Mapping[str, float]) -> None:
        """Take a picture's score and properties; `picture` is its id, and decides ties."""
        values = {SCORE: score, **properties}
        is_good = score <= self._threshold
        self.num_pictures += 1
        self._rate.add(is_good)
        self._recent_good.append(is_good)
        for name, hint in self._hints.items():
            hint.add(values[name], _uniform(picture, f"{name} of all"))
        for name in self._watches:
            self._recent[name].append(values[name])
            if is_good:
                self._watches[name].add(values[name], _uniform(picture, name))
                if len(self._first[name]) < NUM_FIRST:
                    self._first[name].append(values[name])

    def changes(self) -> list[Change]:
        """What the line is like now beside calibration, the surest change first."""
        changes = []
        for name, watch in self._watches.items():
            before, now = self._calibration[name] or self._first[name], self._recent[name]
            if before and now:
                evidence = max(watch.statistic, self._hints[name].statistic if name in self._hints else 0.0)
                changes.append(Change(name, float(np.median(before)), float(np.median(list(now))), evidence))
        if self._recent_good:
            share = 1.0 - sum(self._recent_good) / len(self._recent_good)
            changes.append(Change(NOT_GOOD, self._highest_rate, share, self._rate.statistic))
        return sorted(changes, key=lambda change: -change.statistic)


def payouts_of(p: float) -> list[float]:
    """What the bets on a p-value pay: densities on [0, 1], for small, large, extreme, and middling ones. -> (9,)"""
    p = min(max(p, MIN_P), 1.0 - MIN_P)
    small, large = ([power * x ** (power - 1.0) for power in POWERS] for x in (p, 1.0 - p))
    return [1.0, *small, *large, (small[1] + large[1]) / 2, 6.0 * p * (1.0 - p)]


def false_alarms_per_year(pictures_per_false_alarm: float, pictures_per_day: float) -> float:
    """At most so many on average, while the line stays as it was."""
    return 365.0 * pictures_per_day / pictures_per_false_alarm


def _uniform(picture: int | str, name: str) -> float:
    """A number in (0, 1) that looks random and is the same whenever the picture is counted again."""
    digest = hashlib.blake2b(f"{picture} {name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64
