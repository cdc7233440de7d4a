"""The report's content: what is shown in which order, before it is written as a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import QUALITY_METRICS, configurations
from benchmarks.analysis.frontier import COSTS, Frontiers, frontier
from benchmarks.analysis.origins import sources
from benchmarks.kernels.record import KernelTimings
from benchmarks.noise.record import GateProof
from benchmarks.records import Record
from benchmarks.report.answer import AnswerPart, answer_of
from benchmarks.report.banner import Banner, banner
from benchmarks.report.chapters import contrasts, cost, evidence, opening, quality
from benchmarks.report.compact import Shown
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.limits import limits
from benchmarks.report.names import Family, Names, families, in_order, name_all
from benchmarks.report.peers import Peers, peers_of
from benchmarks.report.sections import Group, Section, section
from benchmarks.report.tables import ranking
from benchmarks.report.tabular import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that a report says. ``several`` is whether there are several groups of peers, so that each needs its title."""

    name: str
    several: bool
    names: Names
    banner: Banner
    answers: tuple[AnswerPart, ...]
    families: tuple[Family, ...]
    sections: tuple[Section, ...]
    ranked: tuple[Table, ...]
    shown: tuple[Shown, ...]
    pictures: tuple[Drawing, ...]

    def tables(self) -> Iterator[Table]:
        """Every table of the page, those below figures among them."""
        yield from (part.drawing.table for part in self.answers if part.drawing)
        for group in (group for one in self.sections for group in one.groups):
            yield from (drawing.table for drawing in group.drawings)
            yield from (*group.tables, *group.folded)


def report_of(
    records: Sequence[Record],
    *,
    name: str,
    proof: GateProof | None = None,
    kernels: Sequence[KernelTimings] = (),
    every_picture: bool = False,
) -> Report:
    """The report over the records of one run.

    Args:
        records: of the run; at least one.
        name: the run's.
        proof: what ``benchmarks.noise`` found of the gates.
        kernels: what ``benchmarks.kernels`` measured on each device.
        every_picture: whether the answers and all frontiers become pictures, too, and not only the first frontier.
    """
    among = in_order(configurations(records))
    every = sources(records)
    names = name_all(among)
    groups = peers_of(among)
    frontiers = {peers.key: _frontiers(peers) for peers in groups}
    answers = tuple(answer_of(peers, frontiers[peers.key], picture=every_picture) for peers in groups)
    shown_groups = tuple(
        Shown(peers=peers, ranked=ranking.ranked(peers.configurations), frontiers=frontiers[peers.key], roles=part.roles)
        for peers, part in zip(groups, answers, strict=True)
    )
    ranked = tuple(
        ranking.ranked_table(
            one.ranked, one.frontiers, one.peers.names, key=f"ranking-{one.peers.key}", where=one.peers.title, group=number
        )
        for number, one in enumerate(shown_groups)
    )
    frontier_section = quality.frontier_section(shown_groups, every_picture=every_picture)
    sections = (
        section("advise", ()),
        opening.settings_section(among),
        frontier_section,
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
        evidence.noise_section(among, names, proof),
        evidence.failure_section(among, names),
        evidence.provenance_section(records, every, among, names),
        section("limits", [Group(points=tuple(limits(records, every, evidence.each_model_once(among), names)))]),
    )
    drawings = [
        *(drawing for group in frontier_section.groups for drawing in group.drawings),
        *(part.drawing for part in answers if part.drawing),
    ]
    return Report(
        name=name,
        several=len(groups) > 1,
        names=names,
        banner=banner(records, every, among, names),
        answers=answers,
        families=families(among),
        sections=sections,
        ranked=ranked,
        shown=shown_groups,
        pictures=tuple(drawing for drawing in drawings if drawing.image.png),
    )


def _frontiers(peers: Peers) -> Frontiers:
    return {cost: {metric: frontier(peers.configurations, cost=cost, metric=metric) for metric in QUALITY_METRICS} for cost in COSTS}
