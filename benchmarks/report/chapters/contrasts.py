"""Contrasts: each configuration beside its references, and trained models served from something else than their own fresh cache."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.references import compare, contrasted
from benchmarks.analysis.worth import Worth, floors_above, worths
from benchmarks.report.figures.experiments import staleness_figure
from benchmarks.report.figures.forest import forest_figure
from benchmarks.report.names import Names
from benchmarks.report.opening import worth_in_words
from benchmarks.report.peers import Peers
from benchmarks.report.sections import Group, Section, section, where_there_is_one
from benchmarks.report.tables import experiments
from benchmarks.report.tables.alone import alone_table
from benchmarks.report.tables.beside import beside_table
from benchmarks.report.tables.contrasts import comparison_table
from benchmarks.report.tables.elastic import elastic_table
from benchmarks.report.tables.rivals import rivals_table
from benchmarks.report.tables.worth import floors_table, worth_table

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
    others = beside_table(peers.configurations, peers.names, key=f"beside-{peers.key}")
    if not members:
        nothing = "No trained configuration of ours has a quality here, so there is nothing to compare."
        return Group(title=peers.title, texts=(nothing,), tables=(others,) if others else ())
    widest = {name: max(one.window for one in members if one.cell.backbone == name) for name in {one.cell.backbone for one in members}}
    longest = [one for one in peers.configurations if one.window == widest.get(one.cell.backbone) or one.cell.compression == "recent"]
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
        caption="PerSRec beside rivals that keep as many vectors, or as many recent items in their place",
    )
    elastic = elastic_table(peers.configurations, peers.names, key=f"elastic-{peers.key}")
    varied = alone_table(peers.configurations, key=f"alone-{peers.key}")
    every = worths(peers.configurations, QUALITY_METRICS[0])
    worth = worth_table(every, peers.names, key=f"worth-{peers.key}")
    floors = floors_table(floors_above(peers.configurations, QUALITY_METRICS[0]), peers.names, key=f"floors-{peers.key}")
    return Group(
        title=peers.title,
        points=tuple(_does_history_pay(every, peers.configurations, peers.names)),
        drawings=(forest,) if forest else (),
        tables=tuple(table for table in (worth, floors, *tables, equal, elastic, varied, others) if table),
    )


def _does_history_pay(every: Sequence[Worth], among: Sequence[Configuration], names: Names) -> list[str]:
    """What the long history is worth on each backbone, or that nothing tells."""
    if not any(one.is_control or one.cell.compression == "recent" for one in among):
        missing = "No cell that reads no history (0 tokens, or the recent items alone) was measured here."
        return [f"{missing} So what the tokens carry cannot be separated from what the recent items carry."]
    return [worth_in_words(worth, names) for worth in every]


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
