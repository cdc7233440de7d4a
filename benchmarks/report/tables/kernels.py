"""Ratios of attention kernels, taken in turn within a process by ``benchmarks.kernels``."""

import statistics
from collections.abc import Sequence

from benchmarks import text
from benchmarks.kernels.record import BY_GRAPHS, KernelRow, KernelTimings, request_sizes
from benchmarks.report import tabular
from benchmarks.report.tabular import Entry, Table

_SIDES = {
    "ratio": "median over processes; below it the 95% interval over them, where there are several",
    "first": "median of ours",
    "second": "median of the other",
}
FASTEST = "the fastest plain form"


def kernel_table(timings: KernelTimings) -> Table:
    """A row for each ratio: what it is of, its bound, and the medians behind it."""
    fastest = _fastest_forms(timings.rows)
    rows = [
        tabular.row(
            Entry(text=row.name, tone="long", detail=FASTEST if row.name in fastest else request_sizes(row.name, timings.settings)),
            *_entries(row),
        )
        for row in timings.rows
    ]
    sizes, peak = timings.settings, timings.machine.matrix_product_flops_per_second / 1e9
    numeric = ("ratio", "asked", "first", "second")
    return Table(
        key=f"kernels-{sizes.device}",
        caption=(
            f"{sizes.device.upper()}, {sizes.threads} threads: {sizes.layers} layers, {sizes.heads} heads, width {sizes.width}, "
            f"{sizes.users} users, {sizes.history} + {sizes.recent} items; {_processes(timings.rows)}; "
            f"matrix products reach {text.significant(peak)} GFLOP/s here"
        ),
        columns=tabular.columns("what", *numeric, numeric=numeric, explanations=_SIDES),
        rows=tuple(rows),
    )


def _processes(rows: Sequence[KernelRow]) -> str:
    counts = sorted({row.processes for row in rows})
    if counts in ([], [1]):
        return "each row within one process, so without an interval over processes"
    return f"each row in {' or '.join(map(str, counts))} processes"


def _fastest_forms(rows: Sequence[KernelRow]) -> set[str]:
    """The rows of the plain form that is fastest beside ours, among those that differ in the form alone."""
    fastest: dict[str, KernelRow] = {}
    for row in rows:
        if row.form is not None:
            kind = row.name.replace(row.form, "")
            fastest[kind] = min(fastest.get(kind, row), row, key=lambda one: one.ratio)
    return {row.name for row in fastest.values()}


def _entries(row: KernelRow) -> tuple[Entry, ...]:
    ratio, bound, higher = row.ratio, None if BY_GRAPHS in row.name else row.bound, row.higher_is_better
    worst = row.low if higher else row.high  # the unfavourable end of the interval; of one process the ratio itself
    worst = ratio if worst is None else worst
    reached = bound is not None and (worst >= bound if higher else worst <= bound)
    tone = "" if bound is None else "fine" if reached else "warn"
    target = "" if bound is None else f"{'at least' if higher else 'at most'} {text.significant(bound)}{', missed' * (not reached)}"
    return (
        Entry(text=text.significant(ratio), order=ratio, tone=tone, detail=_interval(row)),
        Entry(text=target, order=bound),
        *(_median(samples, row.unit) for samples in (row.ours, row.other)),
    )


def _interval(row: KernelRow) -> str:
    return "" if row.low is None or row.high is None else f"{text.significant(row.low)} to {text.significant(row.high)}"


def _median(samples: Sequence[float], unit: str) -> Entry:
    if not samples:
        return tabular.NOTHING
    middle = statistics.median(samples)
    return Entry(text=text.milliseconds(middle * 1e3) if unit == "s" else text.nbytes(middle), order=middle)
