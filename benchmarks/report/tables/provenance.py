"""Where the numbers come from: machines, data, and the command that measures each cell again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.origins import Source
from benchmarks.records import DatasetFacts, Environment, Origin, Record
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Row, Table

_Note = TypeVar("_Note")


def environment_table(every: Sequence[Source]) -> Table:
    """Each machine that measured, once, and how much it measured."""
    machines: dict[str, list[Source]] = {}
    for source in every:
        machines.setdefault(source.origin.environment.fingerprint or "", []).append(source)
    headings = tabular.columns(
        "environment", "qualities", "costs", "processor", "memory", "accelerator", "system", "software", numeric=["qualities", "costs"]
    )
    rows = tuple(_machine(fingerprint, sources) for fingerprint, sources in sorted(machines.items()))
    return Table(key="environments", caption="Machines and software", columns=headings, rows=rows)


def _machine(fingerprint: str, sources: Sequence[Source]) -> Row:
    facts = sources[0].origin.environment
    halves = [source.half for source in sources]
    return tabular.row(
        Entry(text=fingerprint[:12] or text.MISSING, tone="code"),
        tabular.of_count(halves.count("quality")),
        tabular.of_count(halves.count("cost")),
        Entry(text=facts.cpu or "unknown", detail=f"{facts.cores or '?'} cores, {facts.threads or '?'} threads used"),
        text.nbytes(facts.memory_bytes) if facts.memory_bytes else "unknown",
        Entry(text=facts.gpu, detail=f"driver {facts.driver or 'unknown'}")
        if facts.gpu
        else Entry(text="none", tone="muted", detail=facts.gpu_reason or ""),
        facts.system or "unknown",
        _software(facts),
    )


def _software(facts: Environment) -> str:
    packages = [f"{name} {version}" for name, version in sorted(facts.packages.items()) if version]
    return ", ".join([f"Python {facts.python or 'unknown'}", *packages])


def dataset_table(records: Sequence[Record]) -> Table | None:
    """Each dataset, with its size and what the exact predictor reaches."""
    data: dict[tuple[str, ...], DatasetFacts] = {}
    ceilings: dict[tuple[str, ...], dict[str, dict[int, str]]] = {}
    datasets = ((record.cell.recent, record.dataset) for record in records if record.dataset is not None)
    for recent, facts in datasets:
        key = facts.name, facts.digest, facts.split, str(facts.notes.get("protocol", ""))
        data[key] = facts
        for name, by_metric in sorted((facts.ceiling or {}).items()):
            ceilings.setdefault(key, {}).setdefault(name, {})[recent] = _ceiling(name, by_metric)
    rows = [_dataset(data[key], _ceilings(ceilings.get(key, {}))) for key in sorted(data)]
    numeric = ("users", "items", "interactions")
    headings = tabular.columns(
        "dataset", "split", *numeric, "what it is like", "ceiling of the exact predictor", "notes", "digest", numeric=numeric
    )
    return Table(key="datasets", caption="Data", columns=headings, rows=tuple(rows)) if rows else None


def _ceilings(by_name: Mapping[str, Mapping[int, str]]) -> str:
    """What exact predictors reach; where that depends on the number of recent items, each value with its number."""
    parts = []
    for by_recent in by_name.values():
        if len(set(by_recent.values())) == 1:
            parts.append(next(iter(by_recent.values())))
        else:
            parts += [f"{what} ({recent} recent items)" for recent, what in sorted(by_recent.items())]
    return "; ".join(parts)


def _dataset(facts: DatasetFacts, ceilings: str) -> Row:
    notes = "; ".join(f"{name}: {value}" for name, value in sorted(facts.notes.items()) if not isinstance(value, dict | list))
    return tabular.row(
        facts.name + (f" ({facts.size})" if facts.size else ""),
        facts.split + (f", validation from {facts.days[0]}, test from {facts.days[1]}" if facts.days else ""),
        *(
            tabular.NOTHING if number is None else Entry(text=text.exact(number), order=number)
            for number in (facts.users, facts.items, facts.interactions)
        ),
        Entry(text="; ".join([*_like(facts.notes), *_ledger(facts.notes)]) or text.MISSING, tone="long"),
        Entry(text=ceilings or text.MISSING),
        Entry(text=notes or text.MISSING, tone="long"),
        Entry(text=facts.digest[:12], tone="code"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Length:
    median: float
    p90: float
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Statistics:
    length: _Length
    repeat_share: float
    unknown_time_share: float
    tied_last_share: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    rows_in: int
    rows_kept: int
    dropped: dict[str, int]


def _note(notes: Mapping[str, Any], name: str, kind: type[_Note]) -> _Note | None:
    """A note of a dataset in the form that this program writes; None where it has another form, as notes are free."""
    try:
        return msgspec.convert(notes.get(name), kind)
    except msgspec.ValidationError:
        return None


def _like(notes: Mapping[str, Any]) -> list[str]:
    """What a log is like, from `persrec.data.statistics`; nothing where an older record has no statistics."""
    figures = _note(notes, "statistics", _Statistics)
    if figures is None:
        return []
    length, tied = figures.length, figures.tied_last_share
    parts = [
        f"events a user: median {length.median:.0f}, 90% have up to {length.p90:.0f}, most {length.most:,}",
        f"repeats {text.percent(figures.repeat_share)}",
    ]
    parts += [] if tied is None else [f"last two events tied for {text.percent(tied)} of the users"]
    return [*parts, f"times unknown {text.percent(figures.unknown_time_share)}"]


def _ledger(notes: Mapping[str, Any]) -> list[str]:
    """What became of the sources' rows."""
    ledger = _note(notes, "ledger", _Rows)
    if ledger is None:
        return []
    dropped = ", ".join(f"{rows:,} {reason}" for reason, rows in ledger.dropped.items())
    return [f"rows read {ledger.rows_in:,}, kept {ledger.rows_kept:,}" + (f" (dropped: {dropped})" if dropped else "")]


def _ceiling(name: str, by_metric: Mapping[str, float]) -> str:
    """What the exact predictor reaches with one view of the past."""
    return f"{name.replace('_', ' ')} {', '.join(f'{metric} {text.ratio(value)}' for metric, value in sorted(by_metric.items()))}"


def rerun_table(among: Sequence[Configuration], names: Names, every: Sequence[Source]) -> Table:
    """The command that measures each cell again, and where its quality and its cost come from."""
    sharing = {source.origin.key: len(source.cells) for source in every if source.half == "cost"}
    rows = [
        tabular.row(
            Entry(text=names(one), family=family(one).key),
            tabular.of_count(record.cell.seed),
            Entry(text=record.provenance.rerun or text.MISSING, tone="code"),
            _origin_entry(record.quality),
            _origin_entry(record.cost, shared_by=sharing.get(record.cost.key, 1) if record.cost is not None else 1),
            Entry(text=record.cell_key[:12], tone="code"),
            family=family(one).name,
            backbone=filter_name(one),
        )
        for one in among
        for record in one.records
    ]
    explanation = "its key; the commit that measured it, and when; the digests of its code stand in the record"
    headings = tabular.columns(
        "configuration", "seed", "measure it again", "quality", "cost", "cell", numeric=["seed"],
        explanations={"quality": explanation, "cost": explanation, "cell": "the start of the record's name in the run's folder cells/"},
    )  # fmt: skip
    return Table(key="reruns", caption="Where each point comes from", columns=headings, rows=tuple(rows), filters=True)


def _origin_entry(origin: Origin | None, *, shared_by: int = 1) -> Entry:
    """The key of a measurement, with the commit that took it and when."""
    if origin is None:
        return tabular.NOTHING
    provenance = origin.provenance
    commit = (provenance.commit or "unknown")[:12] + (" + changes" if provenance.dirty else "")
    shared = f", one cost for {shared_by} cells" if shared_by > 1 else ""
    return Entry(text=origin.key[:12], tone="code", detail=f"{commit}, {provenance.utc or 'no date'}{shared}")
