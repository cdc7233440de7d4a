"""Exact bounds of a rate, against the binomial sums that they invert."""

import math

import pytest

from benchmarks.noise.rates import lower_bound, upper_bound


def at_most(hits: int, trials: int, rate: float) -> float:
    """The chance of so few hits."""
    return math.fsum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(hits + 1))


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 2), (3, 10), (1, 20), (19, 20), (7, 144), (2, 300), (299, 300)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_at_the_upper_bound_so_few_hits_are_as_unlikely_as_allowed(hits: int, trials: int, confidence: float) -> None:
    bound = upper_bound(hits, trials, confidence=confidence)
    assert at_most(hits, trials, bound) == pytest.approx(1 - confidence, rel=1e-11)
    assert lower_bound(trials - hits, trials, confidence=confidence) == pytest.approx(1 - bound, abs=1e-15)


def test_without_hits_the_bound_is_a_root() -> None:
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-12)  # 0.00994: none in 300 is below 1%
    assert upper_bound(0, 300) < 0.01 < upper_bound(1, 300)
    assert lower_bound(20, 20) == pytest.approx(0.05 ** (1 / 20), abs=1e-12)


def test_rates_at_their_ends_have_bounds_there() -> None:
    assert (upper_bound(20, 20), lower_bound(0, 20)) == (1.0, 0.0)
    assert (upper_bound(0, 0), lower_bound(0, 0)) == (1.0, 0.0)
