"""The references of a configuration: full attention, no token, the recent items alone.

A reference must be as strong as possible. One model that serves every token count may be weaker without a token than a model trained for
that alone. So each reference is the best on validation of those that were trained, and those that were not trained are named.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, has_processes
from benchmarks.analysis.estimates import Estimate, difference, interval_of, recovered, retention
from benchmarks.analysis.trained import own_validation, unequal, validation
from benchmarks.cell import Cell

_NOTHING_TO_KEEP = Estimate(value=None, reason="undefined: the long history is worth nothing that could be measured here")
_NONE_ALIKE = Estimate(value=None, reason="no full attention served the same way")
_REMEMBERED = 8192  # a report asks for the same contrast in several places, of thousands of configurations
_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Cell))
_OF_A_CONTROL = (  # what full attention, run beside a configuration in one process, shares with it
    "backbone", "history", "recent", "layers", "heads", "item_layers", "width", "key_value_heads", "feed_forward", "time_bias",
    "batch_size", "device", "dtype", "threads", "counts", "request_time", "divisor", "serving",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class References:
    """What a configuration is compared with; ``None`` where the run has no such cell.

    ``full_alike`` is full attention that is served as the configuration is: its ``serving`` is the same.
    ``no_token`` is the best on validation of what carries no token: the experts' layout at 0 tokens, of an elastic model or of a model of
    its own, and ``recent``; where neither was measured, that of another length of the history. Where the output counts items, full
    attention counts all of them and no token the recent ones alone; ``counts_only`` is no token with counts of the history: it shows what
    tokens are worth beside counts.
    ``not_trained`` names the candidates that are missing, also those for full history. ``weak`` are no token and counts only
    where they are an elastic model's own point, and no model of that alone was trained: one might be better.
    """

    full: Configuration | None
    full_cached: Configuration | None
    full_alike: Configuration | None
    no_token: Configuration | None
    recent: Configuration | None
    counts_only: Configuration | None = None
    not_trained: tuple[str, ...] = ()
    weak: tuple[Configuration, ...] = ()

    @property
    def full_quality(self) -> Configuration | None:
        """Full attention over the window, the better model on validation; how it is served does not change what it ranks."""
        return best_on_validation([one for one in (self.full, self.full_cached) if one is not None])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contrast:
    """One configuration beside its references, on one metric."""

    configuration: Configuration
    references: References
    metric: str
    quality: Estimate
    over_no_token: Estimate
    over_full: Estimate
    over_recent: Estimate
    over_counts_only: Estimate
    full_over_no_token: Estimate
    retention: Estimate
    recovered: Estimate

    @property
    def all_unequal(self) -> tuple[str, ...]:
        """Why its shares of full history do not rest on equal training: its own, full history's and no token's."""
        others = (self.references.full_quality, self.references.no_token)
        reasons = [reason for other in others if other is not None for reason in unequal(self.configuration, other)]
        return tuple(dict.fromkeys(reasons))


def worth_nothing(gap: Estimate, full: Configuration | None, no_token: Configuration | None) -> bool:
    """Whether full history minus no token is below 0, or cannot be told from 0; False after unequal training, which decides nothing.

    Student's interval of two seeds is 12.7 standard errors wide and tells next to nothing, so two seeds that agree leave it open. One
    seed is no verdict either way: whoever says so in words says that, too.
    """
    if gap.value is None or gap.low is None or (full is not None and no_token is not None and unequal(full, no_token)):
        return False
    return gap.value < 0 or (gap.holds_zero and not _two_seeds_agree(gap))


def _two_seeds_agree(gap: Estimate) -> bool:
    """Whether both of two seeds, and the interval over users of their mean, lie above 0."""
    low = None if gap.replicates is None else interval_of(gap.replicates)[0]
    return len(gap.by_seed) == 2 and min(gap.by_seed) > 0 and low is not None and low > 0


def best_on_validation(candidates: Sequence[Configuration]) -> Configuration | None:
    """The best of many, chosen on validation, so that its test quality is not the luckiest.

    What was measured goes before what was not. Where validation is the same, the earlier candidate is chosen.
    """

    def place(one: Configuration) -> tuple[bool, float]:
        figure = validation(one)
        return bool(one.measured), -1.0 if figure is None else figure

    return max(candidates, key=place, default=None)


def learnt_alike(one: Configuration, among: Sequence[Configuration]) -> Sequence[Configuration]:
    """Those that are served as they were trained, and learnt as ``one`` did on the same data (`Configuration.shared`)."""
    return _by_shared(tuple(among)).get(one.shared, [])


@functools.lru_cache(maxsize=8)
def _by_shared(among: tuple[Configuration, ...]) -> Mapping[tuple[Any, ...], list[Configuration]]:
    """Those that are served as they were trained, by the data and all settings that comparable ones share."""
    groups: dict[tuple[Any, ...], list[Configuration]] = {}
    for one in among:
        if not one.changed:
            groups.setdefault(one.shared, []).append(one)
    return groups


@functools.lru_cache(maxsize=8)
def _bare(among: tuple[Configuration, ...]) -> Mapping[tuple[Any, ...], list[Configuration]]:
    """Of `_by_shared` those that can be a reference: full attention, recent items alone, no token."""
    return {
        shared: [one for one in alike if one.cell.compression in ("full", "recent") or one.is_control or one.is_counts_only]
        for shared, alike in _by_shared(among).items()
    }


def find_references(one: Configuration, among: Sequence[Configuration]) -> References:
    """The cells of the same model, losses and data that a configuration is compared with.

    A cell that was measured goes before one that was not, a trained one before an untrained one (the other way round where ``one``
    itself is untrained), then the best on validation, then the one whose other settings differ least.
    """
    return _references(one, tuple(among))


@functools.lru_cache(maxsize=_REMEMBERED)
def _references(one: Configuration, among: tuple[Configuration, ...]) -> References:
    same = _bare(among).get(one.shared, [])

    def strongest(candidates: Iterable[Configuration]) -> Configuration | None:
        nearest = sorted(candidates, key=lambda c: (c.trained != one.trained, _differing(one, c), c.key))
        alike = [c for c in nearest if c.trained == one.trained and c.measured]
        return best_on_validation(alike or nearest)

    full = [other for other in same if other.cell.compression == "full" and other.window == one.window and other.cell.counts != "recent"]
    counting = [other for other in same if other.is_counts_only and _layout(other) == _layout(one)]
    controls = [other for other in same if other.is_control and _layout(other) == _layout(one)]
    alone = [other for other in same if other.cell.compression == "recent" and other.cell.recent == one.cell.recent]
    recent = strongest([other for other in alone if other.window == one.window and other.measured] or alone)  # a window bounds the steps
    # recent alone stands last: where validation does not tell them apart, the same layout is the nearer control
    no_token = best_on_validation([c for c in (strongest(controls), recent) if c is not None])
    candidates = [*controls, *([recent] if recent is not None else [])]
    if no_token is None or not no_token.measured:  # none reads any history, so that of another length stands in
        candidates = [other for other in same if other.is_control and other.measured and _layout(other)[1:] == _layout(one)[1:]]
        no_token = strongest(candidates) or no_token
    counts_only = strongest(counting)
    with_candidates = ((no_token, candidates), (counts_only, counting))
    return References(
        full=strongest(other for other in full if other.cell.serving == "recompute"),
        full_cached=strongest(other for other in full if other.cell.serving == ("append" if one.cell.serving == "append" else "cache")),
        full_alike=strongest(other for other in full if other.cell.serving == one.cell.serving),
        no_token=no_token,
        recent=recent,
        counts_only=counts_only,
        not_trained=_not_trained({"no token": controls, "full history": full} | ({"counts only": counting} if counting else {}), recent),
        weak=tuple(reference for reference, others in with_candidates if reference is not None and _is_weak(reference, others)),
    )


def _is_weak(reference: Configuration, among: Sequence[Configuration]) -> bool:
    """Whether it is an elastic model's point, and none of the others was trained for that alone."""
    return reference.cell.training == "elastic" and not any(one.measured and one.cell.training == "separate" for one in among)


def _not_trained(candidates_of: Mapping[str, Sequence[Configuration]], recent: Configuration | None) -> tuple[str, ...]:
    """Which of the models that a reference could be were not measured."""
    groups = [
        (f"{name} ({training})", [one for one in candidates if one.cell.training == training])
        for name, candidates in candidates_of.items()
        for training in ("separate", "elastic")
    ]
    groups.append(("recent items alone", [recent] if recent is not None else []))
    return tuple(name for name, candidates in groups if not any(one.measured for one in candidates))


def untouched(one: Configuration, among: Sequence[Configuration]) -> Configuration | None:
    """The same model served from its own fresh cache as computed; ``None`` where the run has no such cell."""
    return next((other for other in served_alike(one, among) if not other.changed), None)


def figure_on_validation(one: Configuration, among: Sequence[Configuration]) -> float | None:
    """What chooses between configurations: the mean over seeds of NDCG@10 on the validation targets; None where a record holds none.

    For a cache that is stored more coarsely it is the figure of the model's own cache, with which validation was measured.
    """
    figure = own_validation(one)
    own = untouched(one, among) if figure is None and one.changed else None
    return figure if own is None else own_validation(own)


def served_alike(one: Configuration, among: Sequence[Configuration]) -> Sequence[Configuration]:
    """Those of the same trained model and layout, whatever else they are served from (`Configuration.served_from`)."""
    return _by_model(tuple(among)).get(one.served_from, [])


@functools.lru_cache(maxsize=8)
def _by_model(among: tuple[Configuration, ...]) -> Mapping[tuple[Any, ...], list[Configuration]]:
    groups: dict[tuple[Any, ...], list[Configuration]] = {}
    for one in among:
        groups.setdefault(one.served_from, []).append(one)
    return groups


def contrasted(among: Sequence[Configuration]) -> list[Configuration]:
    """Those to compare with the references: all of ours that learn something, controls and full history among them."""
    return [one for one in among if not one.is_floor and not one.is_peer and one.quality(QUALITY_METRICS[0]).value is not None]


def compare(one: Configuration, among: Sequence[Configuration], metric: str) -> Contrast:
    """A configuration beside its references on one metric."""
    return _compared(one, tuple(among), metric)


@functools.lru_cache(maxsize=_REMEMBERED)
def _compared(one: Configuration, among: tuple[Configuration, ...], metric: str) -> Contrast:
    references = find_references(one, among)
    ours = one.quality(metric)
    full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
    no_token = reference_quality(references.no_token, metric, "no cell without tokens")
    recent = reference_quality(references.recent, metric, "no cell trained on the recent items alone")
    worth = difference(full, no_token)
    return Contrast(
        configuration=one,
        references=references,
        metric=metric,
        quality=ours,
        over_no_token=difference(ours, no_token),
        over_full=difference(ours, full),
        over_recent=difference(ours, recent),
        over_counts_only=difference(ours, reference_quality(references.counts_only, metric, "no cell of counts alone")),
        full_over_no_token=worth,
        retention=_NOTHING_TO_KEEP if worth_nothing(worth, references.full_quality, references.no_token) else retention(ours, full),
        recovered=recovered(ours, no_token, full),
    )


def request_time_share(one: Configuration, other: Configuration | None) -> Estimate:
    """Time of a whole request over that of full attention ``other`` served the same way, with a 95% interval."""
    return _NONE_ALIKE if other is None else timed_share("request_latency_p50_ms", one, other)


def backbone_time_share(one: Configuration, other: Configuration | None) -> Estimate:
    """Time of a request, the backbone alone, over that of full attention ``other`` served the same way, with a 95% interval.

    Where full attention of the same sizes ran in turn with it, one user at a time, it is their ratio over several processes; else
    the ratio of times measured apart, one user at a time as well.
    """
    paired = one.cost("serve_time_over_alike")
    alone = one.cell.batch_size == 1  # ratios of batches are no times of a request
    like_other = alone if other is None else alone and all(getattr(one.cell, name) == getattr(other.cell, name) for name in _OF_A_CONTROL)
    if like_other and paired.low is not None and paired.high is not None and all(map(has_processes, one.measured)):
        return paired
    return _NONE_ALIKE if other is None else timed_share("serve_latency_p50_ms", one, other)


def timed_share(cost: str, one: Configuration, other: Configuration) -> Estimate:
    """A timed cost over another configuration's, with a 95% interval; no value where a side was not timed in several processes.

    The two sides are measured apart, so their uncertainties add up in quadrature, on the scale of logarithms. The upper end lies above the
    ratio by the root of the sum of two squares: of our distance from the value up to ``high``, and of theirs from the value down to
    ``low``. The lower end takes the other two distances.
    """
    ours, theirs = _of_processes(cost, one), _of_processes(cost, other)
    if ours is None or theirs is None:
        return Estimate(value=None, reason="not timed in several processes on both sides")
    (value, low, high), (their_value, their_low, their_high) = ours, theirs
    up = math.hypot(math.log(high / value), math.log(their_value / their_low))
    down = math.hypot(math.log(value / low), math.log(their_high / their_value))
    share = value / their_value
    return Estimate(value=share, low=share * math.exp(-down), high=share * math.exp(up))


def _of_processes(cost: str, one: Configuration) -> tuple[float, float, float] | None:
    """A cost above 0 with its interval over processes; None where it was measured in a single one, or that is not known."""
    estimate = one.cost(cost)
    if estimate.value is None or estimate.low is None or estimate.high is None or min(estimate.value, estimate.low) <= 0:
        return None
    return (estimate.value, estimate.low, estimate.high) if all(map(has_processes, one.measured)) else None


def reference_quality(reference: Configuration | None, metric: str, absent: str) -> Estimate:
    """The quality of a reference, or that it is absent and why."""
    return Estimate(value=None, reason=absent) if reference is None else reference.quality(metric)


def _layout(one: Configuration) -> tuple[object, ...]:
    return one.cell.history, one.cell.recent, one.cell.segments, one.offsets


def _differing(one: Configuration, other: Configuration) -> int:
    return sum(getattr(one.cell, name) != getattr(other.cell, name) for name in _SETTINGS)
