"""What a shape costs, from the fresh processes that measured it.

A process has its own memory layout, its own place on the machine and its own moment; equal shapes differed up to twofold when each was
measured in one. So a timed value is the median of the processes' own, and its interval is over them: Student's t of their logarithms,
which knows nothing of how calls spread inside one process. Counts are the same in every process, and taken in the first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from benchmarks.measures import MEASURES
from benchmarks.records import Metric

SHARE = 0.975  # of Student's t below the upper end of a 95% interval
SAMPLES_OF = {"_p95_": 200, "_p99_": 1000}  # what a percentile takes, over all processes


def over_processes(processes: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics of a cost, by those of its processes."""
    found: dict[str, list[Metric]] = {}
    for metrics in processes:
        for name, metric in metrics.items():
            found.setdefault(name, []).append(metric)
    return {name: _merged(name, metrics) for name, metrics in found.items()}


def _merged(name: str, metrics: Sequence[Metric]) -> Metric:
    told = [metric for metric in metrics if metric.value is not None]
    if MEASURES[name].deterministic or not told:
        return metrics[0]
    values = [float(metric.value) for metric in told if metric.value is not None]
    samples = sum(metric.n for metric in told)
    needed = next((count for part, count in SAMPLES_OF.items() if part in name), 0)
    if samples < needed:
        return replace(metrics[0], value=None, low=None, high=None, n=samples, method=f"{samples} requests; it takes {needed} at least")
    value = float(np.median(values))
    low, high = interval(values) if len(values) > 1 else (None, None)
    middle = told[int(np.argmin([abs(one - value) for one in values]))]
    return replace(middle, value=_as_told(value, told), low=low, high=high, n=samples, method=f"{_how(len(values))}; each: {middle.method}")


def _how(count: int) -> str:
    if count == 1:
        return "one process, so no interval"
    return f"median of {count} processes, low and high are the 95% interval over them"


def _as_told(value: float, told: Iterable[Metric]) -> float | int:
    """A number of bytes stays a whole one."""
    return int(value) if all(isinstance(metric.value, int) for metric in told) else value


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of what processes give, in which their median always lies; of values of which one is 0, their range.

    Args:
        values: of at least 2 processes.
    """
    if min(values) <= 0:
        return min(values), max(values)
    logs = np.log(values)
    half = float(stdtrit(len(values) - 1, SHARE) * logs.std(ddof=1) / math.sqrt(len(values)))
    middle, median = float(logs.mean()), float(np.median(logs))
    return math.exp(min(middle - half, median)), math.exp(max(middle + half, median))
