"""The reviewed baseline, and what each number of a run is beside it. Pure: no command line, no torch.

A baseline file holds the deterministic numbers of one run and, per measure, the margin within which a number may move::

    {"schema_version": 1, "utc": "...", "source": {...}, "margins": {"ndcg@10": {"relative": 0.1, "absolute": 0.005}},
     "entries": {"<cell_key>": {"cell": {...}, "status": "ok", "dataset": {...}, "measure_versions": {...},
                                "metrics": {"ndcg@10": 0.1}}}}
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.environment import utc_now
from benchmarks.grids import label
from benchmarks.measures import MEASURES, is_gated, margin_around
from benchmarks.records import FINDINGS, Record, RecordError

BASELINE_VERSION = 1
NOTICEABLE = 0.5  # of the margin: a quality loss this large, beside a cheaper cell, deserves a look


class Verdict(StrEnum):
    """What a number is beside its baseline, the worst first."""

    REGRESSION = "REGRESSION"
    INVALID = "INVALID"
    MISSING = "MISSING"
    INCOMPARABLE = "INCOMPARABLE"
    AMBIGUOUS = "AMBIGUOUS"
    IMPROVED = "IMPROVED"
    NEW = "NEW"
    PASS = "PASS"  # noqa: S105 - no password


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
        """The change relative to the baseline."""
        if self.baseline is None or self.current is None or not self.baseline or not math.isfinite(self.current):
            return None
        return (self.current - self.baseline) / abs(self.baseline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A baseline file that holds up."""

    utc: str
    source: Mapping[str, Any]
    margins: Mapping[str, Mapping[str, float]]
    entries: Mapping[str, Mapping[str, Any]]

    def age_days(self) -> int:
        """Whole days since it was reviewed in."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.utc)).days

    def margin(self, metric: str, number: float) -> float:
        """How far ``metric`` may be from ``number``: by the file, else by the measure."""
        if metric in self.margins:
            return margin_around(number, relative=self.margins[metric]["relative"], absolute=self.margins[metric]["absolute"])
        return MEASURES[metric].margin(number)


def load_baseline(path: Path) -> Baseline:
    """Reads a baseline file.

    Raises:
        RecordError: it is not there, is no baseline, or was written by a newer version.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}; expected a baseline (--update writes one)") from error
    except ValueError as error:
        raise RecordError(f"{path}: not a whole JSON file ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or "entries" not in content:
        raise RecordError(f"{path}: is no baseline: expected a table with schema_version and entries")
    if version > BASELINE_VERSION:
        raise RecordError(f"{path}: written in schema version {version}; this program knows versions up to {BASELINE_VERSION}, update it")
    try:
        baseline = Baseline(
            utc=content["utc"], source=content.get("source", {}), margins=content.get("margins", {}), entries=content["entries"]
        )
        _check(baseline)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: is no baseline: {type(error).__name__}: {error}") from error
    return baseline


def make_baseline(records: Sequence[Record], *, margins: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The content of a baseline file from a run's records; ``margins`` that were reviewed before stay."""
    entries = {record["cell_key"]: _entry(record) for record in records}
    names = sorted({name for entry in entries.values() for name in entry["metrics"]})
    kept = {
        name: dict(margins.get(name) or {"relative": MEASURES[name].relative_margin, "absolute": MEASURES[name].absolute_margin})
        for name in names
    }
    return {"schema_version": BASELINE_VERSION, "utc": utc_now(), "source": _source(records), "margins": kept, "entries": entries}


def judge(baseline: Baseline, records: Sequence[Record]) -> list[Finding]:
    """Every cell and every gated number of the run and of the baseline, the worst findings first."""
    current = {record["cell_key"]: record for record in records}
    findings: list[Finding] = []
    for key, entry in baseline.entries.items():
        if key in current:
            findings += _judge_cell(baseline, entry, current[key])
        else:
            findings.append(_absent(key, entry, records))
    for key, record in current.items():
        if key not in baseline.entries:
            findings.append(_unknown(record))
    order = list(Verdict)
    return sorted(findings, key=lambda finding: order.index(finding.verdict))


def _check(baseline: Baseline) -> None:
    baseline.age_days()
    for name, margin in baseline.margins.items():
        for kind in ("relative", "absolute"):
            if not _is_number(margin[kind]) or margin[kind] < 0:
                raise ValueError(f"margins: {name}: {kind} is {margin[kind]!r}; expected a number from 0")
    for key, entry in baseline.entries.items():
        label(Cell.from_dict(entry["cell"]))
        if "status" not in entry or "dataset" not in entry or "measure_versions" not in entry:
            raise ValueError(f"entries: {key}: expected status, dataset and measure_versions")
        for name, value in entry["metrics"].items():
            if not _is_number(value):
                raise ValueError(f"entries: {key}: {name} is {value!r}; expected a number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _entry(record: Record) -> dict[str, Any]:
    device = record["cell"].get("device", "cpu")
    gated = {name: metric["value"] for name, metric in sorted(record["metrics"].items()) if is_gated(name, device=device)}
    return {
        "cell": record["cell"],
        "status": record["status"],
        "dataset": _dataset(record),
        "measure_versions": record.get("measure_versions", {}),
        "metrics": {name: value for name, value in gated.items() if _is_number(value)},
    }


def _dataset(record: Mapping[str, Any]) -> dict[str, Any]:
    described = record.get("dataset") or {}
    cell = record["cell"]
    return {"name": cell.get("dataset"), "size": cell.get("dataset_size"), "digest": described.get("digest")}


def _source(records: Sequence[Record]) -> dict[str, Any]:
    """Where the numbers come from: all commits, codes and machines among the records."""

    def every(part: str, name: str) -> list[Any]:
        return sorted({str(record[part].get(name)) for record in records})

    return {
        "commits": every("provenance", "commit"),
        "code_digests": sorted({str(record.get("code_digest")) for record in records}),
        "fingerprints": every("environment", "fingerprint"),
        "cpus": every("environment", "cpu"),
        "gpus": every("environment", "gpu"),
        "pythons": every("environment", "python"),
        "torch": sorted({str((record["environment"].get("packages") or {}).get("torch")) for record in records}),
    }


def _label(cell: Mapping[str, Any]) -> str:
    try:
        return label(Cell.from_dict(cell))
    except (TypeError, ValueError):
        return " ".join(f"{name}={value}" for name, value in cell.items())


def _absent(key: str, entry: Mapping[str, Any], records: Sequence[Record]) -> Finding:
    """A cell of the baseline that the run has no record of: forgotten, or not to be had from these data and measures."""
    name = _label(entry["cell"])
    peers = [record for record in records if _dataset(record) == entry["dataset"]]
    if not peers:
        there = ", ".join(sorted({str(record["cell"].get("dataset")) for record in records}))
        here = f"{entry['dataset']['name']} (size {entry['dataset']['size']}, digest {str(entry['dataset']['digest'])[:12]})"
        return Finding(
            verdict=Verdict.INCOMPARABLE,
            cell_key=key,
            cell=name,
            reason=f"the baseline is of {here}, the results are of other data: {there}",
        )
    if all(record.get("measure_versions", {}) != entry["measure_versions"] for record in peers):
        return Finding(verdict=Verdict.INCOMPARABLE, cell_key=key, cell=name, reason=_version_change(entry, peers[0]))
    if all(record["cell"].get("device") != entry["cell"].get("device") for record in peers):
        reason = f"the baseline is of device {entry['cell'].get('device')}, the results are not"
        return Finding(verdict=Verdict.INCOMPARABLE, cell_key=key, cell=name, reason=reason)
    return Finding(verdict=Verdict.MISSING, cell_key=key, cell=name, reason="in the baseline, and no record of it among the results")


def _version_change(entry: Mapping[str, Any], record: Record) -> str:
    then, now = entry["measure_versions"], record.get("measure_versions", {})
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return "taken another way since: " + ", ".join(f"{name} version {then.get(name)} then, {now.get(name)} now" for name in changed[:3])


def _unknown(record: Record) -> Finding:
    key, name = record["cell_key"], _label(record["cell"])
    if record["status"] not in FINDINGS:
        return Finding(verdict=Verdict.INVALID, cell_key=key, cell=name, reason=_failure(record))
    return Finding(verdict=Verdict.NEW, cell_key=key, cell=name, reason=f"not in the baseline; its status is {record['status']}")


def _failure(record: Record) -> str:
    error = record["error"] or {}
    return f"{record['status']} in {error.get('phase')}: {error.get('type')}: {error.get('message')}"


def _judge_cell(baseline: Baseline, entry: Mapping[str, Any], record: Record) -> list[Finding]:
    key, name = record["cell_key"], _label(record["cell"])
    then, now = entry["status"], record["status"]
    if now not in FINDINGS or (then == "ok" and now != "ok"):
        return [Finding(verdict=Verdict.INVALID, cell_key=key, cell=name, reason=f"{then} in the baseline, now {_failure(record)}")]
    if then != "ok":
        verdict = Verdict.PASS if then == now else Verdict.IMPROVED if now == "ok" else Verdict.AMBIGUOUS
        return [Finding(verdict=verdict, cell_key=key, cell=name, reason=f"{then} in the baseline, {now} now")]
    device = record["cell"].get("device", "cpu")
    gated = [metric for metric in record["metrics"] if is_gated(metric, device=device)]
    findings = []
    for metric in sorted({*entry["metrics"], *gated}):
        found = _judge_number(baseline, entry["metrics"].get(metric), record["metrics"].get(metric), metric)
        if found is not None:
            findings.append(replace(found, cell_key=key, cell=name))
    return _weighed_together(findings)


def _judge_number(baseline: Baseline, then: float | None, measured: Mapping[str, Any] | None, metric: str) -> Finding | None:
    """One number beside its baseline; ``None`` where neither side has one."""
    found = Finding(verdict=Verdict.PASS, cell_key="", cell="", metric=metric, baseline=then)
    if metric not in MEASURES:
        return replace(found, verdict=Verdict.INCOMPARABLE, reason="no such measure any more")
    now = measured["value"] if measured is not None else None
    if now is None:
        reason = f"no value: {measured.get('method')}" if measured is not None else "not among the record's metrics"
        return replace(found, verdict=Verdict.MISSING, reason=reason) if then is not None else None
    if not _is_number(now):
        return replace(found, verdict=Verdict.INVALID, reason=f"{now!r} is no finite number")
    found = replace(found, current=now)
    if then is None:
        return replace(found, verdict=Verdict.NEW, reason="not in the baseline")
    margin = baseline.margin(metric, then)
    worse = now - then if MEASURES[metric].direction == "lower" else then - now
    verdict = Verdict.REGRESSION if worse > margin else Verdict.IMPROVED if worse < -margin else Verdict.PASS
    return replace(found, verdict=verdict, margin=margin)


def _weighed_together(findings: Sequence[Finding]) -> list[Finding]:
    """Quality and cost of one cell together: what was saved at the price of quality is no improvement."""
    lost = [finding for finding in findings if finding.verdict is Verdict.REGRESSION and _group(finding) == "quality"]
    lower = [finding for finding in findings if _group(finding) == "quality" and _quality_loss(finding) > NOTICEABLE]
    if lost:
        verdict, reason = Verdict.REGRESSION, f"bought with quality: {_moved(lost)}"
    elif lower:
        verdict, reason = Verdict.AMBIGUOUS, f"cheaper, with less quality inside the margin: {_moved(lower)}"
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


def _moved(findings: Sequence[Finding]) -> str:
    return ", ".join(f"{finding.metric} {finding.baseline:.4g} to {finding.current:.4g}" for finding in findings[:3])
