"""Two runs beside each other: which configurations both have, what moved between them, and which differences may explain it.

A setting with one value in all cells of the first run and another in all of the second is a difference of the runs: cells are paired
without it, and it is named as a cause. Qualities are paired by seed and, replicate by replicate, by user.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.references import timed_share
from benchmarks.analysis.trained import steps_in_words
from benchmarks.cell import Cell
from benchmarks.environment import HASHED_FACTS
from benchmarks.measures import MEASURES
from benchmarks.records import Environment, Half, Origin, Record

COUNTED = ("parameters", "compress_flops", "serve_flops", "train_flops", "cache_bytes")
TIMED = ("serve_latency_p50_ms", "request_latency_p50_ms", "compress_users_per_second", "serve_peak_bytes")
DATA = "data"
_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Cell) if setting.name != "seed")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunPair:
    """One configuration in two runs, of the seeds that both have; of all seeds where they share none."""

    first: Configuration
    second: Configuration
    seeds: tuple[int, ...]

    def difference(self, metric: str) -> Estimate:
        """The second's quality minus the first's, paired over seeds and users; other targets are not paired."""
        return difference(self.second.quality(metric), self.first.quality(metric))

    def is_same(self, metric: str) -> bool:
        """Whether a quality is the same to the last digit, seed by seed."""
        return bool(self.seeds) and self.first.quality(metric).by_seed == self.second.quality(metric).by_seed

    def count(self, metric: str) -> tuple[float, float] | None:
        """A counted cost in both runs, if it moved beyond its margin."""
        ours, theirs = self.first.cost(metric).value, self.second.cost(metric).value
        if ours is None or theirs is None or abs(theirs - ours) <= MEASURES[metric].margin(ours):
            return None
        return ours, theirs

    @property
    def on_one_machine(self) -> bool:
        """Whether all costs of both are of one machine, by its fingerprint."""
        costs = (record.cost for one in (self.first, self.second) for record in one.measured if record.cost is not None)
        machines = {cost.environment.fingerprint for cost in costs}
        return len(machines) == 1 and None not in machines

    def time(self, metric: str) -> Estimate:
        """The second's timed cost over the first's; no value where another machine took it."""
        if self.first.cost(metric).value is None or self.second.cost(metric).value is None:
            return Estimate(value=None, reason="not measured in both")
        if not self.on_one_machine:
            return Estimate(value=None, reason="timed on other machines, which are not compared")
        return timed_share(metric, self.second, self.first)

    def causes(self, half: Half) -> tuple[str, ...]:
        """What differs in how a half was made: code, machine, packages, and for a quality how long its model was trained."""
        kinds: set[str] = set()
        facts: dict[str, None] = {}
        for first, second in self._origins(half):
            kinds |= {kind for kind in first.code.keys() & second.code.keys() if first.code[kind] != second.code[kind]}
            facts |= dict.fromkeys(facts_that_differ(first.environment, second.environment))
        steps = steps_in_words(self.second, self.first) if half == "quality" else ""
        causes = (*(f"code of {kind.replace('_', ' ')}" for kind in sorted(kinds)), *facts)
        return (*causes, steps) if steps else causes

    def _origins(self, half: Half) -> Iterator[tuple[Origin, Origin]]:
        """The origins of a half in both runs, seed by seed; where no seed is in both, those of the first seed of each."""
        ours, theirs = ({record.cell.seed: _origin(record, half) for record in one.records} for one in (self.first, self.second))
        pairs = ((ours[seed], theirs[seed]) for seed in self.seeds) if self.seeds else zip(ours.values(), theirs.values(), strict=False)
        for first, second in itertools.islice(pairs, len(self.seeds) or 1):
            if first is not None and second is not None:
                yield first, second


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Between:
    """Two runs: what both have, and what one has alone.

    Attributes:
        pairs: configurations of both.
        only_first: those of the first alone.
        only_second: those of the second alone.
        settings: those in which the runs differ as wholes, with the value of all cells of the first and that of all of the second.
        disjoint: settings in which the runs share no value, though a run has several: such cells are not paired.
    """

    pairs: tuple[RunPair, ...]
    only_first: tuple[Configuration, ...]
    only_second: tuple[Configuration, ...]
    settings: Mapping[str, tuple[str, str]]
    disjoint: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatedMeasure:
    """How far the values of one timed measure, or a peak, lie from those of another run on the same machine.

    Attributes:
        metric: the measure.
        values: shapes of both runs with an interval over processes in each.
        apart: of these, how many intervals share no value.
        outside: of these, how many values lie outside each other's interval.
    """

    metric: str
    values: int
    apart: int
    outside: int


def repeated(pairs: Iterable[RunPair]) -> list[RepeatedMeasure]:
    """By measure, the shapes that both runs timed on one machine, each shape once however many configurations share it."""
    by_metric: dict[str, dict[object, tuple[bool, bool]]] = {}
    for pair in (one for one in pairs if one.on_one_machine):
        for metric in (name for name, measure in MEASURES.items() if not measure.deterministic and measure.group != "quality"):
            (ours, low, high), (theirs, their_low, their_high) = (
                (estimate.value, estimate.low, estimate.high) for estimate in (pair.first.cost(metric), pair.second.cost(metric))
            )
            if ours is None or theirs is None or low is None or high is None or their_low is None or their_high is None:
                continue
            shape = frozenset(record.cost.key for record in pair.first.measured if record.cost is not None)
            apart = high < their_low or their_high < low
            by_metric.setdefault(metric, {})[shape] = apart, not their_low <= ours <= their_high and not low <= theirs <= high
    return [
        RepeatedMeasure(
            metric=metric,
            values=len(by_shape),
            apart=sum(apart for apart, _ in by_shape.values()),
            outside=sum(outside for _, outside in by_shape.values()),
        )
        for metric, by_shape in by_metric.items()
    ]


def between(first: Sequence[Record], second: Sequence[Record]) -> Between:
    """Pairs the configurations of two runs."""
    ours, theirs = configurations(first), configurations(second)
    settings, disjoint = _settings_that_differ(ours, theirs)
    by_key = {_point(one, settings): one for one in theirs}
    pairs, alone = [], []
    for one in ours:
        other = by_key.pop(_point(one, settings), None)
        if other is None:
            alone.append(one)
        else:
            pairs.append(_pair(one, other))
    return Between(
        pairs=tuple(pairs), only_first=tuple(alone), only_second=tuple(by_key.values()), settings=settings, disjoint=tuple(disjoint)
    )


def facts_that_differ(first: Environment, second: Environment) -> list[str]:
    """The stable facts of two machines that differ: ``torch 2.12.0 to 2.13.0``."""
    if first.fingerprint is not None and first.fingerprint == second.fingerprint:
        return []
    changes = []
    for name in HASHED_FACTS:
        ours, theirs = getattr(first, name), getattr(second, name)
        if name == "packages":
            packages = sorted(ours.keys() | theirs.keys())
            changes += [
                _to(package, ours.get(package), theirs.get(package)) for package in packages if ours.get(package) != theirs.get(package)
            ]
        elif ours != theirs:
            changes.append(_to(name.replace("_", " "), ours, theirs))
    return changes


def _pair(one: Configuration, other: Configuration) -> RunPair:
    seeds = tuple(sorted({record.cell.seed for record in one.measured} & {record.cell.seed for record in other.measured}))
    if not seeds:
        return RunPair(first=one, second=other, seeds=())
    return RunPair(first=_of_seeds(one, seeds), second=_of_seeds(other, seeds), seeds=seeds)


def _of_seeds(one: Configuration, seeds: Iterable[int]) -> Configuration:
    (alike,) = configurations([record for record in one.records if record.cell.seed in set(seeds)])
    return alike


def _settings_that_differ(ours: Sequence[Configuration], theirs: Sequence[Configuration]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    differing, disjoint = {}, []
    for name in (*_SETTINGS, DATA):
        first, second = ({_value(one, name) for one in side} for side in (ours, theirs))
        if first & second:
            continue
        if len(first) == len(second) == 1:
            differing[name] = str(*first), str(*second)
        else:
            disjoint.append(name)
    return differing, disjoint


def _value(one: Configuration, name: str) -> Any:
    return one.dataset_digest[:12] if name == DATA else getattr(one.cell, name)


def _point(one: Configuration, apart_from: Iterable[str]) -> tuple[object, ...]:
    left_out = set(apart_from)
    return tuple(None if name in left_out else _value(one, name) for name in (*_SETTINGS, DATA))


def _origin(record: Record, half: Half) -> Origin | None:
    return record.quality if half == "quality" else record.cost


def _to(name: str, ours: object, theirs: object) -> str:
    return f"{name} {'none' if ours is None else ours} to {'none' if theirs is None else theirs}"
