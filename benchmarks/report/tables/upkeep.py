"""What the harness itself took, and what disturbed it: overhead a cell, and other processes while it was timed."""

from collections.abc import Sequence

import numpy as np

from benchmarks.analysis.configurations import Record
from benchmarks.report import tables
from benchmarks.report.tables import Entry, Table
from benchmarks.text import significant

ALLOWED_SECONDS = 2.0  # a cell, beyond training and probes
DISTURBED = 0.10  # of the processors' time
_ROWS = (
    ("loading data and model", ("load",)),
    ("starting the process, taking its answer, ending it", ("overhead",)),
    ("together", ("load", "overhead")),
)


def overhead_table(records: Sequence[Record]) -> Table | None:
    """Seconds a cell beyond training and probes: median and largest."""
    timed = [record["seconds"] for record in records if "overhead" in (record.get("seconds") or {})]
    if not timed:
        return None
    rows = []
    for name, parts in _ROWS:
        spent = [sum(float(seconds.get(part) or 0.0) for part in parts) for seconds in timed]
        middle, largest = float(np.median(spent)), max(spent)
        tone = "" if len(parts) == 1 else "warn" if largest > ALLOWED_SECONDS else "fine"
        rows.append(
            tables.row(
                name,
                Entry(text=str(len(spent)), order=len(spent)),
                Entry(text=f"{significant(middle)} s", order=middle),
                Entry(text=f"{significant(largest)} s", order=largest, tone=tone),
            )
        )
    numeric = ("cells", "median", "largest")
    return Table(
        key="overhead",
        caption=f"What the harness adds to a cell beyond training and probes (allowed: {ALLOWED_SECONDS:g} s)",
        columns=tables.columns("part", *numeric, numeric=numeric),
        rows=tuple(rows),
    )


def disturbance(records: Sequence[Record]) -> str:
    """Says how many cells were timed while others used the machine; nothing where none was, or none could tell."""
    shares = []
    for record in records:
        told = (record["environment"].get("readings") or {}).get("load") or {}
        known = [reading["foreign_cpu_share"] for reading in told.values() if reading.get("foreign_cpu_share") is not None]
        shares += [max(known)] if known else []
    disturbed = [share for share in shares if share > DISTURBED]
    if not disturbed:
        return ""
    return (
        f"Other processes used over {DISTURBED:.0%} of the processors while {len(disturbed)} of {len(shares)} cells were timed, "
        f"at most {max(disturbed):.0%}."
    )
