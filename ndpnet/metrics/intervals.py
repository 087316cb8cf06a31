"""95 % intervals that hold with few groups of images that look alike, by simulation: docs/method.md says how often.

What a metric scatters by is seen by leaving out each group in turn. Of the image ROCAUC that is Obuchowski's variance
of clustered data (1997) up to a factor of (G - 1) / G; quantiles are those of Student's t over the groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

Bounds = tuple[float, float]
# weights (D, N) of the images in D draws -> values (D,), NaN = undefined
Statistic = Callable[[np.ndarray], np.ndarray]

TAIL = 0.025  # on either side
MAX_BLOCKS = 256  # left out in turn, per kind of group: more groups are left out several at a time
CHANCE_SHARE = 0.25  # of a group that is ranked by chance, added to those at hand: near 100 % they are all too alike
NO_SPREAD = 1e-12
CHUNK_CELLS = 4_000_000  # of weights held at once, 32 MB


@dataclass(frozen=True)
class Spread:
    """Standard error of a metric (0: no group changes it; NaN: it needs each), and independent units behind it."""

    error: float
    num_units: int

    @property
    def degrees(self) -> int:
        """Degrees of freedom of its t quantiles."""
        return min(self.num_units, MAX_BLOCKS) - 1

    @property
    def is_known(self) -> bool:
        """Whether there are units enough to see any spread."""
        return bool(np.isfinite(self.error)) and self.degrees > 0


def jackknife(statistic: Statistic, groups: Sequence[str] | np.ndarray, classes: Sequence[np.ndarray]) -> Spread:
    """Spread of a metric over groups of images. groups: (N,); classes: bool (N,) each, what the metric cannot lack.

    Units are the groups of the class that has the fewest.
    """
    block, factors, num_units = _blocks(np.asarray(groups, dtype=str), classes)
    parts = np.array_split(np.arange(factors.size), 1 + factors.size * block.size // CHUNK_CELLS)
    without = [statistic((part[:, None] != block).astype(np.float64)) for part in parts]
    changes = np.concatenate(without) - statistic(np.ones((1, block.size)))
    return Spread(float(np.sqrt((factors * changes**2).sum())), num_units)


def metric_interval(value: float, spread: Spread, *, chance_share: float = 0.0) -> Bounds:
    """Interval of a metric in [0, 1], symmetric on the logit scale; (0, 1) where nothing shows its spread.

    Without any spread, as at 100 %, that of a rate seen in as many trials as there are units: of n independent pairs of
    a defective and a good image all are ranked right with a probability of ROCAUC^n.
    """
    if not spread.is_known:
        return 0.0, 1.0
    if spread.error < NO_SPREAD or value in (0.0, 1.0):
        return clopper_pearson(value * spread.num_units, spread.num_units)
    share = chance_share / (spread.num_units + chance_share)
    mixed = (1 - share) * value + share * 0.5, float(np.hypot((1 - share) * spread.error, share * (value - 0.5)))
    ends = [_logit_interval(*estimate, spread.degrees) for estimate in ((value, spread.error), mixed)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def smallest_difference(difference: float, spread: Spread) -> float:
    """Lower end of the interval of a paired difference of two metrics, whose spread is known."""
    return difference - margin(spread, TAIL)


def margin(spread: Spread, tail: float) -> float:
    """How far a paired difference falls below its expectation, or further, on the share `tail` of test sets.

    Without any spread: the share of units that may differ although none at hand does.
    """
    if spread.error < NO_SPREAD:
        return 1.0 - tail ** (1.0 / spread.num_units)
    return float(stats.t.isf(tail, spread.degrees) * spread.error)


def refused_share(spread: Spread, tolerance: float) -> float:
    """How often two equally good models seem to differ: `smallest_difference` lies below -tolerance."""
    if spread.error < NO_SPREAD:
        return float(margin(spread, TAIL) > tolerance)
    return float(stats.t.cdf(stats.t.isf(TAIL, spread.degrees) - tolerance / spread.error, spread.degrees))


def rate_interval(hits: np.ndarray, groups: Sequence[str]) -> Bounds:
    """Clopper-Pearson at the effective sample size (Korn and Graubard 1998). hits: bool (N,), N > 0; groups: (N,).

    Where all images agree it is the number of groups: nothing then shows how far images of a group are alike.
    """
    hits = np.asarray(hits, dtype=bool)
    _, unit = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return clopper_pearson(hits.mean() * (size := _effective_size(hits, unit)), size)


def clopper_pearson(hits: float, trials: float) -> Bounds:
    """Exact binomial interval of a rate, hits out of trials > 0: quantiles of two beta distributions."""
    low = float(stats.beta.ppf(TAIL, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.isf(TAIL, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def _effective_size(hits: np.ndarray, unit: np.ndarray) -> float:
    """Independent images that would tell as much. One more group, whose images agree, is added to the variance."""
    num_images, num_units, rate = hits.size, unit.max() + 1, hits.mean()
    if num_units in (1, num_images) or rate in (0.0, 1.0):
        return float(num_units)
    # how far leaving out each group moves the rate: one that has most images moves it most
    changes = np.bincount(unit, weights=hits - rate) / (num_images - np.bincount(unit))
    variance = (num_units - 1) / num_units * (changes**2).sum()
    binomial = rate * (1 - rate)
    variance = (num_units * variance + binomial / num_units) / (num_units + 1)
    quantiles = stats.norm.isf(TAIL) / stats.t.isf(TAIL, num_units - 1)
    return float(np.clip(binomial / variance * quantiles**2, 1.0, num_images))


def _blocks(groups: np.ndarray, classes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """Block of every image (N,), factor of every block's squared change (B,), and groups of the rarest class.

    Groups that hold the same classes scatter about one mean: with n blocks of a kind the factor is (n - 1) / n.
    """
    _, unit = np.unique(groups, return_inverse=True)
    holds = np.stack([np.bincount(unit, weights=rows) > 0 for rows in classes])
    kind = holds.T @ (1 << np.arange(len(classes)))
    block = np.empty(kind.size, dtype=np.int64)
    factors: list[float] = []
    for pattern in np.unique(kind):
        members = np.flatnonzero(kind == pattern)
        count = min(members.size, MAX_BLOCKS)
        block[members] = len(factors) + np.arange(members.size) % count
        factors += [max(count - 1, 1) / count] * count
    return block[unit], np.array(factors), int(holds.sum(axis=1).min())


def _logit_interval(value: float, error: float, degrees: int) -> Bounds:
    scale = value * (1 - value)
    ends = special.logit(value) + np.array([-1, 1]) * stats.t.isf(TAIL, degrees) * error / scale
    low, high = special.expit(ends)
    return float(low), float(high)
