"""Exact bounds of a rate, by Clopper and Pearson: hits among trials, where the rate may be near 0 or 1."""

from scipy.special import betaincinv


def upper_bound(hits: int, trials: int, *, confidence: float = 0.95) -> float:
    """The one-sided upper bound: the rate at which so few hits have become as unlikely as ``confidence`` allows."""
    return 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, confidence))


def lower_bound(hits: int, trials: int, *, confidence: float = 0.95) -> float:
    """The one-sided lower bound."""
    return 1.0 - upper_bound(trials - hits, trials, confidence=confidence)
