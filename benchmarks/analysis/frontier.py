"""The cost-versus-quality frontier, and how sure it is.

Counted costs are points, qualities are bootstrap replicates over users. A timed cost varies from process to process: for each replicate it
is drawn from its interval, the same for all configurations of one shape. One that was measured in a single process has no interval, so
nothing is said of it, nor of what it might beat. A configuration whose FLOP ledger disagrees takes no part: it can neither be on a frontier
nor push another off it.

How often a point is on the frontier is a matter of users, and of processes, alone. That one dominates another with 95% confidence is a
verdict between two trained models, so it takes three seeds or more, equal training, and an interval that holds the variation of seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis.configurations import DISAGREES, Configuration
from benchmarks.analysis.estimates import LEAST_SEEDS, Estimate, Floats, difference, interval_of
from benchmarks.analysis.references import figure_on_validation
from benchmarks.analysis.trained import unequal
from benchmarks.measures import MEASURES
from persrec.names import CONFIDENCE

Flags = NDArray[np.bool_]
HALF_OF_95 = 1.96  # of a normal distribution, in standard deviations
Entrant = tuple[Configuration, Estimate, Estimate]  # with its cost and its quality
DRAWN_BY = 20_261_128
_COMPUTED = "serve_visible_flops"
PEERS_STAND_BESIDE = "a peer: the frontier is that of our configurations"


def _compress_and_serve(one: Configuration) -> Estimate:
    compress, serve = one.cost("compress_flops"), one.cost("serve_flops")
    if compress.value is None or serve.value is None:
        return Estimate(value=None, reason=compress.reason or serve.reason)
    return Estimate(value=compress.value + serve.value, seeds=serve.seeds)


def _metric(name: str) -> Callable[[Configuration], Estimate]:
    return lambda one: one.cost(name)


COSTS: Mapping[str, Callable[[Configuration], Estimate]] = MappingProxyType(
    {
        "serve_flops": _metric("serve_flops"),
        "compress_serve_flops": _compress_and_serve,
        "request_latency_p50_ms": _metric("request_latency_p50_ms"),
        "serve_peak_bytes": _metric("serve_peak_bytes"),
        "cache_bytes": _metric("cache_bytes"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Standing:
    """Where a configuration stands: on the frontier of the point values or not, and how sure that is.

    ``probability`` is the share of replicates in which nothing dominates it; ``None`` where a quality or a timed cost has no interval, as
    then nothing is sure. ``dominated_by`` is the likeliest rival, no dearer, that dominates it in at least 95% of the replicates and of
    which `surely_better` holds. Where the cost is timed `surely_no_dearer` must hold too, and for a time by the clock a rival of the same
    work must not compute more of it. ``None`` where no single rival does all that.
    """

    configuration: Configuration
    cost: float
    quality: Estimate
    on_frontier: bool
    probability: float | None
    dominated_by: Configuration | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frontier:
    """One cost against one quality. ``excluded`` says who takes no part, and why."""

    cost: str
    metric: str
    standings: tuple[Standing, ...]
    excluded: tuple[tuple[Configuration, str], ...]
    reference: tuple[float, float]
    hypervolume: Estimate

    @property
    def winners(self) -> tuple[Standing, ...]:
        """Those on the frontier, cheapest first."""
        return tuple(sorted((s for s in self.standings if s.on_frontier), key=lambda s: (s.cost, s.configuration.key)))


Frontiers = Mapping[str, Mapping[str, Frontier]]  # by cost, then by metric


def surely_better(rival: Configuration, one: Configuration, metric: str) -> bool:
    """Whether a rival's quality is higher at 95%, over seeds and users, after equal training; the same ranks are enough, too."""
    theirs, ours = rival.quality(metric), one.quality(metric)
    if theirs.replicates is None or ours.replicates is None:
        return False
    if theirs.by_seed == ours.by_seed and np.array_equal(theirs.replicates, ours.replicates):
        return True
    return not unequal(rival, one) and difference(theirs, ours).sign > 0


def surely_no_dearer(rival: Estimate, one: Estimate) -> bool:
    """Whether a rival's timed cost is no higher, by the intervals over processes; two configurations of one shape have one cost."""
    if rival.high is None or one.low is None:
        return False
    return rival.high <= one.low or (rival.value, rival.low, rival.high) == (one.value, one.low, one.high)


def _is_quicker_for_a_reason(rival: Configuration, one: Configuration) -> bool:
    """Whether a rival may be quicker: one that does the same work and computes more of it is not, whatever a clock says.

    That is a request of the same backbone that is served in the same way, from keys and values that are kept or by the same compression.
    Of some hundred pairs a few have intervals over three processes that lie apart by chance, as a machine's neighbours come and go.
    """
    if any(getattr(rival.cell, name) != getattr(one.cell, name) for name in ("backbone", "serving")):
        return True
    if rival.cell.compression != one.cell.compression and not (_reads_kept_keys(rival) and _reads_kept_keys(one)):
        return True
    more, fewer = rival.cost(_COMPUTED).value, one.cost(_COMPUTED).value
    return more is None or fewer is None or more <= fewer


def _reads_kept_keys(one: Configuration) -> bool:
    """Whether a request runs the recent items against kept keys and values, as few or as many as they are."""
    part = one.parts.compression
    return one.cell.serving != "recompute" and part is not None and part.keeps == "keys_values"


def non_dominated(costs: Floats, qualities: Floats) -> Flags:
    """Which points no other point dominates; a point dominates when it is no dearer, no worse, and better in one of the two.

    Args:
        costs: ``[n]``, lower is better; or ``[n, B]``, drawn beside the qualities.
        qualities: ``[n]`` or ``[n, B]``, higher is better; each column is judged by itself.
    """
    if not costs.size:
        return np.ones(qualities.shape, dtype=bool)
    columns = qualities.reshape(len(qualities), -1)
    prices = np.broadcast_to(costs.reshape(len(costs), -1), columns.shape)
    order = np.argsort(prices, axis=0, kind="stable")
    prices, ranked = np.take_along_axis(prices, order, axis=0), np.take_along_axis(columns, order, axis=0)
    # cheapest first: a point is beaten by the best of the strictly cheaper ones, or by the best of its own price
    best = np.maximum.accumulate(ranked, axis=0)
    place = np.broadcast_to(np.arange(len(prices))[:, None], prices.shape)
    new = np.vstack([np.ones_like(prices[:1], dtype=bool), prices[1:] > prices[:-1]])
    first = np.maximum.accumulate(np.where(new, place, 0), axis=0)
    last_of_price = np.vstack([new[1:], np.ones_like(prices[:1], dtype=bool)])
    last = np.minimum.accumulate(np.where(last_of_price, place, len(prices))[::-1], axis=0)[::-1]
    cheaper = np.where(first > 0, np.take_along_axis(best, np.maximum(first - 1, 0), axis=0), -np.inf)
    on_frontier = np.empty(columns.shape, dtype=bool)
    np.put_along_axis(on_frontier, order, (ranked > cheaper) & (ranked >= np.take_along_axis(best, last, axis=0)), axis=0)
    return on_frontier.reshape(qualities.shape)


def domination_probability(costs: Floats, replicates: Floats, pairs: Flags | None = None) -> Floats:
    """``[n, n]``: the share of the replicates ``[n, B]`` in which column's point dominates row's point; costs as in `non_dominated`.

    ``pairs``, ``[n, n]``, are those to compute; the others are 0.
    """
    n = len(costs)
    prices = costs.reshape(n, -1)
    shares = np.zeros((n, n))
    for i in range(n):
        columns = np.arange(n) if pairs is None else np.flatnonzero(pairs[i])
        if columns.size:
            shares[i, columns] = _dominating(prices[columns], replicates[columns], prices[i], replicates[i]).mean(axis=1)
    np.fill_diagonal(shares, 0.0)
    return shares


def _dominating(costs: Floats, qualities: Floats, cost: Floats, quality: Floats) -> Flags:
    """``[n, B]``: which points dominate one point, draw by draw."""
    no_worse = (costs <= cost) & (qualities >= quality)
    dominating: Flags = no_worse & ((costs < cost) | (qualities > quality))
    return dominating


def hypervolume(costs: Floats, qualities: Floats, *, reference: tuple[float, float], chosen_by: Floats | None = None) -> Floats:
    """The area under what one gets at each cost, up to a reference cost (right) and above a reference quality (below).

    At each cost the quality is that of the point which is best by ``chosen_by`` among those no dearer. So a point that validation flatters
    takes area away. Without ``chosen_by`` each column of the qualities chooses for itself, and no point takes area away.

    Args:
        costs: ``[n]``; points at or beyond the reference cost add nothing.
        qualities: ``[n, B]``; an area per column.
        reference: cost and quality.
        chosen_by: ``[n]``, such as the quality on validation.
    """
    order = np.argsort(costs, kind="stable")
    edges = np.minimum(np.append(costs[order], reference[0]), reference[0])
    if chosen_by is None:
        curve = np.maximum.accumulate(qualities[order], axis=0)
    else:
        best = np.maximum.accumulate(chosen_by[order])
        first = [int(np.argmax(chosen_by[order] == level)) for level in best]
        curve = qualities[order][first]
    heights = np.maximum(curve - reference[1], 0.0)
    area: Floats = (np.diff(edges)[:, None] * heights).sum(axis=0)
    return area


def decades(costs: Floats) -> Floats:
    """Costs on the axis that hypervolumes use: ``log10``, what is free counted as one unit."""
    scaled: Floats = np.log10(np.where(costs > 0, costs, 1.0))
    return scaled


def frontier(among: Sequence[Configuration], *, cost: str, metric: str, reference: tuple[float, float] | None = None) -> Frontier:
    """The frontier of a cost (a name of ``COSTS``) against a quality.

    Where every configuration has a quality on validation, the hypervolume is that of what validation chooses, on the test targets.
    The reference of the hypervolume is the dearest configuration's cost (in decades) and a quality of 0, unless given.
    """
    entrants, excluded = _entrants(among, cost, metric)
    costs = np.array([price.value for _, price, _ in entrants], dtype=np.float64)
    reference = reference or (float(decades(costs).max()) if entrants else 0.0, 0.0)
    points = np.array([[quality.value] for *_, quality in entrants], dtype=np.float64).reshape(len(entrants), 1)
    replicates = _aligned([quality for *_, quality in entrants])
    return Frontier(
        cost=cost,
        metric=metric,
        standings=_standings(entrants, costs, points, replicates, metric, cost=cost),
        excluded=tuple(excluded),
        reference=reference,
        hypervolume=_area(entrants, reference, among, timed=is_timed(cost)),
    )


def hypervolume_of(among: Sequence[Configuration], *, cost: str, metric: str, reference: tuple[float, float]) -> Estimate:
    """The area under a frontier alone, as `frontier` has it."""
    return _area(_entrants(among, cost, metric)[0], reference, among, timed=is_timed(cost))


def _entrants(among: Sequence[Configuration], cost: str, metric: str) -> tuple[list[Entrant], list[tuple[Configuration, str]]]:
    """Who takes part with which cost and quality, and who does not and why."""
    excluded: list[tuple[Configuration, str]] = []
    entrants: list[Entrant] = []
    for one in among:
        price, quality = COSTS[cost](one), one.quality(metric)
        if one.is_peer:
            excluded.append((one, PEERS_STAND_BESIDE))
        elif price.value is None or quality.value is None:
            excluded.append((one, f"{metric}: {quality.reason}" if quality.value is None else f"{cost}: {price.reason}"))
        elif one.disagreements():
            excluded.append((one, DISAGREES))
        else:
            entrants.append((one, price, quality))
    return entrants, excluded


def _area(entrants: Sequence[Entrant], reference: tuple[float, float], among: Sequence[Configuration], *, timed: bool) -> Estimate:
    points = np.array([[quality.value] for *_, quality in entrants], dtype=np.float64).reshape(len(entrants), 1)
    figures = [figure_on_validation(one, among) for one, *_ in entrants]
    chosen_by = None if None in figures else np.array(figures, dtype=np.float64)
    scaled = decades(np.array([price.value for _, price, _ in entrants], dtype=np.float64))
    area = float(hypervolume(scaled, points, reference=reference, chosen_by=chosen_by)[0]) if entrants else None
    prices, qualities = [price for _, price, _ in entrants], _aligned([quality for *_, quality in entrants])
    if timed and any(price.low is None for price in prices):
        return Estimate(value=area, reason="a cost was taken in one process, so there is no interval")
    if timed and entrants:
        draws = decades(_cost_draws(prices, qualities.shape[1]))
        columns = zip(draws.T, qualities.T, strict=True)
        areas = np.concatenate([hypervolume(costs, column[:, None], reference=reference, chosen_by=chosen_by) for costs, column in columns])
        area = float(np.median(areas))  # the least of many noisy times is below the least of their medians
    else:
        areas = hypervolume(scaled, qualities, reference=reference, chosen_by=chosen_by)
    low, high = interval_of(areas)
    reason = "" if entrants else "nothing to stand on the frontier"
    return Estimate(value=area, low=low, high=high, replicates=areas, reason=reason)


def is_timed(cost: str) -> bool:
    """Whether a cost of `COSTS` is one that a clock or an allocator gave, so that it varies from process to process."""
    return cost in MEASURES and not MEASURES[cost].deterministic


def _standings(
    entrants: Sequence[Entrant],
    costs: Floats,
    points: Floats,
    replicates: Floats,
    metric: str,
    *,
    cost: str,
) -> tuple[Standing, ...]:
    if not entrants:
        return ()
    timed = is_timed(cost)
    by_clock = cost in MEASURES and MEASURES[cost].unit == "ms"
    on = non_dominated(costs, points[:, 0])
    draws = _cost_draws([price for _, price, _ in entrants], replicates.shape[1]) if timed else costs
    chances = non_dominated(draws, replicates).mean(axis=1)
    shares = domination_probability(draws, replicates, _could_be_sure(entrants, timed=timed))
    untimed = np.array([price.low is None for _, price, _ in entrants])  # might cost anything
    standings = []
    for i, (one, price, quality) in enumerate(entrants):
        may_beat = bool((untimed[:, None] & (replicates >= replicates[i])).any())
        unsure = quality.replicates is None or (timed and (price.low is None or may_beat))
        likely = np.flatnonzero(shares[i] >= CONFIDENCE)
        rivals = (entrants[j] for j in likely[np.argsort(-shares[i, likely], kind="stable")])
        cheaper = (rival for rival, theirs, _ in rivals if not timed or surely_no_dearer(theirs, price))
        quicker = (rival for rival in cheaper if not by_clock or _is_quicker_for_a_reason(rival, one))
        dominating = next((rival for rival in quicker if surely_better(rival, one, metric)), None)
        standings.append(
            Standing(
                configuration=one,
                cost=float(costs[i]),
                quality=quality,
                on_frontier=bool(on[i]),
                probability=None if unsure else float(chances[i]),
                dominated_by=dominating,
            )
        )
    return tuple(standings)


def _could_be_sure(entrants: Sequence[Entrant], *, timed: bool) -> Flags:
    """``[n, n]``: whether column's point may dominate row's for sure: what `surely_better` and `surely_no_dearer` need at least.

    Most pairs are not compared draw by draw: that would take minutes for a few thousand configurations.
    """
    value = np.array([quality.value for *_, quality in entrants], dtype=np.float64)
    several = np.array([len(set(quality.seeds)) >= LEAST_SEEDS for *_, quality in entrants], dtype=bool)
    ranks: dict[tuple[float, ...], int] = {}
    same = np.array([ranks.setdefault(quality.by_seed, len(ranks)) for *_, quality in entrants], dtype=np.int64)
    low, high = (
        np.array([np.nan if bound is None else bound for bound in bounds], dtype=np.float64)
        for bounds in zip(*((price.low, price.high) if timed else (price.value, price.value) for _, price, _ in entrants), strict=True)
    )
    price = np.array([price.value for _, price, _ in entrants], dtype=np.float64)
    no_dearer = (high[None, :] <= low[:, None]) | (price[None, :] == price[:, None])
    better = (value[None, :] >= value[:, None]) & ((several[None, :] & several[:, None]) | (same[None, :] == same[:, None]))
    pairs: Flags = no_dearer & better
    return pairs


def _cost_draws(prices: Sequence[Estimate], size: int) -> Floats:
    """``[n, size]``: timed costs drawn from their intervals over processes; one shape has the same draws in every row and every group."""
    draws = {}
    for price in prices:
        key = (price.value, price.low, price.high)
        if key in draws or price.value is None:
            continue
        if price.low is None or price.high is None or price.low <= 0:
            draws[key] = np.full(size, price.value)
        else:
            spread = (np.log(price.high) - np.log(price.low)) / (2 * HALF_OF_95)
            seed = [DRAWN_BY, *np.array(key, dtype=np.float64).view(np.uint32).tolist()]
            draws[key] = price.value * np.exp(spread * np.random.default_rng(seed).normal(size=size))
    return np.array([draws[price.value, price.low, price.high] for price in prices], dtype=np.float64)


def _aligned(qualities: Sequence[Estimate]) -> Floats:
    """Replicates ``[n, B]``; a quality without replicates, or with another number of them, stands at its value."""
    counts = sorted(quality.replicates.size for quality in qualities if quality.replicates is not None)
    size = counts[-1] if counts else 1
    rows = [
        quality.replicates if quality.replicates is not None and quality.replicates.size == size else np.full(size, quality.value)
        for quality in qualities
    ]
    return np.array(rows, dtype=np.float64).reshape(len(qualities), size)
