"""What each number of a run is beside the reviewed baseline. Pure: no file, no command line, no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from benchmarks.findings import Verdict
from benchmarks.gate.baseline import Baseline, BaselineEntry, DataIdentity, Held, as_finite, held_by, quality_machine
from benchmarks.gate.differences import METRIC, differences
from benchmarks.gate.validity import faults
from benchmarks.labels import Labels
from benchmarks.measures import MEASURES, is_gated
from benchmarks.records import FINDINGS, Metric, Record, Status

HELD: Mapping[Held, str] = MappingProxyType({
    "quality": "its quality half",
    "cost": "its cost half",
    "model": "its trained model",
    "gap": "the difference of scores from the cache and from the joint pass",
    "replicates": "the resamples of its quality",
    "intervals": f"the interval of its {METRIC}",
    "targets": "the number of its data's targets",
    "ceiling": "the ceiling of its data",
    "items": "the number of its data's items",
})  # fmt: skip
NOTICEABLE = 0.5  # of the margin: a quality loss this large, beside a cheaper cell, deserves a look


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One number, or one cell where ``metric`` is ``None``, beside the baseline."""

    verdict: Verdict
    cell_key: str
    cell: str
    metric: str | None = None
    baseline: float | None = None
    current: float | None = None
    margin: float | None = None
    reason: str = ""

    def change(self) -> float | None:
        """The change relative to the baseline; ``None`` where the baseline is 0 or a side has no number."""
        if not self.baseline or self.current is None:
            return None
        return as_finite((self.current - self.baseline) / abs(self.baseline))


def judge(baseline: Baseline, records: Sequence[Record]) -> list[Finding]:
    """Every cell and every gated number of the run and of the baseline, the worst findings first."""
    names = Labels.of(
        [*(entry.cell for entry in baseline.entries.values()), *(record.cell for record in records)],
        [part for record in records for part in record.parts.all()],
    )
    current = {record.cell_key: record for record in records}
    findings: list[Finding] = []
    for key, entry in baseline.entries.items():
        of_cell = _of_cell(baseline, entry, current[key]) if key in current else [_absent(entry, records)]
        findings += [replace(finding, cell_key=key, cell=names(entry.cell)) for finding in of_cell]
    for key, record in current.items():
        if key not in baseline.entries:
            findings += [replace(finding, cell_key=key, cell=names(record.cell)) for finding in _unknown(record)]
    findings += [replace(finding, cell=names(baseline.entries[finding.cell_key].cell)) for finding in _of_differences(baseline, current)]
    return sorted(findings, key=lambda finding: finding.verdict.rank)


def _finding(verdict: Verdict, reason: str = "", *, metric: str | None = None, baseline: float | None = None) -> Finding:
    """A finding that does not say yet which cell it is of."""
    return Finding(verdict=verdict, cell_key="", cell="", metric=metric, baseline=baseline, reason=reason)


def _absent(entry: BaselineEntry, records: Sequence[Record]) -> Finding:
    """A cell of the baseline that the run has no record of: it was forgotten, or these data, measures or devices cannot have it."""
    peers = [record for record in records if DataIdentity.of(record) == entry.dataset]
    if not peers:
        others = ", ".join(sorted({record.cell.dataset for record in records}))
        return _finding(Verdict.INCOMPARABLE, f"the baseline is of {entry.dataset}, the results are of other data: {others}")
    alike = [record for record in peers if record.cell.control == entry.cell.control]  # a control has measures that no other cell has
    if alike and all(record.measure_versions != entry.measure_versions for record in alike):
        return _finding(Verdict.INCOMPARABLE, _version_change(entry.measure_versions, alike[0].measure_versions))
    if all(record.cell.device != entry.cell.device for record in peers):
        return _finding(Verdict.INCOMPARABLE, f"the baseline is of device {entry.cell.device}, the results are not")
    return _finding(Verdict.MISSING, "the baseline has it, and there is no record of it among the results")


def _version_change(then: Mapping[str, int], now: Mapping[str, int]) -> str:
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return "measured in another way since: " + ", ".join(f"{name} {_change_of(then.get(name), now.get(name))}" for name in changed[:3])


def _change_of(then: int | None, now: int | None) -> str:
    if then is None or now is None:
        return "is new" if then is None else "is gone"
    return f"version {then} then, {now} now"


def _unknown(record: Record) -> list[Finding]:
    if record.status not in FINDINGS:
        return [_finding(Verdict.INVALID, _failure(record))]
    return _of_faults(record) or [_finding(Verdict.NEW, f"not in the baseline; its status is {record.status.value}")]


def _of_faults(record: Record) -> list[Finding]:
    """What in a record cannot be true."""
    return [_finding(Verdict.INVALID, fault.reason, metric=fault.metric) for fault in faults(record)]


def _of_differences(baseline: Baseline, current: Mapping[str, Record]) -> list[Finding]:
    """Tokens that no longer carry the user, or whose record no longer has the quality that tells it."""
    cells = {key: entry.cell for key, entry in baseline.entries.items()}
    numbers = {key: record.value(METRIC) for key, record in current.items()}
    now = {key: number for key, number in numbers.items() if number is not None}
    findings = []
    for one in differences(cells, baseline.qualities(METRIC), now):
        if one.is_lost or any(_is_silent(current.get(key)) for key in (one.key, one.other)):
            verdict = Verdict.REGRESSION if one.is_lost else Verdict.MISSING
            finding = _finding(verdict, one.reason(), metric=METRIC, baseline=one.then)
            findings.append(replace(finding, cell_key=one.key, current=one.now))
    return findings


def _is_silent(record: Record | None) -> bool:
    """Whether a record ended well and has no quality to tell the tokens by, where its number is not gated by itself."""
    return record is not None and record.ok and record.value(METRIC) is None and not is_gated(METRIC, device=record.cell.device)


def _failure(record: Record) -> str:
    """``crash in flops: ValueError: the message``, as far as the record knows."""
    error = record.error
    if error is None:
        return record.status.value
    where = f"{record.status.value} in {error.phase}" if error.phase else record.status.value
    return ": ".join([where, *(text for text in (error.type, error.message) if text)])


def _of_cell(baseline: Baseline, entry: BaselineEntry, record: Record) -> list[Finding]:
    then, now = entry.status, record.status
    if now not in FINDINGS or (then is Status.OK and now is not Status.OK):
        return [_finding(Verdict.INVALID, f"{then.value} in the baseline, now {_failure(record)}")]
    findings = [*_of_identity(entry, record), *_of_faults(record), *_of_gone(entry, record)]
    metrics = {name for name in entry.metrics if name not in MEASURES or is_gated(name, device=entry.cell.device)}
    if then is Status.OK:
        metrics |= {metric for metric in record.metrics if is_gated(metric, device=record.cell.device)}
    else:
        verdict = Verdict.PASS if then is now else Verdict.IMPROVED if now is Status.OK else Verdict.AMBIGUOUS
        findings.append(_finding(verdict, f"{then.value} in the baseline, {now.value} now"))
    machine = quality_machine(record)
    numbers = (_of_number(baseline, entry.metrics.get(name), record.metrics.get(name), name, machine) for name in sorted(metrics))
    return [*findings, *_weighed_together([finding for finding in numbers if finding is not None])]


def _of_identity(entry: BaselineEntry, record: Record) -> Iterator[Finding]:
    """Whether a record is of the settings and the data that the baseline has under its key."""
    if record.cell != entry.cell:
        was, now = entry.cell.to_dict(), record.cell.to_dict()
        changed = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        moves = ", ".join(f"{name} {was.get(name)} then, {now.get(name)} now" for name in changed[:3])
        yield _finding(Verdict.INVALID, f"other settings than the baseline's under one key: {moves}")
    data = DataIdentity.of(record)
    if entry.dataset.digest is not None and data != entry.dataset:
        yield _finding(Verdict.INVALID, f"other data than the baseline's under one key: {entry.dataset} then, {data} now")


def _of_gone(entry: BaselineEntry, record: Record) -> Iterator[Finding]:
    """What the gate examined in the baseline's record, and this one lacks: nothing passes because it is not there."""
    rows = len(record.ledger)
    if rows < entry.ledger_rows:
        now = f"has {rows} rows" if rows else "is gone"
        yield _finding(Verdict.MISSING, f"its FLOP ledger {now}; the baseline's had {entry.ledger_rows} rows")
    for name in sorted(set(entry.holds) - set(held_by(record))):
        yield _finding(Verdict.MISSING, f"{HELD[name]} is gone; the baseline's record has it")


def _of_number(baseline: Baseline, then: float | None, metric: Metric | None, name: str, machine: str | None) -> Finding | None:
    """One number beside its baseline; ``None`` where neither side has one."""
    finding = _finding(Verdict.PASS, metric=name, baseline=then)
    if name not in MEASURES:
        return replace(finding, verdict=Verdict.INCOMPARABLE, reason="there is no such measure any more")
    if metric is None or metric.value is None:
        reason = f"no value: {metric.method}" if metric is not None else "not among the record's metrics"
        return replace(finding, verdict=Verdict.MISSING, reason=reason) if then is not None else None
    now = metric.value
    if as_finite(now) is None:
        return replace(finding, verdict=Verdict.INVALID, reason="its value is beyond the range of a number")
    finding = replace(finding, current=now)
    if then is None:
        return replace(finding, verdict=Verdict.NEW, reason="not in the baseline")
    margin = baseline.margin(name, then, fingerprint=machine)
    worse = now - then if MEASURES[name].direction == "lower" else then - now
    verdict = Verdict.REGRESSION if worse > margin else Verdict.IMPROVED if worse < -margin else Verdict.PASS
    return replace(finding, verdict=verdict, margin=as_finite(margin))


def _weighed_together(findings: Sequence[Finding]) -> list[Finding]:
    """Quality and cost of one cell together: a saving at the price of quality is no improvement."""
    qualities = [finding for finding in findings if _group(finding) == "quality"]
    lost = [finding for finding in qualities if finding.verdict is Verdict.REGRESSION]
    lower = [finding for finding in qualities if _quality_loss(finding) > NOTICEABLE]
    if lost:
        verdict, reason = Verdict.REGRESSION, f"bought with quality: {_moves(lost)}"
    elif lower:
        verdict, reason = Verdict.AMBIGUOUS, f"cheaper, with less quality inside the margin: {_moves(lower)}"
    else:
        return list(findings)
    return [
        replace(finding, verdict=verdict, reason=reason) if finding.verdict is Verdict.IMPROVED and _group(finding) == "cost" else finding
        for finding in findings
    ]


def _group(finding: Finding) -> str | None:
    return MEASURES[finding.metric].group if finding.metric in MEASURES else None


def _quality_loss(finding: Finding) -> float:
    """How much lower a quality is, in margins."""
    if finding.baseline is None or finding.current is None or not finding.margin:
        return 0.0
    return (finding.baseline - finding.current) / finding.margin


def _moves(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{finding.metric} {finding.baseline:.4g} to {finding.current:.4g}" for finding in findings[:3])
