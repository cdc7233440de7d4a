"""Why a record cannot be true, and the ranges of its numbers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.gate.baseline import as_finite
from benchmarks.measures import MEASURES
from benchmarks.records import Metric

SLACK = 1e-9  # what two sums of one number may differ by


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a record cannot be true; of one number, or of the record as a whole."""

    reason: str
    metric: str | None = None


def out_of_range(metrics: Mapping[str, Metric]) -> Iterator[Fault]:
    """Numbers, and ends of intervals, that no measurement gives."""
    for name, metric in metrics.items():
        if name not in MEASURES:
            continue
        most = MEASURES[name].most
        for what, number in (("", metric.value), ("the interval's low end, ", metric.low), ("the interval's high end, ", metric.high)):
            finite = as_finite(number)
            if finite is not None and not 0 <= finite <= most:
                ends = "0 or more" if most == math.inf else f"0 to {most:g}"
                yield Fault(metric=name, reason=f"{what}{finite:g} is out of range; expected {ends}")
        if metric.low is not None and metric.high is not None and metric.low > metric.high:
            yield Fault(metric=name, reason=f"its interval ends before it begins: {metric.low:g} to {metric.high:g}")
