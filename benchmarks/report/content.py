"""The report's content: what is shown in which order, before it is written as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.analysis.configurations import QUALITY_METRICS, configurations
from benchmarks.analysis.frontier import COSTS, Frontier, frontier
from benchmarks.analysis.origins import sources
from benchmarks.kernels.record import KernelTimings
from benchmarks.noise.record import GateProof
from benchmarks.records import Record
from benchmarks.report.banner import Banner, banner, limits
from benchmarks.report.chapters import contrasts, cost, evidence, quality
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import Family, families, in_order, name_all
from benchmarks.report.peers import Peers, peers_of
from benchmarks.report.sections import Group, Section, section
from benchmarks.report.tables import ranking
from benchmarks.report.tabular import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that a report says; ``several`` tells whether each group of peers needs its title."""

    name: str
    several: bool
    banner: Banner
    families: tuple[Family, ...]
    sections: tuple[Section, ...]
    ranked: tuple[Table, ...]
    frontiers: tuple[Drawing, ...]
    measurements: tuple[Mapping[str, Any], ...]


def report_of(records: Sequence[Record], *, name: str, proof: GateProof | None = None, kernels: Sequence[KernelTimings] = ()) -> Report:
    """The report over the records of one run, which hold at least one.

    Args:
        records: of the run.
        name: the run's.
        proof: what ``benchmarks.noise`` found of the gates.
        kernels: what ``benchmarks.kernels`` measured on each device.
    """
    among = in_order(configurations(records))
    every = sources(records)
    names = name_all(among)
    groups = peers_of(among)
    frontiers = {peers.key: _frontiers(peers) for peers in groups}
    drawn = quality.frontier_section(groups, frontiers)
    ranked = tuple(
        ranking.ranked_table(peers.configurations, frontiers[peers.key], peers.names, key=f"ranking-{peers.key}", where=peers.title)
        for peers in groups
    )
    sections = (
        drawn,
        quality.ranking_section(groups, ranked),
        quality.tokens_section(groups),
        quality.history_section(groups),
        *quality.segments_sections(groups),
        contrasts.comparison_section(groups),
        *contrasts.experiment_sections(groups),
        *cost.shares_sections(groups),
        cost.amortisation_section(groups),
        evidence.feasibility_section(groups, among),
        cost.ledger_section(among, names),
        *cost.kernel_sections(kernels),
        evidence.noise_section(every, among, names, proof),
        evidence.failure_section(among, names),
        evidence.provenance_section(records, every, among, names),
        section("limits", [Group(points=tuple(limits(records, evidence.each_model_once(among), names)))]),
    )
    return Report(
        name=name,
        several=len(groups) > 1,
        banner=banner(records, every, among, names),
        families=families(among),
        sections=sections,
        ranked=ranked,
        frontiers=tuple(drawing for group in drawn.groups for drawing in group.drawings),
        measurements=tuple(row for peers in groups for row in ranking.measurements(peers, frontiers[peers.key], names)),
    )


def _frontiers(peers: Peers) -> dict[str, dict[str, Frontier]]:
    return {cost: {metric: frontier(peers.configurations, cost=cost, metric=metric) for metric in QUALITY_METRICS} for cost in COSTS}
