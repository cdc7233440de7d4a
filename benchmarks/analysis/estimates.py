"""Estimates: a number with its interval, and what follows from two of them: difference, retention, share recovered.

A record's ``replicates`` are bootstrap means over users, and the users of replicate ``b`` are the same in every cell of one
dataset. A difference taken replicate by replicate is therefore paired: what makes a user easy or hard cancels.

Users are one source of chance, and training anew is another. Over several seeds an interval is the wider of two: the bootstrap over
users, and Student's t interval over the seeds' own values (three seeds: 4.30 SD / sqrt 3). A percentile bootstrap over three seeds
would cover 76% where it claims 95%. Of one seed the interval is over users alone, so it decides nothing between trained models.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks import text
from persrec.names import CONFIDENCE, INTERVAL

Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # of a value: replicates that differ by less are the same
Form = Literal["ratio", "signed", "percent"]
LEAST_SEEDS = 3  # behind a verdict between trained models
HALF_WIDTHS = 5.0  # a denominator nearer to 0 than so many half-widths of its interval gives a share that says nothing
_FORMS: Mapping[str, Callable[[float], str]] = MappingProxyType(
    {"ratio": text.ratio, "signed": partial(text.ratio, signed=True), "percent": text.percent}
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """A number with its 95% interval; what is missing is ``None``, with the reason in words.

    ``sample`` names the users and their resampling: estimates of one sample are paired replicate by replicate. ``by_seed`` are the
    values of the ``seeds``, in their order, and ``replicates_by_seed`` their replicates, which a derived estimate does not have. ``fixed``
    marks what no seed changes: the quality of a floor, which learns nothing.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    replicates: Floats | None = None
    sample: str = ""
    reason: str = ""
    by_seed: tuple[float, ...] = ()
    replicates_by_seed: tuple[Floats, ...] = ()
    fixed: bool = False

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in the interval; an estimate without an interval cannot tell, so it counts as holding 0."""
        return self.low is None or self.high is None or self.low <= 0.0 <= self.high

    @property
    def of_one_seed(self) -> bool:
        """Whether its interval is over the users of one seed, and so knows nothing of training anew."""
        return not self.fixed and len(self.by_seed) < 2

    @property
    def of_few_seeds(self) -> bool:
        """Whether too few seeds stand behind it for a verdict."""
        return not self.fixed and len(self.by_seed) < LEAST_SEEDS

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves 0 out and holds the variation of three seeds or more; else 0: nothing is decided."""
        if self.value is None or self.holds_zero or self.of_few_seeds:
            return 0
        return 1 if self.value > 0 else -1

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval: the smallest difference from 0 that can be detected."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def difference(ours: Estimate, theirs: Estimate) -> Estimate:
    """Ours minus theirs, paired replicate by replicate."""
    return _derived(ours, theirs, lambda a, b: a - b)


def mean_of(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """A weighted sum, paired replicate by replicate."""
    estimates = _of_common_seeds(*estimates)
    total = _scaled(estimates[0], weights[0])
    for estimate, weight in zip(estimates[1:], weights[1:], strict=True):
        total = _derived(total, _scaled(estimate, weight), lambda a, b: a + b)
    return total


def retention(ours: Estimate, reference: Estimate, *, of: str = "full history's") -> Estimate:
    """Quality as a share of a reference's quality; undefined where that is not above 0. ``of`` names the reference in the reason."""
    ours, reference = _of_common_seeds(ours, reference)
    if reference.value is not None and (reference.value <= 0.0 or (reference.low is not None and reference.low <= 0.0)):
        return Estimate(value=None, reason=f"undefined: {of} quality, {with_interval(reference)}, is not above 0")
    return _derived(ours, reference, _ratio)


def recovered(ours: Estimate, no_token: Estimate, full: Estimate) -> Estimate:
    """``(ours - no token) / (full - no token)``: the share of the long history's value that the tokens keep.

    Undefined where the denominator is not above five half-widths of its 95% interval: the reason then names the smallest detectable
    difference.
    """
    ours, no_token, full = _of_common_seeds(ours, no_token, full)
    gain, worth = difference(ours, no_token), difference(full, no_token)
    if gain.value is None or worth.value is None:
        return Estimate(value=None, reason=gain.reason or worth.reason)
    half = worth.half_width
    if half is None:
        return Estimate(value=None, reason=f"undefined: full minus no token has no interval ({worth.reason})")
    if worth.value <= HALF_WIDTHS * half:
        least = f"the smallest detectable difference is {text.ratio(half)}"
        return Estimate(value=None, reason=f"undefined: full minus no token is {with_interval(worth, 'signed')}; {least}")
    return _derived(gain, worth, _ratio)


def interval_of(replicates: Floats) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval of bootstrap replicates. Where they do not vary there is none: users who are all alike say nothing of others."""
    finite = replicates[np.isfinite(replicates)]
    if finite.size < 2 or np.ptp(finite) <= _ROUNDING * np.abs(finite).max():
        return None, None
    return _percentiles(finite)


def _percentiles(values: Floats) -> tuple[float, float]:
    """The same numbers as ``np.percentile(values, INTERVAL)``, in a sixth of the time: a report asks for tens of thousands."""
    ordered = np.sort(values)
    ends = []
    for percent in INTERVAL:
        place = percent / 100 * (len(ordered) - 1)
        before = min(int(place), len(ordered) - 2)
        share, low, high = place - before, float(ordered[before]), float(ordered[before + 1])
        ends.append(high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share)
    return ends[0], ends[1]


def interval_over(value: float, by_seed: Sequence[float], replicates: Floats) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval of a value: over users, or over seeds where that is wider. None where users do not vary.

    Args:
        value: the mean over seeds.
        by_seed: the value of each seed; fewer than two say nothing of seeds.
        replicates: bootstrap replicates over users, each the mean over all seeds.
    """
    low, high = interval_of(replicates)
    if low is None or high is None:
        return None, None
    if len(by_seed) < 2:
        return low, high
    quantile = float(stdtrit(len(by_seed) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * float(np.std(by_seed, ddof=1)) / math.sqrt(len(by_seed))
    return (value - half, value + half) if 2 * half > high - low else (low, high)


def interval_over_processes(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of what processes give, by Student's t of the logarithms; their median always lies in it.

    Where a value is 0 it is their range, which is narrower.

    Args:
        values: of at least 2 processes.
    """
    if min(values) <= 0:
        return min(values), max(values)
    logs = np.log(values)
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * logs.std(ddof=1) / math.sqrt(len(values)))
    middle, median = float(logs.mean()), float(np.median(logs))
    return math.exp(min(middle - half, median)), math.exp(max(middle + half, median))


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
    ours, theirs = _of_common_seeds(ours, theirs)
    by_seed = _seed_by_seed(ours, theirs, rule)
    derived = Estimate(
        value=float(rule(ours.value, theirs.value)),
        n=ours.n,
        seeds=tuple(by_seed) or tuple(sorted(set(ours.seeds) & set(theirs.seeds))),
        by_seed=tuple(by_seed.values()),
        fixed=ours.fixed and theirs.fixed,
    )
    if ours.by_seed and theirs.by_seed and not by_seed:
        return replace(derived, reason="not paired: no seed in common")
    if ours.replicates is None or theirs.replicates is None:
        return replace(derived, reason=ours.reason or theirs.reason or "no replicates in the record")
    if ours.sample != theirs.sample:
        return replace(derived, reason="not paired: evaluated on different users")
    replicates = np.asarray(rule(ours.replicates, theirs.replicates), dtype=np.float64)
    low, high = interval_over(float(derived.value or 0.0), derived.by_seed, replicates)
    if low is None:
        return replace(derived, reason="it is the same whichever users are drawn")
    return replace(derived, low=low, high=high, replicates=replicates, sample=ours.sample)


def _of_common_seeds(*estimates: Estimate) -> tuple[Estimate, ...]:
    """Each estimate over the seeds that all have, so that trainings are compared one by one; what no seed changes stays."""
    varying = [one for one in estimates if one.by_seed and not one.fixed]
    common = set.intersection(*(set(one.seeds) for one in varying)) if varying else set()
    return tuple(_over(one, common) if common and one in varying and set(one.seeds) != common else one for one in estimates)


def _over(one: Estimate, seeds: set[int]) -> Estimate:
    """The mean over some of its seeds; a derived estimate has no replicates by seed, so its mean has none."""
    places = [place for place, seed in enumerate(one.seeds) if seed in seeds]
    by_seed = tuple(one.by_seed[place] for place in places)
    rows = tuple(one.replicates_by_seed[place] for place in places) if one.replicates_by_seed else ()
    replicates, reason = (np.mean(rows, axis=0), one.reason) if rows else (None, one.reason or "not paired: of other seeds")
    low, high = (None, None) if replicates is None else interval_over(float(np.mean(by_seed)), by_seed, replicates)
    return replace(
        one, value=float(np.mean(by_seed)), low=low, high=high, seeds=tuple(one.seeds[place] for place in places), by_seed=by_seed,
        replicates=replicates, replicates_by_seed=rows, reason=reason,
    )  # fmt: skip


def _seed_by_seed(ours: Estimate, theirs: Estimate, rule: Any) -> dict[int, float]:
    """The rule applied to the values of each seed that both have; what no seed changes has every seed of the other."""
    first, second = (dict(zip(one.seeds, one.by_seed, strict=False)) for one in (ours, theirs))
    if ours.fixed and not theirs.fixed:
        first = dict.fromkeys(second, float(ours.value or 0.0))
    if theirs.fixed and not ours.fixed:
        second = dict.fromkeys(first, float(theirs.value or 0.0))
    return {seed: float(rule(first[seed], second[seed])) for seed in sorted(set(first) & set(second))}


def _scaled(estimate: Estimate, weight: float) -> Estimate:
    """An estimate times a number from 0 on."""
    if estimate.value is None:
        return estimate
    low, high = (None if bound is None else weight * bound for bound in (estimate.low, estimate.high))
    replicates = None if estimate.replicates is None else weight * estimate.replicates
    by_seed = tuple(weight * value for value in estimate.by_seed)
    return replace(
        estimate, value=weight * estimate.value, low=low, high=high, replicates=replicates, by_seed=by_seed, replicates_by_seed=()
    )


def _ratio(numerator: Any, denominator: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(numerator, denominator)
    return np.where(np.isfinite(ratio), ratio, np.nan)
