"""Cost: shares of full attention, requests that share a refresh, the FLOP ledger and the kernels."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import Configuration
from benchmarks.kernels.record import KernelTimings
from benchmarks.report.figures.amortised import amortised_figure
from benchmarks.report.names import Names
from benchmarks.report.peers import Peers
from benchmarks.report.sections import Group, Section, section, where_there_is_one
from benchmarks.report.tables import amortisation, ledger
from benchmarks.report.tables.kernels import kernel_table
from benchmarks.report.tables.shares import shares_table


def shares_sections(groups_of_peers: Sequence[Peers]) -> list[Section]:
    """Only where cells have a control in their process."""
    groups = []
    for peers in groups_of_peers:
        caption = f"Share of full attention's time and FLOPs, {peers.title}"
        table = shares_table(peers.configurations, peers.names, key=f"shares-{peers.key}", caption=caption)
        if table:
            groups.append(Group(title=peers.title, tables=(table,)))
    return where_there_is_one("shares", groups)


def amortisation_section(groups_of_peers: Sequence[Peers]) -> Section:
    """What a request costs when several share a refresh."""
    groups = []
    for peers in groups_of_peers:
        drawing = amortised_figure(peers.unchanged, peers.names, key=f"amortised-{peers.key}", where=peers.title)
        even = amortisation.break_even_table(
            peers.configurations, peers.names, key=f"break-even-{peers.key}", caption=f"Break-even, {peers.title}"
        )
        aged = amortisation.aged_table(
            peers.everyone, peers.names, key=f"aged-{peers.key}", caption=f"Cost and quality as the history ages, {peers.title}"
        )
        texts = () if drawing else ("FLOPs of compressing and serving were not both measured for any compressed history.",)
        tables = tuple(table for table in (even, aged) if table)
        groups.append(Group(title=peers.title, texts=texts, drawings=(drawing,) if drawing else (), tables=tables))
    return section("amortisation", groups)


def ledger_section(among: Sequence[Configuration], names: Names) -> Section:
    """FLOPs, counted in three ways."""
    tables = ledger.ledger_tables(among, names)
    texts = () if tables else ("No ledger in these records: FLOPs were not counted.",)
    items = ledger.item_table(among)
    return section("ledger", [Group(texts=texts, tables=(*tables[:1], *([items] if items else [])), folded=tuple(tables[1:]))])


def kernel_sections(kernels: Sequence[KernelTimings]) -> list[Section]:
    """Only where ``benchmarks.kernels`` left its record."""
    return where_there_is_one("kernels", [Group(tables=tuple(kernel_table(timings) for timings in kernels))] if kernels else [])
