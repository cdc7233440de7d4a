"""Two configurations of a run on the same users: ``python -m benchmarks.report results/NAME --compare EXPR EXPR``."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration, configurations
from benchmarks.analysis.estimates import difference, retention
from benchmarks.analysis.trained import steps
from benchmarks.grids.selection import select
from benchmarks.records import Record
from benchmarks.report import tabular
from benchmarks.report.names import Names, name_all
from benchmarks.report.tabular import Table

_MOST_SHOWN = 5


def versus_table(records: Sequence[Record], first: str, second: str, *, name: str) -> Table:
    """Both qualities, their paired difference and their ratio, each with its 95% interval.

    Steps stand beside the difference where they differ; unequal training marks it.

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
            tabular.row(
                metric,
                tabular.of_quality(one),
                tabular.of_quality(other),
                tabular.of_comparison(difference(one, other), ours, theirs),
                tabular.of_quality(retention(one, other, of="the second's"), "percent"),
            )
        )
    numeric = ("first", "second", "first minus second", "first over second")
    names = name_all([ours, theirs])
    over = (
        "users of one seed"
        if difference(ours.quality(QUALITY_METRICS[0]), theirs.quality(QUALITY_METRICS[0])).of_one_seed
        else "users and seeds"
    )
    caption = f"First: {_label(ours, names)}; second: {_label(theirs, names)}; paired, 95% intervals over {over}"
    return Table(key="versus", caption=caption, columns=tabular.columns("metric", *numeric, numeric=numeric), rows=tuple(rows))


def _only(records: Sequence[Record], expression: str, *, name: str) -> Configuration:
    try:
        cells = set(select(list(dict.fromkeys(record.cell for record in records)), expression, grid=name))
    except ValueError as error:
        raise ValueError(str(error).replace("--select", "--compare").replace("of grid", "of")) from error
    matching = configurations(record for record in records if record.cell in cells)
    if len(matching) > 1:
        names = name_all(matching)
        listing = "; ".join(names(one) for one in matching[:_MOST_SHOWN]) + ("; ..." if len(matching) > _MOST_SHOWN else "")
        raise ValueError(f"--compare: {expression!r} finds {len(matching)} configurations, expected one: {listing}")
    return matching[0]


def _label(one: Configuration, names: Names) -> str:
    seeds = [record.cell.seed for record in one.records]
    mean_steps = steps(one)
    steps_text = f", {text.count(mean_steps)} steps" if mean_steps is not None else ""
    return f"{names(one)}, seed{'s' * (len(seeds) > 1)} {text.listed([str(seed) for seed in seeds])}{steps_text}"
