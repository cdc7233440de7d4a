"""How each cell ended: the feasibility map, what failed, and what could not be measured."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.trained import not_converged
from benchmarks.records import WORST_FIRST, Failure, Record, Status
from benchmarks.report import tabular
from benchmarks.report.names import NOT_CONVERGED, Names, backbone_name, family
from benchmarks.report.tabular import Entry, Table

STATUS_SIGNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        Status.OK: ("\N{BLACK CIRCLE}", "fine"),
        Status.OOM: ("\N{BLACK UP-POINTING TRIANGLE}", "warn"),
        Status.UNSUPPORTED: ("\N{WHITE CIRCLE}", "muted"),
        Status.TIMEOUT: ("\N{BLACK DIAMOND}", "bad"),
        Status.CRASH: ("\N{MULTIPLICATION X}", "bad"),
        Status.INVALID: ("\N{BLACK SQUARE}", "bad"),
    }
)  # in the order from fine to bad


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedCell:
    """A cell that did not end well, with what it left."""

    name: str
    seed: str
    status: str
    phase: str
    message: str
    log: str
    rerun: str


def feasibility_table(among: Sequence[Configuration], *, key: str, caption: str) -> Table:
    """The status of each backbone, compression and token count (rows) and history (columns); of several seeds the number of each status."""
    windows = sorted({(one.cell.history, one.cell.recent) for one in among})
    rows: dict[tuple[str, str, int, int], dict[tuple[int, int], Counter[str]]] = {}
    stopped: set[tuple[tuple[str, str, int, int], tuple[int, int]]] = set()
    for one in sorted(among, key=lambda one: (one.is_floor, one.cell.backbone, family(one).place, one.cell.tokens, one.cell.segments)):
        place = (backbone_name(one), family(one).name, one.cell.tokens, one.cell.segments)
        rows.setdefault(place, {}).setdefault((one.cell.history, one.cell.recent), Counter()).update(one.statuses)
        stopped |= {(place, (one.cell.history, one.cell.recent))} if not_converged(one) else set()
    entries = [
        tabular.row(
            backbone,
            kind,
            tabular.of_count(tokens),
            tabular.of_count(segments),
            *(_status(by_window.get(window), stopped=((backbone, kind, tokens, segments), window) in stopped) for window in windows),
        )
        for (backbone, kind, tokens, segments), by_window in rows.items()
    ]
    headings = tabular.columns(
        "backbone",
        "compression",
        "tokens",
        "segments",
        *(f"{history} + {recent}" for history, recent in windows),
        numeric=["tokens", "segments"],
    )
    return Table(key=key, caption=caption, columns=headings, rows=tuple(entries), is_map=True)


def _status(statuses: Counter[str] | None, *, stopped: bool) -> Entry:
    if not statuses:
        return Entry(text="", tone="muted")
    entry = _ending(statuses)
    return replace(entry, text=f"{entry.text} {NOT_CONVERGED}", tone="warn") if stopped else entry


def _ending(statuses: Counter[str]) -> Entry:
    worst = max(statuses, key=list(STATUS_SIGNS).index)
    sign, tone = STATUS_SIGNS[worst]
    if len(statuses) == 1:
        total = statuses[worst]
        return Entry(text=f"{sign} {worst}" + (f" \N{MULTIPLICATION SIGN} {total}" if total > 1 else ""), tone=tone)
    return Entry(text=f"{sign} " + ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())), tone=tone)


_LEADING_NUMBER = re.compile(r"(\d+)( .*)")


def _between(counts: Sequence[int]) -> str:
    """``421``, ``421 to 480``, or nothing."""
    ends = sorted({min(counts), max(counts)}) if counts else []
    return " to ".join(map(str, ends))


def missing_table(among: Sequence[Configuration]) -> Table | None:
    """What could not be measured, and why, with the number of cells."""
    reasons: Counter[tuple[str, str]] = Counter()
    counts: dict[tuple[str, str], list[int]] = {}  # the number that a reason begins with, which differs between records
    for record in itertools.chain.from_iterable(one.measured for one in among):
        for name, entry in record.metrics.items():
            if entry.value is None:
                match = _LEADING_NUMBER.fullmatch(entry.method or "")
                reason = name, match[2] if match else entry.method or "no reason given"
                reasons[reason] += 1
                if match:
                    counts.setdefault(reason, []).append(int(match[1]))
    rows = [
        tabular.row(Entry(text=name, tone="code"), _between(counts.get((name, reason), ())) + reason, tabular.of_count(count))
        for (name, reason), count in sorted(reasons.items())
    ]
    headings = tabular.columns("metric", "reason", "cells", numeric=["cells"])
    return Table(key="missing", caption="What could not be measured", columns=headings, rows=tuple(rows)) if rows else None


def failures(among: Sequence[Configuration], names: Names) -> list[FailedCell]:
    """Every cell that did not end well: missing measurements first, then findings."""
    cells = [_failed_cell(record, names(one)) for one in among for record in one.records if not record.ok]
    order = {status.value: place for place, status in enumerate(WORST_FIRST)}
    return sorted(cells, key=lambda cell: (order[cell.status], cell.name, cell.seed))


def _failed_cell(record: Record, name: str) -> FailedCell:
    halves = (record.quality, record.cost)
    error = record.error or next((half.error for half in halves if half is not None and half.error is not None), None) or Failure()
    message = error.message or "no message"
    return FailedCell(
        name=name,
        seed=str(record.cell.seed),
        status=record.status.value,
        phase=error.phase or "an unknown phase",
        message=f"{error.type}: {message}" if error.type else message,
        log=error.log_tail or "",
        rerun=record.provenance.rerun or "",
    )
