"""What paired timings of two versions of the code show: estimate, bounds, verdict, and how many pairs that takes.

A pair is one process of each version. They measure a cell in turns, and a coin says which has the first. The pair's number is the
median of the turns' log ratios, above 0 where the head is slower. The estimate is Hodges and Lehmann's: the median of the means of
every two pairs. Its bounds come from the exact distribution of Wilcoxon's signed-rank statistic. Where nothing changed, the coin
makes a pair's number symmetric around 0, whatever the distribution of the timings is. So the bounds hold exactly, for few pairs
too. A t interval would need normal numbers, far out in their tails.

Each bound is one-sided at 99%, corrected by Bonferroni over all timings of a call, and over all its peaks of memory: the bounds of
either kind hold together with 99%. Numbers of pairs and powers are those of one round.
So a bound exists only from ``log2(comparisons / 0.01)`` pairs on: 6 pairs cannot carry 20 comparisons, 11 can.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.findings import Verdict
from benchmarks.text import change, percent

LEVEL = 0.01  # the chance that any bound of a call is missed
MARGIN = 0.05  # a slow-down up to this is none
EFFECT = 0.20  # what the number of pairs is chosen to find
POWER = 0.95
ASSUMED_SPREAD = 0.05  # standard deviation of the pairs' log ratios, until some are measured
MOST_PAIRS = 200
_DRAWS, _SEED = 2000, 20_260_104

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """How much slower the head is, as a share (0.2: a fifth slower), with its corrected 99% bounds.

    A bound is ``None`` where there are too few pairs for one. ``spread`` is the standard deviation of the log ratios.
    """

    value: float
    low: float | None
    high: float | None
    spread: float
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When a slow-down is a regression: beyond ``margin``, with a bound that is corrected over ``comparisons``."""

    comparisons: int
    margin: float = MARGIN
    level: float = LEVEL

    @property
    def alpha(self) -> float:
        """The chance that one bound is missed."""
        return self.level / self.comparisons


def effect(ratios: Sequence[float], rule: Rule) -> Effect:
    """The effect that log ratios show, one a pair.

    Raises:
        ValueError: fewer than 2 pairs, or a number that is not finite.
    """
    logs = np.asarray(ratios, dtype=np.float64)
    if logs.size < 2 or not np.isfinite(logs).all():
        raise ValueError(f"ratios: {logs.size} log ratios, finite: {bool(np.isfinite(logs).all())}; expected at least 2 finite ones")
    row, column = np.triu_indices(logs.size)
    averages = np.sort((logs[row] + logs[column]) / 2)
    outside = critical(logs.size, rule.alpha)
    return Effect(
        value=math.expm1(float(np.median(averages))),
        low=None if outside is None else math.expm1(float(averages[outside])),
        high=None if outside is None else math.expm1(float(averages[-1 - outside])),
        spread=float(logs.std(ddof=1)),
        pairs=int(logs.size),
    )


@dataclass(frozen=True, slots=True)
class Words:
    """The words for more and less of what is compared."""

    more: str
    less: str
    increase: str


TIME, MEMORY = Words("slower", "faster", "a slow-down"), Words("larger", "smaller", "a growth")


def judge(effect: Effect, rule: Rule, words: Words = TIME) -> tuple[Verdict, str]:
    """The verdict of one comparison, and why."""
    slower, faster = rule.margin, 1 / (1 + rule.margin) - 1
    value, low, high = effect.value, effect.low, effect.high
    if low is None or high is None:
        least = least_pairs(rule)
        return Verdict.AMBIGUOUS, f"{effect.pairs} pairs carry no 99% bound over {rule.comparisons} comparisons; at least {least} do"
    if value > slower and low > slower:
        return Verdict.REGRESSION, f"{words.more} by {percent(value)}, with 99% certainty by more than {percent(low)}"
    if value < faster and high < faster:
        return Verdict.IMPROVED, f"{words.less}: {change(value)}, with 99% certainty below {change(high)}"
    if faster <= value <= slower and high <= slower:
        return Verdict.PASS, ""
    if value < faster and high <= slower:
        return Verdict.AMBIGUOUS, f"perhaps {words.less}, but its 99% bound, {change(high)}, is not beyond the margin"
    bounds = f"{change(low)} to {change(high)}"
    return Verdict.AMBIGUOUS, f"{words.increase} by more than {slower:.0%} is neither shown nor ruled out: 99% bounds {bounds}"


@functools.cache
def critical(pairs: int, alpha: float) -> int | None:
    """The largest signed-rank sum that chance stays at or below with at most ``alpha``; ``None`` where there is none."""
    chances = np.ones(1)
    for rank in range(1, pairs + 1):
        chances = np.concatenate([chances, np.zeros(rank)]) + np.concatenate([np.zeros(rank), chances])
        chances /= 2
    below = int(np.searchsorted(np.cumsum(chances), alpha * (1 + 1e-9), side="right"))
    return below - 1 if below else None


def least_pairs(rule: Rule) -> int:
    """The fewest pairs that carry a bound at all."""
    return next(pairs for pairs in range(2, 64) if critical(pairs, rule.alpha) is not None)


@functools.cache
def power(slow_down: float, *, spread: float, pairs: int, rule: Rule) -> float:
    """How often a slow-down is found, by a seeded simulation with normal log ratios.

    The lower bound lies beyond the margin exactly where the signed-rank sum of the ratios below the margin is at most critical.
    """
    outside = critical(pairs, rule.alpha)
    if outside is None:
        return 0.0
    shift = math.log1p(slow_down) - math.log1p(rule.margin)
    logs = _normal_draws()[:, :pairs] * spread + shift
    ranks = np.abs(logs).argsort(axis=1).argsort(axis=1) + 1
    return float(((ranks * (logs < 0)).sum(axis=1) <= outside).mean())


@functools.cache
def _normal_draws() -> Floats:
    draws: Floats = np.random.default_rng(_SEED).normal(size=(_DRAWS, MOST_PAIRS))
    return draws


def pairs_needed(slow_down: float, *, spread: float, rule: Rule, least_power: float = POWER) -> int | None:
    """The fewest pairs that find a slow-down with ``least_power`` or more; ``None`` where 200 do not."""
    spread = math.ceil(spread * 1000) / 1000  # many comparisons of a call then share their simulations
    low = least_pairs(rule)
    if power(slow_down, spread=spread, pairs=low, rule=rule) >= least_power:
        return low
    high = MOST_PAIRS
    if power(slow_down, spread=spread, pairs=high, rule=rule) < least_power:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(slow_down, spread=spread, pairs=middle, rule=rule) >= least_power:
            high = middle
        else:
            low = middle + 1
    return low


def smallest_effect(*, spread: float, pairs: int, rule: Rule, least_power: float = POWER) -> float | None:
    """The smallest slow-down that so many pairs find with ``least_power``, to a tenth of a percent; ``None`` above 100%."""
    spread = math.ceil(spread * 1000) / 1000
    low, high = int(rule.margin * 1000), 1000
    if power(high / 1000, spread=spread, pairs=pairs, rule=rule) < least_power:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(middle / 1000, spread=spread, pairs=pairs, rule=rule) >= least_power:
            high = middle
        else:
            low = middle + 1
    return low / 1000
