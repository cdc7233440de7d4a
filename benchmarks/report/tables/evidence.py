"""What stands behind the numbers: feasibility, FLOP ledger, training, noise, failures, provenance."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, Record, ledger_row_agrees
from benchmarks.measures import MEASURES
from benchmarks.report import tables
from benchmarks.report.names import Names, backbone_name, dataset_name, family, family_place, filter_name
from benchmarks.report.tables import Entry, Row, Table

STATUS_SIGNS: Mapping[str, tuple[str, str]] = {
    "ok": ("\N{BLACK CIRCLE}", "fine"),
    "oom": ("\N{BLACK UP-POINTING TRIANGLE}", "warn"),
    "unsupported": ("\N{WHITE CIRCLE}", "muted"),
    "timeout": ("\N{BLACK DIAMOND}", "bad"),
    "crash": ("\N{MULTIPLICATION X}", "bad"),
    "invalid": ("\N{BLACK SQUARE}", "bad"),
}
WIDE = 0.1  # a spread of timings above this is said
_COUNTS = ("formula_flops", "torch_flops", "fvcore_flops")
_ITEM_COSTS = ("item_flops", "item_vectors_per_second", "item_peak_bytes")
_LEDGER_COLUMNS = ("formula", "torch counter", "fvcore", "largest difference", "visible", "executed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A cell that did not end well, with what it left."""

    name: str
    seed: str
    status: str
    phase: str
    message: str
    log: str
    rerun: str


def feasibility_table(among: Sequence[Configuration], *, key: str, caption: str) -> Table:
    """Status per backbone, compression and tokens (rows) and history (columns); with several seeds, how many ended how."""
    windows = sorted({(int(one["history"]), int(one["recent"])) for one in among})
    rows: dict[tuple[str, str, int, int], dict[tuple[int, int], Counter[str]]] = {}
    for one in sorted(
        among, key=lambda one: (one.is_floor, str(one["backbone"]), family_place(one), int(one["tokens"]), int(one["segments"]))
    ):
        place = (backbone_name(one), family(one).name, int(one["tokens"]), int(one["segments"]))
        rows.setdefault(place, {}).setdefault((int(one["history"]), int(one["recent"])), Counter()).update(one.statuses)
    made = [
        tables.row(backbone, kind, _number(tokens), _number(segments), *(_status(found.get(window)) for window in windows))
        for (backbone, kind, tokens, segments), found in rows.items()
    ]
    headings = tables.columns(
        "backbone",
        "compression",
        "tokens",
        "segments",
        *(f"{history} + {recent}" for history, recent in windows),
        numeric=["tokens", "segments"],
    )
    return Table(key=key, caption=caption, columns=headings, rows=tuple(made), is_map=True)


def _status(statuses: Counter[str] | None) -> Entry:
    if not statuses:
        return Entry(text="", tone="muted")
    worst = max(statuses, key=lambda status: list(STATUS_SIGNS).index(status) if status in STATUS_SIGNS else 99)
    sign, tone = STATUS_SIGNS.get(worst, ("?", "bad"))
    if len(statuses) == 1:
        total = statuses[worst]
        return Entry(text=f"{sign} {worst}" + (f" \N{MULTIPLICATION SIGN} {total}" if total > 1 else ""), tone=tone)
    return Entry(text=f"{sign} " + ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())), tone=tone)


def ledger_tables(among: Sequence[Configuration], names: Names) -> list[Table]:
    """The three counts side by side: the totals of each pass, then its parts."""
    totals: list[Row] = []
    parts: list[Row] = []
    for one in among:
        records = [record for record in one.measured if record.get("ledger")]
        if not records:
            continue
        for entry in records[0]["ledger"]:
            (totals if entry.get("part") == "total" else parts).append(_ledger_row(one, entry, names))
    headings = ("configuration", "pass", *_LEDGER_COLUMNS, "agree within 1%", "not counted")
    found = []
    for key, caption, rows in (("ledger-passes", "FLOP ledger: the passes", totals), ("ledger-parts", "FLOP ledger: their parts", parts)):
        if rows:
            found.append(
                Table(key=key, caption=caption, columns=tables.columns(*headings, numeric=_LEDGER_COLUMNS), rows=tuple(rows), filters=True)
            )
    return found


def item_table(among: Sequence[Configuration]) -> Table | None:
    """What item vectors cost that are computed once and kept: a row for each backbone that computes them."""
    rows, seen = [], set()
    for one in among:
        costs = [one.cost(name) for name in _ITEM_COSTS]
        told = (backbone_name(one), dataset_name(one), costs[0].value)
        if costs[0].value is None or told in seen:
            continue
        seen.add(told)
        shown = (tables.of_cost(name, cost) for name, cost in zip(_ITEM_COSTS, costs, strict=True))
        rows.append(tables.row(*told[:2], *shown, backbone=filter_name(one)))
    numeric = ("whole catalogue", "vectors computed", "peak memory")
    columns = tables.columns("backbone", "dataset", *numeric, numeric=numeric)
    caption = "Item vectors: computed once, kept, and in no number of a request"
    return Table(key="item-vectors", caption=caption, columns=columns, rows=tuple(rows)) if rows else None


def _ledger_row(one: Configuration, entry: Mapping[str, Any], names: Names) -> Row:
    counts = [entry.get(name) for name in _COUNTS]
    known = [float(count) for count in counts if count is not None]
    spread = (max(known) - min(known)) / max(known) if known and max(known) > 0 else 0.0
    uncounted = sorted((entry.get("uncounted") or {}).items())
    agrees = ledger_row_agrees(entry)
    part = str(entry.get("part"))
    return tables.row(
        Entry(text=names(one), family=family(one).key),
        str(entry.get("phase")) + ("" if part == "total" else f", {part.replace('_', ' ')}"),
        *(_flops(count) for count in counts),
        Entry(text=text.percent(spread), order=spread),
        _flops(entry.get("visible_flops")),
        _flops(entry.get("executed_flops")),
        Entry(text="agree" if agrees else "disagree", tone="fine" if agrees else "bad"),
        _uncounted(uncounted),
        family=family(one).name,
        backbone=filter_name(one),
    )


def _uncounted(operations: Sequence[tuple[str, int]]) -> Entry:
    """What no counter prices: additions, masks and the like; how many kinds, and which on demand."""
    if not operations:
        return Entry(text="nothing", order=0, tone="muted")
    listing = ", ".join(f"{name} \N{MULTIPLICATION SIGN} {times}" for name, times in operations)
    kinds = f"{len(operations)} kind{'s' if len(operations) != 1 else ''}"
    return Entry(text=kinds, order=len(operations), tone="long", folded=listing)


def _flops(value: float | None) -> Entry:
    return Entry(text=text.MISSING, tone="muted") if value is None else Entry(text=text.flops(float(value)), order=float(value))


def training_table(among: Sequence[Configuration], names: Names) -> Table | None:
    """How each model was trained, and whether it was still getting better when its epochs ended."""
    rows = []
    for one in among:
        for record in one.measured:
            model = record.get("model")
            if not model:
                continue
            best = best_epoch(model)
            rising = still_rising(record)
            rows.append(
                tables.row(
                    Entry(text=names(one), family=family(one).key),
                    _number(record["cell"].get("seed", 0)),
                    _number(model.get("epochs", 0)),
                    _number(best) if best else Entry(text=text.MISSING, tone="muted"),
                    Entry(text=text.ratio(value), order=value)
                    if (value := model.get("best_validation_ndcg@10")) is not None
                    else text.MISSING,
                    Entry(text=f"{text.significant(seconds)} s", order=seconds)
                    if (seconds := model.get("train_seconds")) is not None
                    else text.MISSING,
                    Entry(text="yes: train longer", tone="warn") if rising else Entry(text="no", tone="muted"),
                    Entry(text=str(model.get("key", ""))[:12], tone="code"),
                    family=family(one).name,
                    backbone=filter_name(one),
                )
            )
    numeric = ("seed", "epochs", "best epoch", "validation NDCG@10", "training time")
    headings = tables.columns("configuration", *numeric, "best at its last epoch", "model", numeric=numeric)
    return Table(key="training", caption="How each model was trained", columns=headings, rows=tuple(rows), filters=True) if rows else None


def best_epoch(model: Mapping[str, Any]) -> int | None:
    """The epoch of the best validation in a model's curve."""
    curve = [point for point in model.get("curve") or () if point.get("validation_ndcg@10") is not None]
    return int(max(curve, key=lambda point: point["validation_ndcg@10"])["epoch"]) if curve else None


def still_rising(record: Record) -> bool:
    """Whether a model used up its epochs and was best at the last of them, so that more epochs may have made it better."""
    model = record.get("model") or {}
    best = best_epoch(model)
    return best is not None and best == model.get("epochs") and best >= int(record["cell"].get("epochs", best))


def noise_tables(among: Sequence[Configuration], names: Names) -> list[Table]:
    """How wide the timings spread, and how far seeds lie apart."""
    return [table for table in (_timings_table(among, names), _seeds_table(among, names)) if table]


def timing_spreads(among: Sequence[Configuration]) -> dict[str, dict[str, float]]:
    """By timing and key of configuration: the interval of a timing (the range, where there are several seeds) over its value."""
    spreads: dict[str, dict[str, float]] = {}
    for metric in (name for name, measure in MEASURES.items() if measure.group == "cost" and not measure.deterministic):
        for one in among:
            cost = one.cost(metric)
            if cost.value and cost.low is not None and cost.high is not None:
                spreads.setdefault(metric, {})[one.key] = (cost.high - cost.low) / cost.value
    return spreads


def _timings_table(among: Sequence[Configuration], names: Names) -> Table | None:
    rows = []
    for metric, spreads in timing_spreads(among).items():
        widest, middle = max(spreads, key=lambda key: spreads[key]), float(np.median(list(spreads.values())))
        rows.append(
            tables.row(
                Entry(text=MEASURES[metric].description, detail=metric),
                _number(len(spreads)),
                Entry(text=text.percent(middle), order=middle, tone="warn" if middle > WIDE else ""),
                Entry(text=text.percent(spreads[widest]), order=spreads[widest], detail=names.long[widest]),
                _number(sum(spread > WIDE for spread in spreads.values())),
            )
        )
    numeric = ("configurations", "median spread", "widest", f"wider than {WIDE:.0%}")
    explanations = {"median spread": "the interval of a timing (the range, where there are several seeds) over its value"}
    headings = tables.columns("measure", *numeric, numeric=numeric, explanations=explanations)
    return Table(key="noise-timings", caption="Spread of timings and memory", columns=headings, rows=tuple(rows)) if rows else None


def _seeds_table(among: Sequence[Configuration], names: Names) -> Table | None:
    rows = []
    metric = QUALITY_METRICS[0]
    for one in among:
        values = [float(value) for record in one.measured if (value := (record["metrics"].get(metric) or {}).get("value")) is not None]
        if len(values) < 2:
            continue
        deviation = float(np.std(values, ddof=1))
        rows.append(
            tables.row(
                Entry(text=names(one), family=family(one).key),
                _number(len(values)),
                Entry(text=text.ratio(min(values)), order=min(values)),
                Entry(text=text.ratio(max(values)), order=max(values)),
                Entry(text=text.ratio(deviation), order=deviation),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    numeric = ("seeds", "lowest", "highest", "standard deviation")
    headings = tables.columns("configuration", *numeric, numeric=numeric)
    return Table(key="noise-seeds", caption="NDCG@10 from seed to seed", columns=headings, rows=tuple(rows), filters=True) if rows else None


def missing_table(among: Sequence[Configuration]) -> Table | None:
    """What could not be measured, and why, with the number of cells."""
    reasons: Counter[tuple[str, str]] = Counter()
    for record in itertools.chain.from_iterable(one.measured for one in among):
        for name, entry in record["metrics"].items():
            if entry.get("value") is None:
                reasons[name, str(entry.get("method") or "no reason given")] += 1
    rows = [tables.row(Entry(text=name, tone="code"), reason, _number(count)) for (name, reason), count in sorted(reasons.items())]
    return (
        Table(
            key="missing",
            caption="What could not be measured",
            columns=tables.columns("metric", "reason", "cells", numeric=["cells"]),
            rows=tuple(rows),
        )
        if rows
        else None
    )


def failures(among: Sequence[Configuration], names: Names) -> list[Failure]:
    """Every cell that did not end well, the measurements that are missing before the findings."""
    order = {status: place for place, status in enumerate(("crash", "timeout", "invalid", "oom", "unsupported"))}
    found = []
    for one in among:
        for record in one.records:
            if record["status"] == "ok":
                continue
            error = record.get("error") or {}
            kind, message = str(error.get("type") or ""), str(error.get("message") or "no message")
            found.append(
                Failure(
                    name=names(one),
                    seed=str(record["cell"].get("seed", "")),
                    status=str(record["status"]),
                    phase=str(error.get("phase") or "unknown"),
                    message=f"{kind}: {message}" if kind else message,
                    log=str(error.get("log_tail") or ""),
                    rerun=str(record["provenance"].get("rerun") or ""),
                )
            )
    return sorted(found, key=lambda failure: (order.get(failure.status, 0), failure.name, failure.seed))


def environment_table(records: Sequence[Record]) -> Table:
    """Each machine that measured, once."""
    seen: dict[str, tuple[Mapping[str, Any], int]] = {}
    for record in records:
        facts = record["environment"]
        known = str(facts.get("fingerprint", ""))
        seen[known] = (facts, seen.get(known, (facts, 0))[1] + 1)
    rows = []
    for known, (facts, count) in sorted(seen.items()):
        memory, gpu = facts.get("memory_bytes"), facts.get("gpu")
        packages = ", ".join(f"{name} {version}" for name, version in sorted((facts.get("packages") or {}).items()) if version)
        rows.append(
            tables.row(
                Entry(text=known[:12] or text.MISSING, tone="code"),
                _number(count),
                Entry(
                    text=str(facts.get("cpu") or "unknown"),
                    detail=f"{facts.get('cores', '?')} cores, {facts.get('threads', '?')} threads used",
                ),
                text.nbytes(float(memory)) if memory else "unknown",
                Entry(text=str(gpu), detail=f"driver {facts.get('driver')}")
                if gpu
                else Entry(text="none", tone="muted", detail=str(facts.get("gpu_reason") or "")),
                str(facts.get("system") or "unknown"),
                f"Python {facts.get('python') or 'unknown'}, {packages}" if packages else f"Python {facts.get('python') or 'unknown'}",
            )
        )
    headings = tables.columns("environment", "cells", "processor", "memory", "accelerator", "system", "software", numeric=["cells"])
    return Table(key="environments", caption="Machines and software", columns=headings, rows=tuple(rows))


def dataset_table(records: Sequence[Record]) -> Table | None:
    """Each dataset that was measured on, with its size and what the exact predictor reaches."""
    seen = {str(data.get("digest")): data for record in records if (data := record.get("dataset"))}
    rows = []
    for known, data in sorted(seen.items(), key=lambda pair: (str(pair[1].get("name")), pair[0])):
        notes = "; ".join(
            f"{name}: {value}" for name, value in sorted((data.get("notes") or {}).items()) if not isinstance(value, dict | list)
        )
        ceiling = data.get("ceiling") or {}
        reached = "; ".join(_reached(name, by_metric) for name, by_metric in sorted(ceiling.items()) if isinstance(by_metric, Mapping))
        rows.append(
            tables.row(
                str(data.get("name")) + (f" ({data['size']})" if data.get("size") else ""),
                *(
                    Entry(text=f"{data[name]:,}", order=data[name]) if isinstance(data.get(name), int) else text.MISSING
                    for name in ("users", "items", "interactions")
                ),
                Entry(text=reached or text.MISSING),
                Entry(text=notes or text.MISSING, tone="long"),
                Entry(text=known[:12], tone="code"),
            )
        )
    numeric = ("users", "items", "interactions")
    headings = tables.columns("dataset", *numeric, "ceiling of the exact predictor", "notes", "digest", numeric=numeric)
    return Table(key="datasets", caption="Data", columns=headings, rows=tuple(rows)) if rows else None


def _reached(name: str, by_metric: Mapping[str, Any]) -> str:
    """What the exact predictor reaches with one view of the past."""
    shown = [f"{metric} {text.ratio(value)}" for metric, value in sorted(by_metric.items()) if isinstance(value, int | float)]
    return f"{name.replace('_', ' ')} {', '.join(shown)}"


def rerun_table(among: Sequence[Configuration], names: Names) -> Table:
    """The command that measures each cell again, and which code measured it."""
    rows = []
    for one in among:
        for record in one.records:
            provenance = record["provenance"]
            commit = str(provenance.get("commit") or "unknown")[:12] + (" + changes" if provenance.get("dirty") else "")
            rows.append(
                tables.row(
                    Entry(text=names(one), family=family(one).key),
                    _number(record["cell"].get("seed", 0)),
                    Entry(text=str(provenance.get("rerun") or text.MISSING), tone="code"),
                    Entry(text=commit, tone="code", detail=str(provenance.get("utc") or "")),
                    Entry(text=str(record.get("code_digest") or "")[:12], tone="code"),
                    Entry(text=str(record["cell_key"])[:12], tone="code"),
                    family=family(one).name,
                    backbone=filter_name(one),
                )
            )
    headings = tables.columns("configuration", "seed", "measure it again", "commit", "code", "cell", numeric=["seed"])
    return Table(key="reruns", caption="Where each point comes from", columns=headings, rows=tuple(rows), filters=True)


def _number(value: float) -> Entry:
    return Entry(text=text.count(float(value)), order=float(value))
