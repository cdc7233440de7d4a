"""What ``benchmarks.kernels`` measured: the records beside the runs, and the table that the report shows of them."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import tables
from benchmarks.report.tables import Entry, Table
from benchmarks.store import load_beside
from benchmarks.text import significant

SCHEMA_VERSION = 1

Content = Mapping[str, Any]
_SIDES = {"first": "median of ours", "second": "median of the other"}


def load_kernels(path: Path) -> Content | None:
    """The record, or ``None`` where there is none; fails as `benchmarks.store.load_beside`."""
    return load_beside(path, program="benchmarks.kernels", version=SCHEMA_VERSION, show=kernel_table)


def kernel_table(content: Content) -> Table:
    """A row per ratio: what was seen, what was asked, and the medians behind it."""
    rows = [tables.row(Entry(text=str(row["name"]), tone="long"), *_entries(row)) for row in content["rows"]]
    settings = content["settings"]
    peak = content["machine"]["matrix_product_flops_per_second"] / 1e9
    numeric = ("ratio", "asked", "first", "second")
    return Table(
        key=f"kernels-{settings['device']}",
        caption=(
            f"{settings['device'].upper()}, {settings['threads']} threads: {settings['layers']} layers, {settings['heads']} heads, width "
            f"{settings['width']}, {settings['users']} users, {settings['history']} + {settings['recent']} items; matrix products reach "
            f"{significant(peak)} GFLOP/s here"
        ),
        columns=tables.columns("what", *numeric, numeric=numeric, explanations=_SIDES),
        rows=tuple(rows),
    )


def _entries(row: Mapping[str, Any]) -> tuple[Entry, ...]:
    ratio, bound, higher = float(row["ratio"]), row["bound"], bool(row["higher_is_better"])
    tone = "" if bound is None else "fine" if (ratio >= bound if higher else ratio <= bound) else "warn"
    asked = "" if bound is None else f"{'at least' if higher else 'at most'} {significant(float(bound))}"
    return (
        Entry(text=significant(ratio), order=ratio, tone=tone),
        Entry(text=asked, order=None if bound is None else float(bound)),
        *(_median(row[side], row["unit"]) for side in ("ours", "other")),
    )


def _median(samples: list[float], unit: str) -> Entry:
    middle = statistics.median(samples)
    shown = f"{significant(middle * 1e3)} ms" if unit == "s" else f"{significant(middle / 2**20)} MiB"
    return Entry(text=shown, order=middle)
