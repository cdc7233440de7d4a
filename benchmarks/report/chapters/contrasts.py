"""Contrasts: each configuration beside its references, and trained models served from something else than their own fresh cache."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import with_interval
from benchmarks.analysis.references import Contrast, compare, contrasted, full_against_no_token
from benchmarks.report.figures.experiments import staleness_figure
from benchmarks.report.figures.forest import forest_figure
from benchmarks.report.names import METRIC_NAMES, Names
from benchmarks.report.peers import Peers
from benchmarks.report.sections import Group, Section, section, where_there_is_one
from benchmarks.report.tables import experiments
from benchmarks.report.tables.contrasts import comparison_table
from benchmarks.report.tables.elastic import elastic_table
from benchmarks.report.tables.rivals import rivals_table

_CHANGES = {
    "ablations": (experiments.ablations_table, "Served with something else in the tokens' place"),
    "staleness": (experiments.staleness_table, "Served from an older cache"),
    "precision": (experiments.precision_table, "Served from a cache as stored"),
}


def comparison_section(groups_of_peers: Sequence[Peers]) -> Section:
    """Paired differences from the references, and PerSRec beside others of as many tokens."""
    return section("comparisons", [_compared(peers) for peers in groups_of_peers])


def _compared(peers: Peers) -> Group:
    members = contrasted(peers.configurations)
    if not members:
        return Group(title=peers.title, texts=("No trained configuration has a quality here, so there is nothing to compare.",))
    widest = max(one.window for one in members)
    longest = [one for one in peers.configurations if one.window == widest or one.cell.compression == "recent"]
    forest = forest_figure(longest, peers.names, key=f"contrasts-{peers.key}", where=peers.title)
    tables = [
        comparison_table(
            [compare(one, peers.configurations, metric) for one in members],
            peers.names,
            key=f"comparison-{metric.partition('@')[0]}-{peers.key}",
            metric=metric,
        )
        for metric in QUALITY_METRICS
    ]
    equal = rivals_table(
        peers.configurations,
        peers.names,
        key=f"rivals-{peers.key}",
        caption="PerSRec beside what keeps as many vectors, or recent items in their place, at equal tokens",
    )
    elastic = elastic_table(peers.configurations, peers.names, key=f"elastic-{peers.key}")
    return Group(
        title=peers.title,
        points=tuple(_does_history_pay(peers.configurations, peers.names)),
        drawings=(forest,) if forest else (),
        tables=(*tables, *(table for table in (equal, elastic) if table)),
    )


def _does_history_pay(among: Sequence[Configuration], names: Names) -> list[str]:
    """Says plainly where full history beats the no-token layout and where it does not."""
    if not any(one.is_control for one in among):
        return ["There is no no-token cell here, so what the tokens carry cannot be told from what the recent items carry."]
    comparisons = [(metric, comparison) for metric in QUALITY_METRICS for comparison in full_against_no_token(among, metric)]
    said = [sentence for metric, comparison in comparisons if (sentence := _does_not_pay(comparison, metric, names))]
    if said or not comparisons:
        return said
    return ["Full history beats the no-token layout wherever both were measured."]


def _does_not_pay(comparison: Contrast, metric: str, names: Names) -> str:
    worth, full = comparison.full_over_no_token, comparison.references.full_quality
    gap = f"{METRIC_NAMES[metric]} {with_interval(worth, 'signed')}"
    pair = f"{names(full) if full else 'full history'} against {names(comparison.configuration)}"
    if worth.low is None:
        return f"{pair}: {gap}, without an interval ({worth.reason})."
    if worth.holds_zero:
        return f"Full history does not beat the no-token layout: {pair}, {gap}."
    return f"Full history is worse than the no-token layout: {pair}, {gap}." if (worth.value or 0.0) < 0 else ""


def experiment_sections(groups_of_peers: Sequence[Peers]) -> list[Section]:
    """Ablations, aged caches and precisions: each section only where the run has such cells."""
    groups: dict[str, list[Group]] = {kind: [] for kind in _CHANGES}
    for peers in groups_of_peers:
        aging = staleness_figure(peers.everyone, peers.names, ceiling=peers.ceiling, key=f"staleness-{peers.key}", where=peers.title)
        for kind, (table_of, title) in _CHANGES.items():
            table = table_of(peers.everyone, peers.names, key=f"{kind}-differences-{peers.key}", caption=f"{title}, {peers.title}")
            if table:
                drawings = (aging,) if kind == "staleness" and aging else ()
                groups[kind].append(Group(title=peers.title, drawings=drawings, tables=(table,)))
    return [one for kind, members in groups.items() for one in where_there_is_one(kind, members)]
