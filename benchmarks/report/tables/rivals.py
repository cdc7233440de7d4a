"""PerSRec beside what keeps as many vectors of the same history: all held against PerSRec's own two references."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference, recovered
from benchmarks.analysis.references import contrasted, find_references, learnt_alike, reference_quality
from benchmarks.analysis.trained import unequal
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name, in_order
from benchmarks.report.tabular import Entry, Row, Table

_NOT_RIVALS = ("experts", "full", "retrieval")  # the last keeps the whole history and chooses when asked


def rivals_of(one: Configuration, among: Sequence[Configuration]) -> list[Configuration]:
    """What keeps as many vectors of the same window as a PerSRec configuration, recent items in the tokens' place among it."""
    rivals = [other for other in contrasted(learnt_alike(one, among)) if _is_rival(one, other)]
    cached = {other.cell.compression for other in rivals if other.cell.serving == "cache"}
    return in_order([other for other in rivals if other.cell.serving == "cache" or other.cell.compression not in cached])


def rivals_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """A block of rows for each PerSRec configuration that has a rival at equal tokens; ``None`` where none has."""
    rows: list[Row] = []
    for one in in_order([one for one in contrasted(among) if one.is_tokens and not one.changed]):
        rivals = rivals_of(one, among)
        rows += [_row(one, other, among, names) for other in [one, *rivals]] if rivals else []
    if not rows:
        return None
    named = [
        (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} recovered", f"{METRIC_NAMES[metric]}: PerSRec minus it")
        for metric in QUALITY_METRICS
    ]
    numeric = [name for of_metric in named for name in of_metric]
    explanations = {name: "(quality - no token) / (full - no token), both of PerSRec's layout and window" for _, name, _ in named}
    explanations |= {name: tabular.PAIRED for _, _, name in named}
    headings = tabular.columns("PerSRec with", "keeps", *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)


def _is_rival(one: Configuration, other: Configuration) -> bool:
    if other.cell.compression in _NOT_RIVALS:
        return False
    if other.cell.compression == "recent":
        return bool(other.cell.recent == one.cell.recent + one.cell.tokens)
    return (other.cell.history, other.cell.recent, other.cell.tokens) == (one.cell.history, one.cell.recent, one.cell.tokens)


def _row(one: Configuration, other: Configuration, among: Sequence[Configuration], names: Names) -> Row:
    entries = [Entry(text=names(one), family=family(one).key), Entry(text=names(other), family=family(other).key)]
    references = find_references(one, among)
    held = [reference for reference in (references.full_quality, references.no_token) if reference is not None]
    reasons = tuple(dict.fromkeys(reason for reference in held for reason in unequal(other, reference)))
    for metric in QUALITY_METRICS:
        full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
        no_token = reference_quality(references.no_token, metric, "no cell without tokens")
        ours, theirs = one.quality(metric), other.quality(metric)
        behind = tabular.REFERENCE if other is one else tabular.of_comparison(difference(ours, theirs), one, other)
        share = tabular.of_quality(recovered(theirs, no_token, full), "percent")
        entries += [tabular.of_quality(theirs), tabular.of_unequal(share, reasons), behind]
    return tabular.row(*entries, family=family(other).name, backbone=filter_name(one))
