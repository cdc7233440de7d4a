"""Faults that are planted into a baseline's own numbers, one at a time, and must each be seen by the gate. Imports no torch.

The planted record says of itself what the baseline says, and comes from a machine that the baseline does not know: so the gate has
its wide margins, and what it finds it finds anywhere.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from benchmarks.findings import UNMEASURED, Verdict
from benchmarks.gate.baseline import Baseline, BaselineEntry
from benchmarks.gate.differences import CONTROLS, METRIC, clear_differences
from benchmarks.gate.judge import judge
from benchmarks.measures import MEASURES
from benchmarks.noise.record import Planted
from benchmarks.records import DatasetFacts, Metric, Record

MORE_FLOPS, MORE_MEMORY, IMPOSSIBLE_RECALL = 1.05, 2.0, 1.7
LEAST_PEAK = 5 * 2**20
SEEN = (Verdict.REGRESSION, *UNMEASURED)
Changes = Iterator[tuple[str, Mapping[str, float]]]  # a cell's key, and what of its metrics is another number


def raised_flops(baseline: Baseline, *, named: str) -> Planted:
    """Every FLOP number of a baseline, one at a time 5% higher; ``named`` is how its file is called in the record."""
    return _planted("5% more, one number at a time", named, _alone(baseline, _scaled(baseline, "_flops", MORE_FLOPS)))


def other_faults(baseline: Baseline, *, named: str) -> tuple[Planted, ...]:
    """What a broken method or a broken measurement would show, one cell at a time."""
    return (
        *(_planted(f"the quality of {of} in PerSRec's place", named, _exchanged(baseline, of)) for of in CONTROLS),
        _planted(
            f"a doubled peak of memory, of {LEAST_PEAK // 2**20} MiB or more",  # smaller ones are an allocator's whim
            named,
            _alone(baseline, _scaled(baseline, "_peak_bytes", MORE_MEMORY, least=LEAST_PEAK)),
        ),
        _planted(f"a recall of {IMPOSSIBLE_RECALL}", named, _alone(baseline, _set(baseline, "recall@10", IMPOSSIBLE_RECALL))),
    )


def _planted(what: str, named: str, trials: Iterable[tuple[Baseline, str, Mapping[str, float]]]) -> Planted:
    seen = [_is_seen(*trial) for trial in trials]
    return Planted(planted=what, baseline=named, trials=len(seen), found=sum(seen))


def _alone(baseline: Baseline, changes: Changes) -> Iterator[tuple[Baseline, str, Mapping[str, float]]]:
    """Each change beside a baseline of that cell alone."""
    for key, changed in changes:
        yield dataclasses.replace(baseline, entries={key: baseline.entries[key]}), key, changed


def _scaled(baseline: Baseline, ending: str, factor: float, *, least: float = 0) -> Changes:
    """One number at a time, of ``least`` or more, larger by a factor."""
    for key, entry in baseline.entries.items():
        for name, value in entry.metrics.items():
            if name.endswith(ending) and value and value >= least:
                yield key, {name: value * factor}


def _set(baseline: Baseline, name: str, value: float) -> Changes:
    for key, entry in baseline.entries.items():
        if name in entry.metrics:
            yield key, {name: value}


def _exchanged(baseline: Baseline, of: str) -> Iterator[tuple[Baseline, str, Mapping[str, float]]]:
    """The quality of PerSRec's cells, where the baseline shows that tokens matter, exchanged for that of what they beat."""
    cells = {key: entry.cell for key, entry in baseline.entries.items()}
    for key, beaten, other in clear_differences(cells, baseline.qualities(METRIC)):
        if beaten == of:
            metrics = baseline.entries[other].metrics
            yield baseline, key, {name: value for name, value in metrics.items() if MEASURES[name].group == "quality"}


def _is_seen(baseline: Baseline, key: str, changed: Mapping[str, float]) -> bool:
    """Whether the gate says of this cell that it is worse than it was, or cannot be so.

    A baseline keeps numbers alone, so no ledger, model or half is asked for: a gate that misses these would see every fault.
    """
    entries = {one: entry.numbers_alone() for one, entry in baseline.entries.items()}
    records = [as_record(one, entry, changed if one == key else {}) for one, entry in entries.items()]
    found = judge(dataclasses.replace(baseline, entries=entries), records)
    return any(finding.cell_key == key and finding.verdict in SEEN for finding in found)


def as_record(key: str, entry: BaselineEntry, changed: Mapping[str, float]) -> Record:
    """The record of a run that measured what the baseline says, but for what ``changed`` says."""
    return Record(
        cell_key=key,
        status=entry.status,
        cell=entry.cell,
        dataset=DatasetFacts(name=entry.dataset.name, size=entry.dataset.size, digest=entry.dataset.digest or ""),
        measure_versions=entry.measure_versions,
        metrics={name: Metric(value=value) for name, value in {**entry.metrics, **changed}.items()},
    )
