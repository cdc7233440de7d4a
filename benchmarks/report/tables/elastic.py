"""Elastic models against separate ones, point by point."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.elastic import elastic_pairs
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table


def elastic_table(among: Sequence[Configuration], names: Names, *, key: str) -> Table | None:
    """A row for each point that both an elastic and a separate model have; ``None`` where there is no such point."""
    pairs = elastic_pairs(among)
    if not pairs:
        return None
    rows = []
    for pair in pairs:
        one = pair.elastic
        qualities = [
            entry
            for metric in QUALITY_METRICS
            for entry in (
                tabular.of_quality(one.quality(metric)),
                tabular.of_quality(pair.separate.quality(metric)),
                tabular.of_comparison(pair.difference(metric), one, pair.separate),
            )
        ]
        rows.append(
            tabular.row(Entry(text=names(one), family=family(one).key), *qualities, family=family(one).name, backbone=filter_name(one))
        )
    metric_names = [METRIC_NAMES[metric] for metric in QUALITY_METRICS]
    numeric = [heading for name in metric_names for heading in (f"{name}, elastic", f"{name}, separate", f"{name}, elastic minus separate")]
    explanations = {f"{name}, elastic minus separate": tabular.PAIRED for name in metric_names}
    table = Table(
        key=key,
        caption="Elastic against separate models: one model for all token counts and history lengths, and a model for each",
        columns=tabular.columns("configuration", *numeric, numeric=numeric, explanations=explanations),
        rows=tuple(rows),
        filters=True,
    )
    counts = [len(pair.difference(QUALITY_METRICS[0]).by_seed) for pair in pairs]
    return tabular.with_seed_counts(table, counts, "the difference is over so many seeds that both have")
