"""Configurations held against their references: paired differences, retention, and the share recovered."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.references import Contrast
from benchmarks.report import tabular
from benchmarks.report.names import METRIC_NAMES, Names, family, filter_name
from benchmarks.report.tabular import Entry, Table


def comparison_table(contrasts: Sequence[Contrast], names: Names, *, key: str, metric: str) -> Table:
    """One row a configuration: its quality, the differences from its references, retention and the share recovered."""
    shown = METRIC_NAMES.get(metric, metric)
    numeric = (shown, "minus no token", "minus full history", "minus recent only", "retention", "recovered")
    explanations = {
        "minus no token": tabular.PAIRED,
        "minus full history": tabular.PAIRED,
        "minus recent only": "against a model trained on the recent items alone",
        "retention": "quality as a share of full history's quality",
        "recovered": "(quality - no token) / (full - no token)",
    }
    rows = []
    for contrast in contrasts:
        one = contrast.configuration
        rows.append(
            tabular.row(
                Entry(text=names(one), family=family(one).key),
                tabular.of_quality(contrast.quality),
                tabular.REFERENCE if contrast.references.no_token is one else tabular.of_difference(contrast.over_no_token),
                tabular.REFERENCE if one.cell.compression == "full" else tabular.of_difference(contrast.over_full),
                tabular.REFERENCE if one.cell.compression == "recent" else tabular.of_difference(contrast.over_recent),
                tabular.REFERENCE if one.cell.compression == "full" else tabular.of_quality(contrast.retention, "percent"),
                Entry(text=text.MISSING, tone="muted")
                if one.is_control or one.cell.compression == "full"
                else tabular.of_quality(contrast.recovered, "percent"),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    headings = tabular.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption=f"{shown}: paired differences, retention and recovered", columns=headings, rows=tuple(rows), filters=True)
