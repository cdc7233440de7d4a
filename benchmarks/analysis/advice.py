"""Which configuration fits a serving budget, what binds, and by how much: `benchmarks.advise` prints it.

A value is compared with its bound; beside that stands whether the unfavourable end of the 95% interval meets the bound, too. Several
configurations are compared with one bound at once, without a correction for that.

The share of quality that is kept is relative to the best full-history model at the longest window, of any backbone. A report's retention
is relative to full history of the same backbone and window. It says what a compression loses, but by it a short window keeps everything.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from benchmarks.analysis.amortise import ages_of, flops_price, quality_over_ages
from benchmarks.analysis.configurations import DISAGREES, Configuration
from benchmarks.analysis.estimates import Estimate, retention
from benchmarks.analysis.references import best_on_validation, figure_on_validation
from benchmarks.analysis.trained import not_converged, unequal
from benchmarks.analysis.worth import worths

Asked = Literal["latency", "cache", "retention", "quality"]
Ranked = Literal["cost", "validation", "test"]
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a configuration must meet; None is no bound.

    Attributes:
        max_latency_ms: of one request, at ``percentile``.
        max_cache_bytes: kept of one user.
        min_retention: quality over that of the best full-history model (`full_history`).
        min_quality: of ``metric``.
        requests_per_refresh: how many requests are served from one compressed history; below 1 where some users ask nothing in between.
        percentile: of the latency, one of `PERCENTILES`.
        metric: the quality.
    """

    max_latency_ms: float | None = None
    max_cache_bytes: float | None = None
    min_retention: float | None = None
    min_quality: float | None = None
    requests_per_refresh: float = 1
    percentile: int = 95
    metric: str = "ndcg@10"

    @property
    def asks_quality(self) -> bool:
        """Whether a quality is asked for; then the cheapest configuration that reaches it is the best."""
        return self.min_retention is not None or self.min_quality is not None

    def limits(self) -> Mapping[Asked, float]:
        """The bounds that are asked for."""
        every: dict[Asked, float | None] = {
            "latency": self.max_latency_ms, "cache": self.max_cache_bytes, "retention": self.min_retention, "quality": self.min_quality,
        }  # fmt: skip
        return MappingProxyType({name: limit for name, limit in every.items() if limit is not None})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Check:
    """One bound and the measured value. An ``exact`` value needs no interval: bytes, and the share that the reference keeps of itself."""

    asked: Asked
    limit: float
    measured: Estimate
    exact: bool = False

    @property
    def is_floor(self) -> bool:
        """Whether the limit is the least and not the most."""
        return self.asked in ("retention", "quality")

    @property
    def spare(self) -> float | None:
        """How much is to spare, as a share of the limit; below 0 how much is missing, and None where nothing was measured."""
        return None if self.measured.value is None else self._spare(self.measured.value)

    @property
    def holds(self) -> bool:
        """Whether the value meets the limit."""
        return self.spare is not None and self.spare >= 0

    @property
    def surely(self) -> bool | None:
        """Whether the unfavourable end of the interval meets it, too; None where there is no interval."""
        if self.exact:
            return self.holds
        end = self.measured.low if self.is_floor else self.measured.high
        return None if end is None else self._spare(end) >= 0

    def _spare(self, value: float) -> float:
        gap = value - self.limit if self.is_floor else self.limit - value
        if self.limit == 0:
            return 0.0 if gap == 0 else math.copysign(math.inf, gap)
        return gap / self.limit


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidate:
    """A configuration beside the bounds.

    Attributes:
        configuration: what one would serve.
        checks: each bound.
        quality: over the ages of a refresh where these were measured, else of a fresh cache.
        kept: quality over that of the best full-history model, or why that is undefined.
        is_fresh: whether ``quality`` is a fresh cache's although several requests share a refresh.
        flops: of a request with its share of the refresh; None where they were not counted.
        validation: the figure to choose by; None where a record holds none.
        unsettled: why its numbers are not settled: models that had not converged, unequal training.
    """

    configuration: Configuration
    checks: tuple[Check, ...]
    quality: Estimate
    kept: Estimate
    is_fresh: bool
    flops: float | None
    validation: float | None
    unsettled: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every bound is met."""
        return all(check.holds for check in self.checks)

    @property
    def unknown(self) -> tuple[Check, ...]:
        """Bounds without a value to compare with them."""
        return tuple(check for check in self.checks if check.spare is None)

    @property
    def binding(self) -> Check | None:
        """The bound with the least to spare, or the one that is missed by the most."""
        return min((check for check in self.checks if check.spare is not None), key=lambda check: check.spare or 0.0, default=None)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Advice:
    """The answer for configurations whose numbers may stand side by side.

    Attributes:
        budget: what was asked.
        latency: the measure that is compared with the bound on latency.
        reference: the full-history model whose quality is 100%; None where there is none.
        fits: what fits, the best first.
        misses: what was measured and does not fit, the nearest first.
        unknown: what cannot be judged, because a number is missing.
        no_share: why no share of full history can be asked for; empty where one can, or where none was asked for.
        offered: the quality to ask for instead of that share.
        chosen_by: what ranks them: ``cost``, ``validation``, or ``test`` where a record holds no figure on validation.
    """

    budget: Budget
    latency: str
    reference: Configuration | None
    fits: tuple[Candidate, ...]
    misses: tuple[Candidate, ...]
    unknown: tuple[Candidate, ...]
    no_share: str
    offered: float | None
    chosen_by: Ranked


def advise(among: Sequence[Configuration], budget: Budget, *, chosen: Collection[str] | None = None) -> Advice:
    """Compares every configuration that one would serve with the budget.

    Args:
        among: of one dataset, device and number format, with their references.
        budget: what is asked.
        chosen: keys of those that may be the answer; None is all.
    """
    candidates = [one for one in servable(among) if chosen is None or one.key in chosen]
    latency = latency_measure(candidates, budget.percentile)
    reference, why = full_history(among, budget.metric)
    choices = [_choice(one, among, budget, latency, reference, why) for one in candidates]
    judged = [choice for choice in choices if not choice.unknown]
    chosen_by = _chosen_by(choices, budget)
    asks_in_vain = budget.min_retention is not None and bool(why)
    return Advice(
        budget=budget,
        latency=latency,
        reference=None if why else reference,
        fits=tuple(sorted((choice for choice in judged if choice.fits), key=_ranking(chosen_by))),
        misses=tuple(sorted((choice for choice in judged if not choice.fits), key=_nearness)),
        unknown=tuple(choice for choice in choices if choice.unknown),
        no_share=why if asks_in_vain else "",
        offered=_offered(choices, reference, budget) if asks_in_vain else None,
        chosen_by=chosen_by,
    )


def full_history(among: Sequence[Configuration], metric: str) -> tuple[Configuration | None, str]:
    """The full-history model that is the best on validation at the longest window, and why no share of it can be asked for, if so."""
    ranked = [one for one in servable(among) if one.trained and one.quality(metric).value is not None]
    full = [one for one in ranked if one.cell.compression == "full" and not one.changed]
    if not full:
        return None, "full history was not measured" if ranked else "no quality was measured, cost alone"
    longest = max(one.window for one in full)
    reference = best_on_validation([one for one in full if one.window == longest])
    nothing = [worth.backbone for worth in worths(among, metric) if worth.nothing]
    if reference is not None and reference.cell.backbone in nothing:
        return reference, "the long history is worth nothing that could be measured here, so there is no share of it to keep"
    return reference, ""


def servable(among: Sequence[Configuration]) -> list[Configuration]:
    """What one would serve: no floor, no peer, no ablation and no aged cache, nothing that failed, nothing whose FLOP ledger disagrees."""
    ours = (one for one in among if not one.is_floor and not one.is_peer and not one.is_experiment)
    return [one for one in ours if one.measured and not one.disagreements()]


def left_out(among: Sequence[Configuration]) -> dict[str, int]:
    """How many configurations take no part, by reason."""
    reasons: dict[str, int] = {}
    for one in among:
        if one.is_floor or one.is_peer or one.is_experiment:
            continue
        reason = "" if one.measured else one.reason("")
        reason = reason or (DISAGREES if one.disagreements() else "")
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


def latency_measure(candidates: Sequence[Configuration], percentile: int) -> str:
    """The measure that every timed candidate has: this percentile before the median, and of each the whole request before the backbone."""
    names = [f"{what}_latency_p{p}_ms" for p in (percentile, 50) for what in ("request", "serve")]
    timed = [one for one in candidates if one.cost("serve_latency_p50_ms").value is not None]
    for name in names:
        if timed and all(one.cost(name).value is not None for one in timed):
            return name
    return names[1]


def _choice(
    one: Configuration, among: Sequence[Configuration], budget: Budget, latency: str, reference: Configuration | None, why: str
) -> Candidate:
    quality, is_fresh = _served_quality(one, among, budget)
    share = Estimate(value=None, reason=why)
    if reference is not None and not why:
        share = retention(quality, reference.quality(budget.metric))
    estimates: dict[Asked, Estimate] = {
        "latency": one.cost(latency), "cache": kept_beside_items(one), "retention": share, "quality": quality,
    }  # fmt: skip
    of_itself = one is reference and quality.value == one.quality(budget.metric).value  # and not over ages of its cache
    exact = {"cache", "retention"} if of_itself else {"cache"}
    price = flops_price(one)
    return Candidate(
        configuration=one,
        checks=tuple(
            Check(asked=name, limit=limit, measured=estimates[name], exact=name in exact) for name, limit in budget.limits().items()
        ),
        quality=quality,
        kept=share,
        is_fresh=is_fresh,
        flops=None if price is None else price.per_request(budget.requests_per_refresh),
        validation=figure_on_validation(one, among),
        unsettled=_unsettled(one, None if why else reference),
    )


def kept_beside_items(one: Configuration) -> Estimate:
    """Bytes kept of a user beside the items, which every way of serving needs anyway: 0 where all is recomputed."""
    recomputed = one.cell.serving == "recompute" and one.cost("serve_flops").value is not None
    return Estimate(value=0.0) if recomputed else one.cost("cache_bytes")


def _unsettled(one: Configuration, reference: Configuration | None) -> tuple[str, ...]:
    if not_converged(one):
        return ("not converged",)
    reasons = () if reference is None else unequal(one, reference)
    return tuple(f"beside full history: {reason}" for reason in reasons)


def _served_quality(one: Configuration, among: Sequence[Configuration], budget: Budget) -> tuple[Estimate, bool]:
    """The quality over the requests of a refresh where its ages were measured, and whether it is a fresh cache's instead."""
    fresh = one.quality(budget.metric)
    if budget.requests_per_refresh <= 1 or not one.cost("cache_bytes").value or fresh.value is None:
        return fresh, False
    aged = quality_over_ages(ages_of(one, among), budget.metric, round(budget.requests_per_refresh))
    return (fresh, True) if aged.value is None else (aged, False)


def _offered(choices: Sequence[Candidate], reference: Configuration | None, budget: Budget) -> float | None:
    """The quality to ask for in place of a share: the same share of full history's quality, else of the best that there is."""
    qualities = [choice.quality.value for choice in choices if choice.quality.value is not None]
    if not qualities or budget.min_retention is None:
        return None
    level = None if reference is None else reference.quality(budget.metric).value
    return math.floor(budget.min_retention * (max(qualities) if level is None else level) * 1e4) / 1e4


def _chosen_by(choices: Sequence[Candidate], budget: Budget) -> Ranked:
    if budget.asks_quality or all(choice.quality.value is None for choice in choices):
        return "cost"
    return "test" if any(choice.validation is None for choice in choices if choice.configuration.trained) else "validation"


def _ranking(chosen_by: Ranked) -> Callable[[Candidate], Any]:
    def place(choice: Candidate) -> tuple[object, ...]:
        cost = (math.inf if choice.flops is None else choice.flops, _median_latency(choice))
        figure = choice.validation if chosen_by != "test" else choice.quality.value
        best = -math.inf if figure is None else figure
        return (*cost, -best, choice.configuration.key) if chosen_by == "cost" else (-best, *cost, choice.configuration.key)

    return place


def _median_latency(choice: Candidate) -> float:
    value = choice.configuration.cost("serve_latency_p50_ms").value
    return math.inf if value is None else value


def _nearness(choice: Candidate) -> tuple[float, str]:
    return max(-(check.spare or 0.0) for check in choice.checks), choice.configuration.key
