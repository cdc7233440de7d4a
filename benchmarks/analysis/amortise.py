"""What one request costs when a compressed history serves several of them, and its quality as the history ages meanwhile."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.analysis.configurations import Configuration, has_processes
from benchmarks.analysis.estimates import Estimate, mean_of
from benchmarks.analysis.references import served_alike


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What is paid once per refresh and once per request, in one unit."""

    compress: float
    serve: float

    def per_request(self, requests: float) -> float:
        """``(compress + r * serve) / r`` for ``r`` requests between two refreshes, on average.

        Raises:
            ValueError: ``requests`` is not above 0.
        """
        if not requests > 0:
            raise ValueError(f"requests: {requests} per refresh; expected above 0")
        return (self.compress + requests * self.serve) / requests


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """The numbers of requests per refresh at which one price is no higher than another: ``first`` to ``last``.

    ``first`` is ``None`` where there is no such number, ``last`` is ``None`` where there is no end.
    """

    first: int | None
    last: int | None = None

    def __str__(self) -> str:
        """``from r = 3``, ``up to r = 40`` or ``never``."""
        if self.first is None:
            return "never"
        return f"from r = {self.first:,}" if self.last is None else f"up to r = {self.last:,}"


def break_even(ours: Price, theirs: Price) -> BreakEven:
    """Where ours is no dearer than theirs, solved exactly."""
    once = Fraction(ours.compress) - Fraction(theirs.compress)
    each = Fraction(ours.serve) - Fraction(theirs.serve)
    if each < 0:
        return BreakEven(first=max(1, math.ceil(once / -each)))
    if each == 0:
        return BreakEven(first=1 if once <= 0 else None)
    last = math.floor(-once / each)
    return BreakEven(first=1, last=last) if last >= 1 else BreakEven(first=None)


def flops_price(one: Configuration) -> Price | None:
    """Forward FLOPs per user of a refresh and of a request; ``None`` where either was not measured."""
    compress, serve = one.cost("compress_flops").value, one.cost("serve_flops").value
    return None if compress is None or serve is None else Price(compress=compress, serve=serve)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedPrice:
    """A price in milliseconds with the ends of its interval over processes, which are None where there was a single process."""

    value: Price
    low: Price | None
    high: Price | None


def time_price(one: Configuration) -> TimedPrice | None:
    """Milliseconds per user of a refresh and of a request, from throughput; ``None`` where either was not measured.

    Where a refresh takes no FLOPs there is nothing to time, and its price is 0.
    """
    serve, compress = one.cost("serve_users_per_second"), one.cost("compress_users_per_second")
    nothing_before = one.cost("compress_flops").value == 0

    def price(of_serve: float | None, of_compress: float | None) -> Price | None:
        if not of_serve or not (of_compress or nothing_before):
            return None
        return Price(compress=0.0 if nothing_before or not of_compress else 1000.0 / of_compress, serve=1000.0 / of_serve)

    value, several = price(serve.value, compress.value), all(map(has_processes, one.measured))
    if value is None:
        return None
    return TimedPrice(
        value=value,
        low=price(serve.high, compress.high) if several else None,
        high=price(serve.low, compress.low) if several else None,
    )


def timed_break_even(ours: TimedPrice, theirs: TimedPrice) -> tuple[BreakEven, BreakEven] | None:
    """`break_even` at worst and at best, by the intervals of both; None where a price has none."""
    if ours.low is None or ours.high is None or theirs.low is None or theirs.high is None:
        return None
    return break_even(ours.high, theirs.low), break_even(ours.low, theirs.high)


def weights_of_ages(ages: Sequence[int], requests: int) -> list[float] | None:
    """Weights of the qualities at the measured ``ages``, which are in ascending order, for their mean over the ages 0 to ``requests - 1``.

    A user acts once between two requests, so the last of them finds a history that is ``requests - 1`` items old. Between two
    measured ages the quality is interpolated linearly; ``None`` where some of the ages lie outside of them.
    """
    if not ages or ages[0] > 0 or ages[-1] < requests - 1:
        return None
    each = [np.interp(np.arange(requests), ages, np.arange(len(ages)) == place) for place in range(len(ages))]
    return [float(weights.mean()) for weights in each]


def ages_of(one: Configuration, among: Sequence[Configuration]) -> list[Configuration]:
    """The same model served from histories of every age that was measured, the fresh one first; ``one`` is fresh."""
    cache_settings = one.cell.cache_dtype, one.cell.ablation
    aged = [other for other in served_alike(one, among) if (other.cell.cache_dtype, other.cell.ablation) == cache_settings]
    return sorted(aged, key=lambda other: other.cell.staleness)


def quality_over_ages(ages: Sequence[Configuration], metric: str, requests: int) -> Estimate:
    """The mean quality of ``requests`` requests between two refreshes; not estimated beyond the ages that were measured."""
    by_age = [(one.cell.staleness, quality) for one in ages if (quality := one.quality(metric)).value is not None]
    weights = weights_of_ages([age for age, _ in by_age], requests)
    if weights is None:
        oldest = max((age for age, _ in by_age), default=None)
        ages_measured = "no age" if oldest is None else f"ages to {oldest} items"
        return Estimate(value=None, reason=f"{ages_measured} measured, {requests - 1} needed")
    used = [(quality, weight) for (_, quality), weight in zip(by_age, weights, strict=True) if weight > 0]
    return mean_of([quality for quality, _ in used], [weight for _, weight in used])
