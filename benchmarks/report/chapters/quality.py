"""Quality: the frontier against each cost, the ranking, and quality by tokens, history and segments."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS
from benchmarks.report.compact import Shown
from benchmarks.report.figures import curves, experiments
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.figures.frontier import frontier_figure
from benchmarks.report.names import COST_NAMES, families
from benchmarks.report.peers import Peers
from benchmarks.report.sections import Group, Section, section, where_there_is_one
from benchmarks.report.tables import groups as by_history
from benchmarks.report.tables import ranking
from benchmarks.report.tables.protocols import PROTOCOLS, protocol_tables
from benchmarks.report.tabular import Table
from benchmarks.report.texts import READING_A_FRONTIER
from benchmarks.text import some

_FEW = 5
_MOST_WINDOWS = 3  # that quality against tokens is drawn at: the shortest, a middle one and the longest


def frontier_section(shown: Sequence[Shown], *, every_picture: bool) -> Section:
    """A figure for each cost; the first is a picture, too, or every one."""
    kinds = families([one for group in shown for one in group.peers.configurations])
    groups = [_frontiers(group, picture=not place, every_picture=every_picture) for place, group in enumerate(shown)]
    return section("frontier", (Group(glossary=kinds), *groups))


def _frontiers(shown: Shown, *, picture: bool, every_picture: bool) -> Group:
    peers = shown.peers
    drawings: list[Drawing] = []
    absent: list[str] = []
    for cost, by_metric in shown.frontiers.items():
        if by_metric[QUALITY_METRICS[0]].standings:  # the figure draws this metric
            key = f"frontier-{cost.replace('_', '-')}-{peers.key}"
            png = every_picture or (picture and not drawings)
            drawings.append(frontier_figure(by_metric, peers.names, key=key, where=peers.title, roles=shown.roles, png=png))
        else:
            absent.append(COST_NAMES[cost])
    texts = [READING_A_FRONTIER] if drawings else []
    if absent:
        reason = (
            "no cell has both this cost and a quality"
            if drawings
            else "no cell has both a cost and a quality (untrained cells have costs alone, floors qualities alone)"
        )
        texts.append(f"Not drawn: {', '.join(absent)}; {reason}.")
    failed = [peers.names(one) for one in peers.configurations if not one.measured]
    if failed:
        texts.append(f"Not in the figures, as no measurement of them ended well: {some(failed, most=_FEW)}.")
    volumes = ranking.hypervolume_table(peers.configurations, shown.frontiers, key=f"hypervolume-{peers.key}")
    return Group(title=peers.title, texts=tuple(texts), drawings=tuple(drawings), folded=(volumes,) if volumes else ())


def ranking_section(groups_of_peers: Sequence[Peers], ranked: Sequence[Table]) -> Section:
    """A ranking for each group of peers; quality by the length of users' histories folded below it."""
    groups = []
    for peers, table in zip(groups_of_peers, ranked, strict=True):
        unchanged = [one for one in peers.configurations if not one.changed]
        more = (
            by_history.groups_table(unchanged, peers.names, key=f"groups-{peers.key}"),
            *protocol_tables([one for one in unchanged if one.trained], peers.names, key=f"{PROTOCOLS}{peers.key}"),
        )
        groups.append(Group(title=peers.title, tables=(table,), folded=tuple(folded for folded in more if folded)))
    return section("ranking", groups)


def tokens_section(groups_of_peers: Sequence[Peers]) -> Section:
    """A figure for each window that tokens were measured at."""
    groups = []
    for peers in groups_of_peers:
        every = sorted({(one.cell.history, one.cell.recent) for one in peers.configurations if one.cell.tokens > 0})
        windows = every if len(every) <= _MOST_WINDOWS else [every[0], every[len(every) // 2], every[-1]]
        drawings = []
        for number, (history, recent) in enumerate(windows, start=1):
            members = [one for one in peers.unchanged if one.window == history + recent and one.cell.recent == recent]
            members += [
                one for one in peers.unchanged if one.cell.compression == "recent" and one.cell.recent == recent and one not in members
            ]
            drawing = curves.tokens_figure(
                members,
                peers.names,
                ceiling=peers.ceiling,
                key=f"tokens-{peers.key}-{number}",
                where=f"{peers.title}, {history} + {recent} items",
            )
            if drawing:
                drawings.append(drawing)
        texts = () if drawings else ("No configuration that keeps tokens has a quality here.",)
        if drawings and len(windows) < len(every):
            texts = (*texts, f"Drawn at {len(windows)} of {len(every)} windows; the ranked table has them all.")
        groups.append(Group(title=peers.title, texts=texts, drawings=tuple(drawings)))
    return section("tokens", groups)


def history_section(groups_of_peers: Sequence[Peers]) -> Section:
    """Quality and cost against the length of the history."""
    groups = []
    for peers in groups_of_peers:
        lengths = sorted({one.cell.history for one in peers.configurations if not one.is_floor})
        quality = curves.history_figure(peers.unchanged, peers.names, ceiling=peers.ceiling, key=f"history-{peers.key}", where=peers.title)
        cost = curves.cost_history_figure(peers.unchanged, peers.names, key=f"cost-history-{peers.key}", where=peers.title)
        drawings = tuple(drawing for drawing in (quality, cost) if drawing)
        texts = []
        if not drawings and len(lengths) == 1:
            texts.append(f"One history length alone was measured, {lengths[0]} items.")
        elif not drawings:
            texts.append("No configuration was measured at two history lengths.")
        elif quality is None:
            texts.append("No configuration has a quality at two history lengths.")
        groups.append(Group(title=peers.title, texts=tuple(texts), drawings=drawings))
    return section("history", groups)


def segments_sections(groups_of_peers: Sequence[Peers]) -> list[Section]:
    """Only where a number of tokens was spread over two numbers of segments."""
    groups = []
    for peers in groups_of_peers:
        drawing = experiments.segments_figure(
            peers.configurations, peers.names, ceiling=peers.ceiling, key=f"segments-{peers.key}", where=peers.title
        )
        if drawing:
            groups.append(Group(title=peers.title, drawings=(drawing,)))
    return where_there_is_one("segments", groups)
