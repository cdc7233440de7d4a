"""PerSRec beside rivals that keep as many vectors of the same history; all are compared with PerSRec's own two references."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference, recovered
from benchmarks.analysis.references import find_references, reference_quality
from benchmarks.analysis.rivals import with_rivals
from benchmarks.analysis.trained import unequal
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name, in_order
from benchmarks.report.tabular import Entry, Row, Table


def rivals_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """A block of rows for each PerSRec configuration that has a rival at equal tokens; ``None`` where none has."""
    rivals = dict(with_rivals(among))
    pairs = [(one, other) for one in in_order(list(rivals)) for other in (one, *in_order(rivals[one]))]
    if not pairs:
        return None
    per_metric = [
        (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} recovered", f"{METRIC_NAMES[metric]}: PerSRec minus it")
        for metric in QUALITY_METRICS
    ]
    numeric = [name for of_metric in per_metric for name in of_metric]
    explanations = {
        name: "(quality - no token) / (full - no token), both references at PerSRec's layout and window" for _, name, _ in per_metric
    }
    explanations |= {name: tabular.PAIRED for _, _, name in per_metric}
    headings = tabular.columns("configuration", "PerSRec beside it", *numeric, numeric=numeric, explanations=explanations)
    rows = tuple(_row(one, other, among, names) for one, other in pairs)
    table = Table(key=key, caption=caption, columns=headings, rows=rows, filters=True)
    return tabular.with_seeds(table, [other for _, other in pairs])


def _row(one: Configuration, other: Configuration, among: Sequence[Configuration], names: Names) -> Row:
    entries = [Entry(text=names(other), family=family(other).key), Entry(text=names(one), family=family(one).key)]
    references = find_references(one, among)
    own_references = [reference for reference in (references.full_quality, references.no_token) if reference is not None]
    reasons = tuple(dict.fromkeys(reason for reference in own_references for reason in unequal(other, reference)))
    for metric in QUALITY_METRICS:
        full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
        no_token = reference_quality(references.no_token, metric, "no cell without tokens")
        ours, theirs = one.quality(metric), other.quality(metric)
        behind = tabular.REFERENCE if other is one else tabular.of_comparison(difference(ours, theirs), one, other)
        share = tabular.of_quality(recovered(theirs, no_token, full), "percent")
        entries += [tabular.of_quality(theirs), tabular.of_unequal(share, reasons), behind]
    return tabular.row(*entries, family=family(other).name, backbone=filter_name(one))
