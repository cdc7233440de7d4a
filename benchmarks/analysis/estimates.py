"""Estimates: a number with its interval, and what follows from two of them: difference, retention, share recovered.

A record's ``replicates`` are bootstrap means over users, and the users of replicate ``b`` are the same in every cell of one
dataset. A difference taken replicate by replicate is therefore paired: what makes a user easy or hard cancels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import text
from persrec.names import INTERVAL

Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # of a value: replicates that are closer are the same
Form = Literal["ratio", "signed", "percent"]
_SEED_OF_DRAWS = 20_260_103
_FORMS: Mapping[str, Callable[[float], str]] = MappingProxyType(
    {"ratio": text.ratio, "signed": partial(text.ratio, signed=True), "percent": text.percent}
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """A number with its 95% interval; what is missing is ``None``, with the reason in words.

    ``sample`` names the users and their resampling: estimates of one sample are paired replicate by replicate.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    replicates: Floats | None = None
    sample: str = ""
    reason: str = ""

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in the interval; an estimate without an interval cannot tell, so it counts as holding 0."""
        return self.low is None or self.high is None or self.low <= 0.0 <= self.high


def difference(ours: Estimate, theirs: Estimate) -> Estimate:
    """Ours minus theirs, paired replicate by replicate."""
    return _derived(ours, theirs, lambda a, b: a - b)


def mean_of(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """A weighted sum, paired replicate by replicate."""
    total = _scaled(estimates[0], weights[0])
    for estimate, weight in zip(estimates[1:], weights[1:], strict=True):
        total = _derived(total, _scaled(estimate, weight), lambda a, b: a + b)
    return total


def retention(ours: Estimate, reference: Estimate, *, of: str = "full history's") -> Estimate:
    """Quality as a share of a reference's quality; undefined where that is not above 0. ``of`` names the reference in the reason."""
    if reference.value is not None and (reference.value <= 0.0 or (reference.low is not None and reference.low <= 0.0)):
        return Estimate(value=None, reason=f"undefined: {of} quality, {with_interval(reference)}, is not above 0")
    return _derived(ours, reference, _ratio)


def recovered(ours: Estimate, no_token: Estimate, full: Estimate) -> Estimate:
    """``(ours - no token) / (full - no token)``: the share of the long history's value that the tokens keep.

    Undefined where the denominator's 95% interval holds 0, and where full history is the worse of the two.
    """
    gain, worth = difference(ours, no_token), difference(full, no_token)
    if gain.value is None or worth.value is None:
        return Estimate(value=None, reason=gain.reason or worth.reason)
    if worth.low is None:
        return Estimate(value=None, reason=f"undefined: full minus no token has no interval ({worth.reason})")
    if worth.holds_zero:
        return Estimate(value=None, reason=f"undefined: full minus no token is {with_interval(worth, 'signed')}, an interval that holds 0")
    if worth.value < 0.0:
        return Estimate(value=None, reason=f"undefined: full history is worse than the no-token layout, {with_interval(worth, 'signed')}")
    return _derived(gain, worth, _ratio)


def interval_of(replicates: Floats) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval of bootstrap replicates. Where they do not vary there is none: users who are all alike prove nothing of others."""
    finite = replicates[np.isfinite(replicates)]
    if finite.size < 2 or np.ptp(finite) <= _ROUNDING * np.abs(finite).max():
        return None, None
    low, high = np.percentile(finite, INTERVAL)
    return float(low), float(high)


def over_seeds(rows: Floats) -> Floats:
    """One bootstrap over seeds ``[S, B]`` and users: each replicate averages ``S`` seeds drawn with replacement.

    The draws depend on the number of seeds and replicates alone, so configurations with the same seeds stay paired.
    """
    seeds, replicates = rows.shape
    if seeds == 1:
        only: Floats = rows[0]
        return only
    draws = np.random.default_rng([_SEED_OF_DRAWS, seeds]).integers(0, seeds, size=(replicates, seeds))
    mean: Floats = rows[draws, np.arange(replicates)[:, None]].mean(axis=1)
    return mean


def with_interval(estimate: Estimate, form: Form = "ratio") -> str:
    """``0.1234 (0.1200 to 0.1270)`` as ``ratio``, ``signed`` or ``percent``; only the value where there is no interval."""
    say = _FORMS[form]
    if estimate.value is None:
        return text.MISSING
    if estimate.low is None or estimate.high is None:
        return say(estimate.value)
    return f"{say(estimate.value)} ({say(estimate.low)} to {say(estimate.high)})"


def _derived(ours: Estimate, theirs: Estimate, rule: Any) -> Estimate:
    if ours.value is None or theirs.value is None:
        return Estimate(value=None, reason=ours.reason if ours.value is None else theirs.reason)
    value = float(rule(ours.value, theirs.value))
    seeds = tuple(sorted(set(ours.seeds) & set(theirs.seeds)))
    if ours.replicates is None or theirs.replicates is None:
        return Estimate(value=value, n=ours.n, seeds=seeds, reason=ours.reason or theirs.reason or "no replicates in the record")
    if ours.sample != theirs.sample:
        return Estimate(value=value, n=ours.n, seeds=seeds, reason="not paired: evaluated on different users")
    replicates = np.asarray(rule(ours.replicates, theirs.replicates), dtype=np.float64)
    low, high = interval_of(replicates)
    if low is None:
        return Estimate(value=value, n=ours.n, seeds=seeds, reason="it is the same whichever users are drawn")
    return Estimate(value=value, low=low, high=high, n=ours.n, seeds=seeds, replicates=replicates, sample=ours.sample)


def _scaled(estimate: Estimate, weight: float) -> Estimate:
    """An estimate times a number from 0 on."""
    if estimate.value is None:
        return estimate
    low, high = (None if bound is None else weight * bound for bound in (estimate.low, estimate.high))
    replicates = None if estimate.replicates is None else weight * estimate.replicates
    return replace(estimate, value=weight * estimate.value, low=low, high=high, replicates=replicates)


def _ratio(numerator: Any, denominator: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(numerator, denominator)
    return np.where(np.isfinite(ratio), ratio, np.nan)
