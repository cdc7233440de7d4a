"""What a shape costs, from the fresh processes that measured it.

A process has its own memory layout, its own place on the machine and its own moment: equal shapes differed up to twofold when each was
measured in one process. So a timed value is the median of the processes' values. Its interval is over the processes, by Student's t of
their logarithms; how calls spread inside one process does not count. Counts are the same in every process, so the first one takes them.

A 95th or 99th percentile is that of the requests of all processes together: one slow process of three makes a third of all requests slow,
which the median of the processes' own percentiles would hide.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.analysis.estimates import interval_over_processes
from benchmarks.measures import MEASURES
from benchmarks.records import Environment, Metric, Process

PERCENTILES = {"_p95_": (95, 200), "_p99_": (99, 1000)}  # the percentile, and how many requests of all processes it takes
NOTES = (  # what `benchmarks.probes` adds to the method of a timing
    re.compile(r", interquartile range (?P<share>[0-9]+)% of the (?:median|value)"),
    re.compile(r", other processes used (?P<share>[0-9]+)% of the processors"),
)
MEDIAN = "_p50_"  # whose metric holds a process's samples


def over_processes(processes: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics of a cost, by those of its processes."""
    by_name: dict[str, list[Metric]] = {}
    for metrics in processes:
        for name, metric in metrics.items():
            if name in MEASURES:  # an old record may have a measure that is gone
                by_name.setdefault(name, []).append(metric)
    return {name: _over_processes(name, metrics, processes) for name, metrics in by_name.items()}


def with_load(environment: Environment, load: Mapping[str, Any]) -> Environment:
    """An environment with these readings of what other processes used."""
    return replace(environment, readings={**environment.readings, "load": dict(load)})


def heaviest_load(processes: Iterable[Process]) -> dict[str, Any]:
    """For each kind of number, the readings of the process that had the most foreign load, among those that hold such a number."""
    heaviest: dict[str, Any] = {}
    for one in processes:
        kinds = {MEASURES[name].kind for name in one.metrics if name in MEASURES}
        for kind, reading in one.environment.loads().items():
            if kind in kinds and (kind not in heaviest or _foreign_share(reading) >= _foreign_share(heaviest[kind])):
                heaviest[kind] = reading
    return heaviest


def _foreign_share(reading: Mapping[str, Any]) -> float:
    share = reading.get("foreign_cpu_share")
    return float(share) if isinstance(share, int | float) else 0.0


def _over_processes(name: str, metrics: Sequence[Metric], processes: Sequence[Mapping[str, Metric]]) -> Metric:
    part = next((part for part in PERCENTILES if part in name), None)
    return _merged(name, metrics) if part is None else _pooled(name, part, processes)


def _merged(name: str, metrics: Sequence[Metric]) -> Metric:
    measurements = [metric for metric in metrics if metric.value is not None]
    if MEASURES[name].deterministic or not measurements:
        return metrics[0]
    values = [float(metric.value) for metric in measurements if metric.value is not None]
    value = float(np.median(values))
    low, high = interval_over_processes(values) if len(values) > 1 else (None, None)
    middle, n = _nearest(measurements, value), sum(metric.n for metric in measurements)
    method = f"{_how(len(values), range_alone=min(values) <= 0)}; each: {_with_worst_notes(middle, measurements)}"
    return replace(middle, value=_typed_alike(value, measurements), low=low, high=high, n=n, method=method, samples=())


def _pooled(name: str, part: str, processes: Sequence[Mapping[str, Metric]]) -> Metric:
    """A percentile of the requests of all processes; it has no interval, since few processes say little of the next one's tail."""
    percentile, needed = PERCENTILES[part]
    with_value = [one for one in processes if name in one and one[name].value is not None]
    if not with_value:
        return next(one[name] for one in processes if name in one)
    metrics = [one[name] for one in with_value]
    samples = [one[median].samples if (median := name.replace(part, MEDIAN)) in one else () for one in with_value]
    n = sum(metric.n for metric in metrics)
    nothing = replace(metrics[0], value=None, low=None, high=None, n=n)
    if n < needed:
        return replace(nothing, method=f"{n} requests; it takes {needed} at least")
    if len(metrics) == 1:
        return replace(metrics[0], low=None, high=None, method=f"{_how(1)}; each: {metrics[0].method}")
    if not all(samples):
        return replace(nothing, method="single requests were not kept in every process, so the processes cannot be pooled")
    value = float(np.percentile(np.concatenate(samples), percentile))
    how = f"of the requests of {len(metrics)} processes together{_range_of_enough(metrics, needed)}: no interval"
    middle = _nearest(metrics, value)
    return replace(middle, value=value, low=None, high=None, n=n, method=f"{how}; each: {_with_worst_notes(middle, metrics)}")


def _range_of_enough(metrics: Sequence[Metric], needed: int) -> str:
    """The processes' own percentiles, where each has the requests that one takes."""
    if any(metric.n < needed for metric in metrics):
        return ""
    values = [float(metric.value or 0.0) for metric in metrics]
    return f", whose own are {min(values):.3g} to {max(values):.3g}"


def _with_worst_notes(middle: Metric, metrics: Sequence[Metric]) -> str:
    """The method of one process, with the widest spread and the highest foreign load that any process noted."""
    method = middle.method
    for pattern in NOTES:
        method = pattern.sub("", method)
        notes = [match for one in metrics if (match := pattern.search(one.method))]
        if notes:
            worst = max(notes, key=lambda match: float(match["share"]))
            method += worst[0] if len(metrics) == 1 else f"{worst[0]} (noted in {len(notes)} of {len(metrics)} processes, the most of them)"
    return method


def _nearest(metrics: Sequence[Metric], value: float) -> Metric:
    """The metric whose value is nearest."""
    return min(metrics, key=lambda metric: abs(float(metric.value or 0.0) - value))


def _how(count: int, *, range_alone: bool = False) -> str:
    if count == 1:
        return "one process, so no interval"
    if range_alone:
        return f"median of {count} processes, low and high are their range: a value of 0 has no logarithm to take an interval of"
    return f"median of {count} processes, low and high are the 95% interval over them"


def _typed_alike(value: float, metrics: Iterable[Metric]) -> float | int:
    """The value in the type of the metrics' own: a number of bytes stays a whole one."""
    return int(value) if all(isinstance(metric.value, int) for metric in metrics) else value
