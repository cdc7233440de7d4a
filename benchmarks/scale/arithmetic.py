"""What measured records say of larger grids, logs and numbers of users: figures of ``docs/scaling.md``, none of them typed in.

Every figure is a measured number times a count. Nothing here knows whether a cost stays linear; the page says where it will not.
``python -m benchmarks.scale.arithmetic`` writes the page's tables anew from the records under ``results/``. Imports no torch.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.records import Metric, Record, load_records
from benchmarks.text import nbytes
from persrec.commandline import DONE, duration, guarded
from persrec.files import write_atomically

CELLS, EVENTS, USERS = 10_000, 1_000_000_000, 100_000_000
GRID, BACKBONE, TOKENS = "full-synthetic-cpu", "hstu", (4, 16)
NETWORK_BYTES = 10e9 / 8  # a second, of a link of 10 Gbit/s: the one figure that nobody measured here
PAGE = Path("docs/scaling.md")
HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A row of a table: what it is, how large, and of which numbers it is made."""

    name: str
    value: str
    made_of: str


def of_cells(records: Sequence[Record], folder: Path, page: Path) -> list[Figure]:
    """What a grid of `CELLS` cells takes, alike to the cells of ``records``, which lie in ``folder`` and are shown by ``page``."""
    models = {record.model.key: record.model.train_seconds or 0.0 for record in records if record.model is not None}
    quality = _mean([sum(record.quality.seconds.values()) for record in records if record.quality is not None])
    costs = {record.cost.key: sum(record.cost.seconds.values()) for record in records if record.cost is not None}
    trained, shapes = CELLS * len(models) / len(records), CELLS * len(costs) / len(records)
    training, qualities, cost = trained * _mean(list(models.values())), CELLS * quality, shapes * _mean(list(costs.values()))
    record_bytes = _mean([path.stat().st_size for path in (folder / "cells").glob("*.json")])
    shape_bytes = _mean([path.stat().st_size for path in (folder / "costs").glob("*.json")])
    return [
        Figure(name="models to train", value=f"{trained:,.0f}", made_of=f"{len(models)} models of {len(records)} cells"),
        Figure(name="training", value=_hours(training), made_of=f"{duration(_mean(list(models.values())))} a model"),
        Figure(name="qualities", value=_hours(qualities), made_of=f"{quality:.1f} s a cell"),
        Figure(
            name="costs, each node alone", value=_hours(cost), made_of=f"{shapes:,.0f} shapes, {_mean(list(costs.values())):.1f} s a shape"
        ),
        Figure(
            name="all of it, 100 jobs at once and one node for the costs",
            value=duration(max((training + qualities) / 100, cost)),
            made_of="the larger of the two lanes",
        ),
        Figure(
            name="records on disk",
            value=nbytes(CELLS * record_bytes + shapes * shape_bytes),
            made_of=f"{nbytes(record_bytes)} a cell, {nbytes(shape_bytes)} a shape",
        ),
        Figure(
            name="one page of all cells",
            value=nbytes(CELLS * page.stat().st_size / len(records)),
            made_of=f"{nbytes(page.stat().st_size)} for {len(records)} cells",
        ),
    ]


def of_events(records: Sequence[Record], prepared: Path) -> list[Figure]:
    """What a log of `EVENTS` takes: its preparation, and an epoch of each backbone."""
    entry = next(entry for entry in json.loads(prepared.read_text())["entries"] if entry["engine"] == "duckdb")
    times = EVENTS / entry["rows"]
    figures = [
        Figure(
            name="preparation by DuckDB, on one machine",
            value=duration(entry["seconds"] * times),
            made_of=f"{duration(entry['seconds'])} for {entry['rows']:,} rows",
        ),
        Figure(name="prepared data on disk", value=nbytes(entry["out_bytes"] * times), made_of=nbytes(entry["out_bytes"])),
    ]
    speeds: dict[tuple[str, str], dict[str, float]] = {}  # by model: its cells share it
    for record in records:
        model, cell = record.model, record.cell
        if model is not None and model.seconds_per_million_targets is not None and cell.compression in ("full", "experts"):
            taught = "taught by full attention" if cell.distillation else "not taught"
            kind = "full attention" if cell.compression == "full" else f"tokens, {taught}"
            speeds.setdefault((cell.backbone, kind), {})[model.key] = model.seconds_per_million_targets
    return figures + [
        Figure(
            name=f"an epoch of {backbone}, {kind}, one processor",
            value=duration(median(seconds.values()) * EVENTS / 1e6),
            made_of=f"{median(seconds.values()):.0f} s for a million targets, {_of_models(list(seconds.values()))}",
        )
        for (backbone, kind), seconds in sorted(speeds.items())
    ]


def of_users(records: Sequence[Record]) -> list[Figure]:
    """What caches of `USERS` users take: bytes, their refresh, and requests."""
    figures = []
    for record in _served(records):
        history, tokens = record.cell.history, record.cell.tokens
        name = "full history" if record.cell.compression == "full" else f"{tokens} tokens"
        user_bytes, refresh_rate, request_rate = (
            float(record.metrics[metric].value or 0) for metric in ("cache_bytes", "compress_users_per_second", "requests_per_second")
        )
        refreshes, requests, alone = (
            _interval(record.metrics[metric], digits)
            for metric, digits in (("compress_users_per_second", 0), ("requests_per_second", 0), ("request_latency_p50_ms", 1))
        )
        microseconds = user_bytes / NETWORK_BYTES * 1e6
        figures += [
            Figure(name=f"caches of {name} of {history} items", value=nbytes(USERS * user_bytes), made_of=f"{nbytes(user_bytes)} a user"),
            Figure(
                name=f"{name}: all users refreshed, one processor",
                value=f"{USERS / refresh_rate / HOUR:.1f} h",
                made_of=f"{refreshes} users a second; {USERS / refresh_rate / DAY:.1f} processors refresh all once a day",
            ),
            Figure(
                name=f"{name}: requests a second and processor",
                value=f"{request_rate:,.0f}",
                made_of=f"{requests} a second in batches of {record.cell.batch_size}; one alone takes {alone} ms",
            ),
            Figure(name=f"{name}: a cache over 10 Gbit/s", value=f"{microseconds:.0f} µs", made_of=f"{nbytes(user_bytes)}"),
        ]
    return figures


def _served(records: Sequence[Record]) -> list[Record]:
    """PerSRec's and full attention's records that are served from a cache, of the longest history that all have."""
    cached = [
        record
        for record in records
        if record.ok and record.cell.backbone == BACKBONE and record.cell.serving == "cache" and record.cell.cache_dtype == "float32"
        and record.cell.ablation == "none" and not record.cell.staleness and record.cost is not None
    ]  # fmt: skip
    longest = max(record.cell.history for record in cached)
    kinds = [("experts", tokens) for tokens in TOKENS] + [("full", 0)]
    alike = [record for record in cached if record.cell.history == longest]
    return [
        min((record for record in alike if (record.cell.compression, record.cell.tokens) == one), key=lambda record: record.cell_key)
        for one in kinds
    ]


def tables(results: Path) -> dict[str, str]:
    """The tables of the page by the name of their mark."""
    records = list(load_records(results / GRID))
    return {
        "cells": _table(of_cells(records, results / GRID, results.parent / "reports" / f"{GRID}.html")),
        "events": _table(of_events(records, results / "scale" / "prepare.json")),
        "users": _table(of_users(records)),
    }


def with_tables(page: str, filled: dict[str, str]) -> str:
    """The page with its tables between their marks.

    Raises:
        ValueError: a mark is missing.
    """
    for name, table in filled.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        missing = [mark for mark in (start, end) if page.count(mark) != 1]
        if missing:
            raise ValueError(f"{PAGE}: expected one line {missing[0].strip()!r}")
        before, _, rest = page.partition(start)
        page = f"{before}{start}{table}{end}{rest.partition(end)[2]}"
    return page


def _table(figures: Sequence[Figure]) -> str:
    rows = [f"| {figure.name} | {figure.value} | {figure.made_of} |" for figure in figures]
    return "\n".join(["| what | figure | made of |", "| --- | ---: | --- |", *rows]) + "\n"


def _interval(metric: Metric, digits: int) -> str:
    """A number with its 95% interval over processes, where it has one."""
    ends = "" if metric.low is None or metric.high is None else f" ({metric.low:,.{digits}f} to {metric.high:,.{digits}f})"
    return f"{float(metric.value or 0):,.{digits}f}{ends}"


def _of_models(seconds: Sequence[float]) -> str:
    """How many models a median is of, and how far they lie apart: other work slows one or the other."""
    return "1 model" if len(seconds) == 1 else f"median of {len(seconds)} models, {min(seconds):.0f} to {max(seconds):.0f}"


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:,.0f} h of a processor"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def main() -> int:
    """Writes the page anew; returns the exit code."""
    if not PAGE.is_file():
        raise ValueError(f"{PAGE}: no such file here; run it in the project's root")
    write_atomically(PAGE, with_tables(PAGE.read_text(), tables(Path("results"))).encode())
    sys.stdout.write(f"{PAGE}\n")
    return DONE


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.scale.arithmetic", main))
