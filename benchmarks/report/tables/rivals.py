"""PerSRec beside what keeps as many vectors of the same history: all held against PerSRec's own two references."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference, recovered
from benchmarks.analysis.references import comparable, find_references, reference_quality
from benchmarks.report import tables
from benchmarks.report.figures.axes import METRIC_NAMES
from benchmarks.report.names import Names, family, filter_name, in_order
from benchmarks.report.tables import Entry, Row, Table
from benchmarks.report.tables.contrasts import contrasted

_NOT_RIVALS = ("experts", "full", "retrieval")  # the last keeps the whole history and chooses when asked


def rivals_of(one: Configuration, among: Sequence[Configuration]) -> list[Configuration]:
    """What keeps as many vectors of the same window as a PerSRec configuration, recent items in the tokens' place among it."""
    found = [other for other in contrasted(among) if _is_rival(one, other)]
    cached = {other["compression"] for other in found if other["serving"] == "cache"}
    return in_order([other for other in found if other["serving"] == "cache" or other["compression"] not in cached])


def rivals_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """A block of rows for each PerSRec configuration that has a rival at equal tokens; ``None`` where none has."""
    rows: list[Row] = []
    for one in in_order([one for one in contrasted(among) if one.is_tokens and not one.changed]):
        found = rivals_of(one, among)
        rows += [_row(one, other, among, names) for other in [one, *found]] if found else []
    if not rows:
        return None
    named = [
        (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} recovered", f"{METRIC_NAMES[metric]}: PerSRec minus it")
        for metric in QUALITY_METRICS
    ]
    numeric = [name for of_metric in named for name in of_metric]
    explanations = {name: "(quality - no token) / (full - no token), both of PerSRec's layout and window" for _, name, _ in named}
    explanations |= {name: tables.PAIRED for _, _, name in named}
    headings = tables.columns("PerSRec with", "keeps", *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)


def _is_rival(one: Configuration, other: Configuration) -> bool:
    if other["compression"] in _NOT_RIVALS or not comparable(one, other):
        return False
    if other["compression"] == "recent":
        return bool(other["recent"] == one["recent"] + one["tokens"])
    return all(other[name] == one[name] for name in ("history", "recent", "tokens"))


def _row(one: Configuration, other: Configuration, among: Sequence[Configuration], names: Names) -> Row:
    entries = [Entry(text=names(one), family=family(one).key), Entry(text=names(other), family=family(other).key)]
    references = find_references(one, among)
    for metric in QUALITY_METRICS:
        full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
        no_token = reference_quality(references.no_token, metric, "no cell of this layout without tokens")
        ours, theirs = one.quality(metric), other.quality(metric)
        behind = tables.REFERENCE if other is one else tables.of_difference(difference(ours, theirs))
        entries += [tables.of_quality(theirs), tables.of_quality(recovered(theirs, no_token, full), "percent"), behind]
    return tables.row(*entries, family=family(other).name, backbone=filter_name(one))
