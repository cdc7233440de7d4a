"""Ratios of attention kernels, taken in turn in one process by ``benchmarks.kernels``."""

import statistics
from collections.abc import Sequence

from benchmarks import text
from benchmarks.kernels.record import KernelRow, KernelTimings
from benchmarks.report import tabular
from benchmarks.report.tabular import Entry, Table

_SIDES = {"first": "median of ours", "second": "median of the other"}


def kernel_table(timings: KernelTimings) -> Table:
    """A row per ratio: what was measured, what was asked, and the medians behind it."""
    rows = [tabular.row(Entry(text=row.name, tone="long"), *_entries(row)) for row in timings.rows]
    sizes, peak = timings.settings, timings.machine.matrix_product_flops_per_second / 1e9
    numeric = ("ratio", "asked", "first", "second")
    return Table(
        key=f"kernels-{sizes.device}",
        caption=(
            f"{sizes.device.upper()}, {sizes.threads} threads: {sizes.layers} layers, {sizes.heads} heads, width {sizes.width}, "
            f"{sizes.users} users, {sizes.history} + {sizes.recent} items; matrix products reach {text.significant(peak)} GFLOP/s here"
        ),
        columns=tabular.columns("what", *numeric, numeric=numeric, explanations=_SIDES),
        rows=tuple(rows),
    )


def _entries(row: KernelRow) -> tuple[Entry, ...]:
    ratio, bound, higher = row.ratio, row.bound, row.higher_is_better
    tone = "" if bound is None else "fine" if (ratio >= bound if higher else ratio <= bound) else "warn"
    asked = "" if bound is None else f"{'at least' if higher else 'at most'} {text.significant(bound)}"
    return (
        Entry(text=text.significant(ratio), order=ratio, tone=tone, detail=_interval(row)),
        Entry(text=asked, order=bound),
        *(_median(samples, row.unit) for samples in (row.ours, row.other)),
    )


def _interval(row: KernelRow) -> str:
    return "" if row.low is None or row.high is None else f"{text.significant(row.low)} to {text.significant(row.high)}"


def _median(samples: Sequence[float], unit: str) -> Entry:
    if not samples:
        return tabular.NOTHING
    middle = statistics.median(samples)
    return Entry(text=text.milliseconds(middle * 1e3) if unit == "s" else text.nbytes(middle), order=middle)
