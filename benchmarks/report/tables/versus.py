"""Two configurations of a run on the same users: ``python -m benchmarks.report results/NAME --compare EXPR EXPR``."""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, Record, configurations
from benchmarks.analysis.estimates import difference, retention
from benchmarks.cell import Cell
from benchmarks.grids import label, select
from benchmarks.report import tables
from benchmarks.report.tables import Table

_SHOWN = 5


def versus_table(records: Sequence[Record], first: str, second: str, *, name: str) -> Table:
    """Both qualities, their paired difference and their ratio, each with its 95% interval over users and seeds.

    Args:
        records: of one run.
        first: finds one configuration, as ``backbone=hstu,tokens=4``.
        second: finds the other.
        name: the run's, for messages.

    Raises:
        ValueError: an expression does not find exactly one configuration; the message lists what it finds or what is known.
    """
    ours, theirs = (_only(records, expression, name=name) for expression in (first, second))
    rows = []
    for metric in QUALITY_METRICS:
        one, other = ours.quality(metric), theirs.quality(metric)
        rows.append(
            tables.row(
                metric,
                tables.of_quality(one),
                tables.of_quality(other),
                tables.of_difference(difference(one, other)),
                tables.of_quality(retention(one, other), "percent"),
            )
        )
    numeric = ("first", "second", "first minus second", "first over second")
    caption = f"First: {_label(ours)}; second: {_label(theirs)}; paired over users, 95% intervals"
    return Table(key="versus", caption=caption, columns=tables.columns("metric", *numeric, numeric=numeric), rows=tuple(rows))


def _only(records: Sequence[Record], expression: str, *, name: str) -> Configuration:
    cells = {Cell.from_dict(record["cell"]): record for record in records}
    try:
        found = select(list(cells), expression, grid=name)
    except ValueError as error:
        raise ValueError(str(error).replace("--select", "--compare").replace("of grid", "of")) from error
    matching = configurations([cells[cell] for cell in found])
    if len(matching) > 1:
        listing = "; ".join(_label(one) for one in matching[:_SHOWN]) + ("; ..." if len(matching) > _SHOWN else "")
        raise ValueError(f"--compare: {expression!r} finds {len(matching)} configurations, expected one: {listing}")
    return matching[0]


def _label(one: Configuration) -> str:
    seeds = sorted(int(record["cell"]["seed"]) for record in one.records)
    cell = replace(Cell.from_dict(one.records[0]["cell"]), seed=seeds[0])
    return label(cell) + (f" and {len(seeds) - 1} more seed{'s' * (len(seeds) > 2)}" if len(seeds) > 1 else "")
