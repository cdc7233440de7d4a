"""Whether a record's quality can be true: over as many users as there are, with the resamples that its intervals come from.

Every paired interval and every verdict of a report is taken from the resamples (`benchmarks.records.Replicates`), so they are compared with
the numbers beside them. Pure: no file, no torch.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.gate.faults import SLACK, Fault, out_of_range
from benchmarks.measures import MEASURES, RESAMPLE_SEED, RESAMPLED, RESAMPLES
from benchmarks.records import DatasetFacts, Metric, Record
from persrec.names import CUTOFFS, INTERVAL, LEAVE_ONE_OUT

NEAR = 1e-6  # what two ways of summing the same users may differ by
DEVIATIONS = 6  # of the mean of the resamples: how many of them it may lie from the value itself
WHOLE_PAST = "whole_past"  # the ceiling of a predictor that knows the whole past


def faults_of_quality(record: Record) -> Iterator[Fault]:
    """Everything in a record's quality that cannot be true."""
    yield from _of_users(record)
    yield from _of_replicates(record)
    yield from _of_ceiling(record)
    for group in record.groups:
        where = f"of users with {group.least} events or more"
        yield from (_at_place(fault, where) for fault in (*out_of_range(group.metrics), *off_its_interval(group.metrics)))
    for protocol in record.protocols:
        where = f"under the protocol {protocol.name}"
        yield from (_at_place(fault, where) for fault in (*out_of_range(protocol.metrics), *off_its_interval(protocol.metrics)))
    yield from off_its_interval(record.metrics)


def off_its_interval(metrics: Mapping[str, Metric]) -> Iterator[Fault]:
    """Qualities outside of the interval beside them."""
    for name, metric in metrics.items():
        if name not in MEASURES or MEASURES[name].group != "quality" or metric.value is None:
            continue
        if (metric.low is not None and metric.value < metric.low - SLACK) or (
            metric.high is not None and metric.value > metric.high + SLACK
        ):
            yield Fault(metric=name, reason=f"{metric.value:g} lies outside of its interval, {metric.low} to {metric.high}")


def _at_place(fault: Fault, where: str) -> Fault:
    return Fault(metric=fault.metric, reason=f"{where}: {fault.reason}")


def _of_users(record: Record) -> Iterator[Fault]:
    """With leave-one-out every user has one target: a mean is over all users, and a recall is a whole number of them."""
    data = record.dataset
    if data is None or data.targets is None or record.cell.split != LEAVE_ONE_OUT:  # the cell's: a key holds it to what was measured
        return
    for name in _of_all_users():
        metric = record.metrics.get(name)
        if metric is None or metric.value is None:
            continue
        if metric.n != data.targets:
            yield Fault(metric=name, reason=f"it is over {metric.n} users; the test has {data.targets}")
        elif (
            name.startswith("recall@")
            and 0 <= metric.value <= 1
            and abs(metric.value * metric.n - round(metric.value * metric.n)) > NEAR * metric.n
        ):
            yield Fault(metric=name, reason=f"{metric.value:g} of {metric.n} users is no whole number of them")


def _of_all_users() -> Iterator[str]:
    yield from (f"{kind}@{cutoff}" for kind in ("recall", "ndcg") for cutoff in CUTOFFS)
    yield "mrr"


def _of_replicates(record: Record) -> Iterator[Fault]:
    """Resamples that no users with these numbers give, or that are not the ones which every record draws."""
    if record.replicates is None:
        return
    if record.replicates.seed != RESAMPLE_SEED:
        yield Fault(reason=f"its resamples are of seed {record.replicates.seed}; expected {RESAMPLE_SEED}, as of every record")
    for name in dict.fromkeys((*RESAMPLED, *record.replicates.means)):
        metric, means = record.metrics.get(name), np.asarray(record.replicates.means.get(name, ()), dtype=np.float64)
        if metric is None or metric.value is None:
            continue
        if len(means) != RESAMPLES:
            yield Fault(metric=name, reason=f"it has {len(means)} resamples; expected {RESAMPLES}, as every record has")
            continue
        if not (np.isfinite(means).all() and means.min() >= 0 and means.max() <= 1):
            yield Fault(metric=name, reason="its resamples leave 0 to 1")
            continue
        away = abs(float(means.mean()) - metric.value)
        if away > DEVIATIONS * float(means.std()) / math.sqrt(len(means)) + NEAR:
            yield Fault(metric=name, reason=f"its resamples' mean is {means.mean():g}, and its value {metric.value:g}")
        elif metric.low is not None and metric.high is not None:
            low, high = np.percentile(means, INTERVAL)
            if low < metric.low - NEAR or high > metric.high + NEAR:
                yield Fault(
                    metric=name, reason=f"its resamples lie in {low:g} to {high:g}, its interval is {metric.low:g} to {metric.high:g}"
                )


def _of_ceiling(record: Record) -> Iterator[Fault]:
    """A model that surely ranks better than a predictor that knows how the data were drawn has seen the future."""
    data: DatasetFacts | None = record.dataset
    if data is None or data.ceiling is None:
        return
    for name, most in data.ceiling.get(WHOLE_PAST, {}).items():
        metric = record.metrics.get(name)
        if metric is not None and metric.low is not None and metric.low > most + SLACK:
            yield Fault(
                metric=name, reason=f"its interval begins at {metric.low:g}, above {most:g}, the most that the past of these data tells"
            )
