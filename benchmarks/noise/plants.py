"""Faults that are planted into a baseline's own numbers, one at a time, and must each be seen by the gate. Imports no torch.

The planted record has the settings and data of the baseline, and comes from a machine that the baseline does not know. So the gate uses its
wide margins, and what it finds here it finds on any machine.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.findings import Verdict
from benchmarks.gate.baseline import Baseline, BaselineEntry
from benchmarks.gate.differences import CONTROLS, METRIC, clear_differences
from benchmarks.gate.judge import judge
from benchmarks.measures import MEASURES
from benchmarks.noise.record import Planted
from benchmarks.records import DatasetFacts, Metric, Record

MORE_FLOPS, MORE_MEMORY, IMPOSSIBLE_RECALL = 1.05, 2.0, 1.7
LEAST_PEAK = 5 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A cell with ``changed`` numbers beside a baseline; the gate has to give ``metric`` this ``verdict``."""

    baseline: Baseline
    key: str
    metric: str
    changed: Mapping[str, float]
    verdict: Verdict = Verdict.REGRESSION


def raised_flops(baseline: Baseline, *, file_name: str) -> Planted:
    """Every FLOP number of a baseline, one at a time 5% higher; ``file_name`` is what the record calls the baseline's file.

    Numbers that are counted with it rise, too, so that the record is as sound as before and the number's own margin has to see it.
    """
    trials = (
        Trial(baseline=_of(baseline, key), key=key, metric=name, changed=more_flops(entry.metrics, name))
        for key, entry in baseline.entries.items()
        for name, value in entry.metrics.items()
        if name.endswith("_flops") and value
    )
    return _planted("5% more, one number at a time", file_name, trials)


def more_flops(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """One number of FLOPs 5% higher, with its multiply-adds, what is executed of a visible one, and the request that it is part of."""
    parts = [name.replace("request", part) for part in ("serve", "score")] if name.startswith("request_") else [name]
    raised: dict[str, float] = {
        one: _even(metrics[one] * MORE_FLOPS) for part in parts for one in (part, part.replace("_visible", "")) if one in metrics
    }
    for kind in ("flops", "visible_flops"):
        if f"request_{kind}" in metrics:
            raised[f"request_{kind}"] = sum(raised.get(part, metrics.get(part, 0.0)) for part in (f"serve_{kind}", f"score_{kind}"))
    for one in tuple(raised):
        if (macs := one.replace("_flops", "_macs")) in metrics:
            raised[macs] = raised[one] / 2
    return raised


def _even(flops: float) -> int:
    return 2 * round(flops / 2)


def other_faults(baseline: Baseline, *, file_name: str) -> tuple[Planted, ...]:
    """What a broken method or a broken measurement would show, one cell at a time."""
    return (
        *(_planted(f"the quality of {of} in PerSRec's place", file_name, _exchanged(baseline, of)) for of in CONTROLS),
        _planted(f"a doubled peak of memory, of {LEAST_PEAK // 2**20} MiB or more", file_name, _doubled_peaks(baseline)),
        _planted(f"a recall of {IMPOSSIBLE_RECALL}", file_name, _impossible_recalls(baseline)),
    )


def _planted(what: str, file_name: str, trials: Iterable[Trial]) -> Planted:
    hits = [_is_seen(trial) for trial in trials]
    return Planted(planted=what, baseline=file_name, trials=len(hits), found=sum(hits))


def _of(baseline: Baseline, key: str) -> Baseline:
    """A baseline of one cell alone."""
    return dataclasses.replace(baseline, entries={key: baseline.entries[key]})


def _doubled_peaks(baseline: Baseline) -> Iterator[Trial]:
    for key, entry in baseline.entries.items():
        for name, value in entry.metrics.items():
            if name.endswith("_peak_bytes") and value >= LEAST_PEAK:  # smaller ones are an allocator's whim
                yield Trial(baseline=_of(baseline, key), key=key, metric=name, changed={name: value * MORE_MEMORY})


def _impossible_recalls(baseline: Baseline) -> Iterator[Trial]:
    name = "recall@10"
    for key, entry in baseline.entries.items():
        if name in entry.metrics:
            changed = {name: IMPOSSIBLE_RECALL}
            yield Trial(baseline=_of(baseline, key), key=key, metric=name, changed=changed, verdict=Verdict.INVALID)


def _exchanged(baseline: Baseline, of: str) -> Iterator[Trial]:
    """The quality of PerSRec's cells, where the baseline shows that tokens matter, exchanged for that of what they beat."""
    cells = {key: entry.cell for key, entry in baseline.entries.items()}
    for key, control, other in clear_differences(cells, baseline.qualities(METRIC)):
        if control == of:
            metrics = {name: value for name, value in baseline.entries[other].metrics.items() if MEASURES[name].group == "quality"}
            yield Trial(baseline=baseline, key=key, metric=METRIC, changed=metrics)


def _is_seen(trial: Trial) -> bool:
    """Whether the gate gives this number of this cell the trial's verdict.

    A baseline keeps numbers alone, so no ledger, model or half is expected: a gate that misses these would see every fault.
    """
    entries = {one: entry.numbers_alone() for one, entry in trial.baseline.entries.items()}
    records = [as_record(one, entry, trial.changed if one == trial.key else {}) for one, entry in entries.items()]
    findings = judge(dataclasses.replace(trial.baseline, entries=entries), records)
    return any(one.cell_key == trial.key and one.metric == trial.metric and one.verdict is trial.verdict for one in findings)


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
