"""How wide timings spread, and how far seeds lie apart."""

from collections.abc import Sequence

import numpy as np

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.measures import MEASURES, WIDE_SPREAD
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table


def noise_tables(among: Sequence[Configuration], names: Names) -> list[Table]:
    """How wide the timings spread, and how far seeds lie apart."""
    return [table for table in (_timings_table(among, names), _seeds_table(among, names)) if table]


def timing_spreads(among: Sequence[Configuration]) -> dict[str, dict[str, float]]:
    """By timing and key of configuration: the width of a timing's interval over processes, as a share of its value."""
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
            tabular.row(
                Entry(text=MEASURES[metric].description, detail=metric),
                tabular.of_count(len(spreads)),
                Entry(text=text.percent(middle), order=middle, tone="warn" if middle > WIDE_SPREAD else ""),
                Entry(text=text.percent(spreads[widest]), order=spreads[widest], detail=names.long[widest]),
                tabular.of_count(sum(spread > WIDE_SPREAD for spread in spreads.values())),
            )
        )
    numeric = ("configurations", "median spread", "widest", f"wider than {WIDE_SPREAD:.0%}")
    explanations = {"median spread": "the 95% interval over the processes that measured one shape, over its value"}
    headings = tabular.columns("measure", *numeric, numeric=numeric, explanations=explanations)
    return Table(key="noise-timings", caption="Spread of timings and memory", columns=headings, rows=tuple(rows)) if rows else None


def _seeds_table(among: Sequence[Configuration], names: Names) -> Table | None:
    rows = []
    metric = QUALITY_METRICS[0]
    for one in among:
        values = [value for record in one.measured if (value := record.value(metric)) is not None]
        if len(values) < 2:
            continue
        deviation = float(np.std(values, ddof=1))
        rows.append(
            tabular.row(
                Entry(text=names(one), family=family(one).key),
                tabular.of_count(len(values)),
                Entry(text=text.ratio(min(values)), order=min(values)),
                Entry(text=text.ratio(max(values)), order=max(values)),
                Entry(text=text.ratio(deviation), order=deviation),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    numeric = ("seeds", "lowest", "highest", "standard deviation")
    headings = tabular.columns("configuration", *numeric, numeric=numeric)
    return Table(key="noise-seeds", caption="NDCG@10 from seed to seed", columns=headings, rows=tuple(rows), filters=True) if rows else None
