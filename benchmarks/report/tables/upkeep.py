"""The overhead of the harness per measurement, and how much other processes used the machine while costs were timed."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.analysis.origins import Source, timings
from benchmarks.measures import CLOCKED_KINDS, NOTICEABLE_LOAD
from benchmarks.records import Environment
from benchmarks.report import tabular
from benchmarks.report.tabular import Entry, Table
from benchmarks.text import significant

ALLOWED_SECONDS = 2.0  # per measurement, beyond training and probes
_ROWS = (
    ("loading data and model", ("load",)),
    ("starting the process, taking its answer, ending it", ("overhead",)),
    ("together", ("load", "overhead")),
)


def overhead_table(every: Sequence[Source]) -> Table | None:
    """Seconds per measurement of a quality or a cost, beyond training and probes: median and largest."""
    timed = [source.origin.seconds for source in every if "overhead" in source.origin.seconds]
    if not timed:
        return None
    rows = []
    for name, parts in _ROWS:
        totals = [sum(seconds.get(part, 0.0) for part in parts) for seconds in timed]
        middle, largest = float(np.median(totals)), max(totals)
        tone = "" if len(parts) == 1 else "warn" if largest > ALLOWED_SECONDS else "fine"
        rows.append(
            tabular.row(
                name,
                Entry(text=str(len(totals)), order=len(totals)),
                Entry(text=f"{significant(middle)} s", order=middle),
                Entry(text=f"{significant(largest)} s", order=largest, tone=tone),
            )
        )
    numeric = ("measurements", "median", "largest")
    return Table(
        key="overhead",
        caption=f"What the harness adds to a measurement beyond training and probes (allowed: {ALLOWED_SECONDS:g} s)",
        columns=tabular.columns("part", *numeric, numeric=numeric),
        rows=tuple(rows),
    )


def disturbance(every: Sequence[Source]) -> str:
    """Says how many costs were timed while others used the machine; empty where none was, or where no load was read."""
    shares = [max(loads) for source in timings(every) if (loads := list(_foreign_shares(source.origin.environment)))]
    disturbed = [share for share in shares if share > NOTICEABLE_LOAD]
    if not disturbed:
        return ""
    return (
        f"Other processes used over {NOTICEABLE_LOAD:.0%} of the processors, and at most {max(disturbed):.0%}, during the timing of "
        f"{len(disturbed)} of {len(shares)} costs."
    )


def _foreign_shares(environment: Environment) -> Iterator[float]:
    """The share of the processors that others used while each kind of timing was taken, where it could be read."""
    for kind, reading in environment.loads().items():
        if kind not in CLOCKED_KINDS:  # a memory peak takes a few ticks of the clock behind the shares, and no load changes it
            continue
        share = reading.get("foreign_cpu_share")
        if isinstance(share, int | float) and 0 <= share <= 1:
            yield float(share)
