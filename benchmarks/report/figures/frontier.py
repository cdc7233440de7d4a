"""Draws the frontier: a panel per backbone with the same axes, one cost against quality, and a table of what stands near the line."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, with_interval
from benchmarks.analysis.frontier import COSTS, Frontier, Standing, is_timed, non_dominated
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.axes import Backbones
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import COST_NAMES, Names, backbone_name, family, filter_name
from benchmarks.report.tabular import Entry, Table
from benchmarks.text import listed
from persrec.names import CONFIDENCE

_COLUMNS = 2
_CROWD = 200  # points of a panel
_NEAR = 0.05  # a configuration with at least this chance to be on the frontier has a row below the figure


def frontier_figure(
    frontiers: Mapping[str, Frontier], names: Names, *, key: str, where: str, roles: Mapping[str, str] | None = None, png: bool = False
) -> Drawing:
    """One cost against the first quality metric, a panel for each backbone.

    Args:
        frontiers: by metric, all of the same cost; the figure shows the first, the table all.
        names: the names of the configurations.
        key: prefix of the ids in the page.
        where: the dataset and device, for the title.
        roles: by key of configuration, what it was chosen for.
        png: whether to make a PNG, too.
    """
    first = next(iter(frontiers.values()))
    title = f"{text.sentence(COST_NAMES[first.cost])} against quality, {where}"
    description = " ".join(_in_words(frontier, names) for frontier in frontiers.values())
    with canvas.settings():
        figure = _draw(first, names, roles or {})
        image = canvas.export(figure, key=key, title=title, description=description, png=png)
    table = frontier_table(frontiers, names, key=f"{key}-table", caption=title)
    return Drawing(key=key, title=title, description=description, image=image, table=table)


def own_frontier(standings: Sequence[Standing]) -> list[Standing]:
    """The standings of a panel that no other one there beats in both cost and quality, cheapest first."""
    costs = np.array([standing.cost for standing in standings], dtype=np.float64)
    qualities = np.array([_value(standing) for standing in standings], dtype=np.float64)
    winners = itertools.compress(standings, non_dominated(costs, qualities))
    return sorted(winners, key=lambda s: (s.cost, s.configuration.key))


def _draw(frontier: Frontier, names: Names, roles: Mapping[str, str]) -> Any:
    configurations = [standing.configuration for standing in frontier.standings]
    backbones = Backbones.of(configurations)
    scale = axes.CostScale.of(frontier.cost, [standing.cost for standing in frontier.standings])
    panels_of = [(title, [s for s in frontier.standings if s.configuration.cell.backbone == name]) for name, title in backbones.items()]
    columns = min(_COLUMNS, len(panels_of))
    rows = -(-len(panels_of) // columns)
    figure, panels = canvas.new_figure(height=0.7 + 2.9 * rows, rows=rows, columns=columns, sharex=True, sharey=True)
    metric, values = (
        METRIC_NAMES.get(frontier.metric, frontier.metric),
        [bound for s in frontier.standings for bound in axes.bounds_of(s.quality)],
    )
    edge_labels: list[list[axes.Label]] = []
    for axis, (title, standings) in zip(panels, panels_of, strict=False):
        axis.set_title(f"{title}: {metric}")
        scale.apply(axis, f"{COST_NAMES[frontier.cost]}, cheaper to the left")
        axes.quality_limits(axis, values)
        edge_labels.append(_panel(axis, standings, frontier, scale))
    for axis in panels[len(panels_of) :]:
        axis.set_visible(False)
    lines = [Line2D([], [], color=canvas.INK, linewidth=1.0, label="frontier of the panel")]
    if len(panels_of) > 1:
        lines.append(Line2D([], [], color=canvas.MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)), label="frontier of all"))
    axes.legend(figure, _unique(configurations), extra=lines)
    renderer = axes.settle_with_end_labels(figure, panels[: len(panels_of)], edge_labels)
    for axis, (_, standings) in zip(panels, panels_of, strict=False):
        _label(axis, renderer, standings, frontier, names, scale, roles)
    return figure


def _panel(axis: Any, standings: Sequence[Standing], frontier: Frontier, scale: axes.CostScale) -> list[axes.Label]:
    """Draws a panel and returns the labels of the lines at its right edge."""
    own = {standing.configuration.key for standing in own_frontier(standings)}
    alike: dict[tuple[str, bool], list[Standing]] = {}
    for standing in standings:
        alike.setdefault((family(standing.configuration).key, standing.configuration.key in own), []).append(standing)
    for (_, on_line), members in alike.items():
        colour = family(members[0].configuration).colour
        at = [scale.place(member.cost) for member in members]
        lows, highs = zip(*(axes.bounds_of(member.quality) for member in members), strict=True)
        axes.error_bars(axis, at, lows, highs, color=colour, alpha=0.75 if on_line else 0.22, zorder=2)
        marks = [(x, _value(member), member.configuration) for x, member in zip(at, members, strict=True)]
        axes.draw_marks(axis, marks, size=7.0 if on_line else 5.5, alpha=1.0 if on_line else 0.5, zorder=5 if on_line else 4)
    _steps(axis, frontier.winners, scale, color=canvas.MUTED, linewidth=1.0, linestyle=(0, (1, 1.5)), zorder=2.5)
    _steps(axis, own_frontier(standings), scale, color=canvas.INK, linewidth=1.0, zorder=3)
    return axes.reference_lines(axis, _floors(frontier))


def _steps(axis: Any, winners: Sequence[Standing], scale: axes.CostScale, **style: Any) -> None:
    if winners:
        x, y = zip(*_corners(winners, scale), strict=True)
        axis.plot(x, y, drawstyle="steps-post", **style)


def _corners(winners: Sequence[Standing], scale: axes.CostScale) -> list[tuple[float, float]]:
    return [*((scale.place(winner.cost), _value(winner)) for winner in winners), (scale.high, _value(winners[-1]))]


def _floors(frontier: Frontier) -> dict[str, tuple[float, str]]:
    """Lines for baselines without a cost of their own, which any configuration must beat."""
    floors = {}
    for one, _ in frontier.excluded:
        quality = one.quality(frontier.metric)
        if one.is_floor and quality.value is not None:
            floors[backbone_name(one)] = (quality.value, canvas.MUTED)
    return floors


def _label(
    axis: Any,
    renderer: Any,
    standings: Sequence[Standing],
    frontier: Frontier,
    names: Names,
    scale: axes.CostScale,
    roles: Mapping[str, str],
) -> None:
    """Names the points of the panel's frontier, or of too many to read only those on the frontier of all; chosen points always."""
    own = own_frontier(standings)
    obstacles = standings if len(standings) <= _CROWD else own  # a crowd covers the panel, and a label stands on it anyway
    marks = axes.boxes_of(axis, [(scale.place(s.cost), _value(s), *axes.bounds_of(s.quality)) for s in obstacles])
    marks += axes.notes_of(axis, renderer)
    for line in (own, frontier.winners):
        for (x0, y0), (x1, y1) in itertools.pairwise(_corners(line, scale) if line else []):
            (left, level), (right, upper) = axis.transData.transform([(x0, y0), (x1, y1)])
            marks += [(left, level - 0.7, right, level + 0.7), (right - 0.7, level, right + 0.7, upper)]
    chosen_standings = [standing for standing in standings if standing.configuration.key in roles]
    everyones = {winner.configuration.key for winner in frontier.winners}
    own = list({(standing.cost, _value(standing)): standing for standing in reversed(own)}.values())[::-1]  # one for each place
    labels: list[tuple[float, float, str]] = []
    for some in (own, [standing for standing in own if standing.configuration.key in everyones], own[-1:], []):
        points = [*chosen_standings, *(standing for standing in some if standing not in chosen_standings)]
        labels = [(scale.place(s.cost), _value(s), _point_label(s, names, roles)) for s in points]
        if (some or not own) and axes.label_points(axis, renderer, labels, marks=marks):
            return
    axes.label_points(axis, renderer, labels, marks=marks, anyway=True)


def _point_label(standing: Standing, names: Names, roles: Mapping[str, str]) -> str:
    """The name of a point in its backbone's own panel, behind its role where it has one."""
    one = standing.configuration
    brief = names.brief(one).removeprefix(f"{backbone_name(one)} ")
    return f"{roles[one.key]}: {brief}" if one.key in roles else brief


def _in_words(frontier: Frontier, names: Names) -> str:
    metric = METRIC_NAMES.get(frontier.metric, frontier.metric)
    if not frontier.standings:
        return f"{metric}: nothing to draw."
    steps = [
        f"{names(w.configuration)} ({text.quantity(frontier.cost, w.cost)}, {metric} {with_interval(w.quality)})" for w in frontier.winners
    ]
    on = "on the frontier of the medians, of which the table says how sure each is" if is_timed(frontier.cost) else "on the frontier"
    lead = f"{metric}: {len(frontier.standings)} configurations with this cost and quality; {on}, cheapest first"
    return f"{lead}: {'; '.join(steps)}."


def frontier_table(frontiers: Mapping[str, Frontier], names: Names, *, key: str, caption: str) -> Table:
    """What stands on or near a frontier, with its cost, and for each metric whether it is on it and how sure that is."""
    first = next(iter(frontiers.values()))
    near = _unique([s.configuration for f in frontiers.values() for s in f.standings if s.on_frontier or (s.probability or 0.0) >= _NEAR])
    near.sort(key=lambda one: (_cost_order(COSTS[first.cost](one)), one.key))
    everyone = {s.configuration.key for f in frontiers.values() for s in f.standings}
    headings = [tabular.Column(name="configuration"), tabular.Column(name=COST_NAMES[first.cost], numeric=True)]
    for metric in frontiers:
        metric_name = METRIC_NAMES.get(metric, metric)
        headings += [
            tabular.Column(name=metric_name, numeric=True, explanation="95% interval below"),
            tabular.Column(name=f"on the frontier of {metric_name}", numeric=True, explanation=tabular.CHANCE),
            tabular.Column(name="dominated with 95% confidence by"),
        ]
    rows = []
    for one in near:
        entries: list[Entry | str] = [Entry(text=names(one), family=family(one).key), tabular.of_cost(first.cost, COSTS[first.cost](one))]
        for metric, frontier in frontiers.items():
            entries.append(tabular.of_quality(one.quality(metric)))
            entries += _standing_entries(one, frontier, names)
        rows.append(tabular.row(*entries, family=family(one).name, backbone=filter_name(one)))
    known = {s.configuration.key for f in frontiers.values() for s in f.standings if s.probability is not None}
    far, unknown = len((everyone & known) - {one.key for one in near}), len(everyone - known - {one.key for one in near})
    rest = [f"{far} more, below {text.percent(_NEAR, places=0)} on either frontier"] if far else []
    rest += [f"{unknown} more, off the frontier and without a share of draws"] if unknown else []
    more = f"; {listed(rest)}, stand in the ranked table" if rest else ""
    table = Table(key=key, caption=f"{caption}: on the frontier or near it{more}", columns=tuple(headings), rows=tuple(rows))
    return tabular.with_seeds(table, near)


def _standing_entries(one: Configuration, frontier: Frontier, names: Names) -> list[Entry]:
    standing = next((s for s in frontier.standings if s.configuration is one), None)
    if standing is None:
        reason = next((reason for other, reason in frontier.excluded if other is one), "")
        return [Entry(text="takes no part", tone="muted", detail=reason), tabular.NOTHING]
    surely = not is_timed(frontier.cost) or (standing.probability or 0.0) >= CONFIDENCE
    on = tabular.of_chance(standing.probability, on_frontier=standing.on_frontier and surely)
    rival = Entry(text=names(standing.dominated_by)) if standing.dominated_by else tabular.NOTHING
    return [on, rival]


def _cost_order(cost: Estimate) -> float:
    return float("inf") if cost.value is None else cost.value


def _value(standing: Standing) -> float:
    return float(standing.quality.value or 0.0)


def _unique(among: Sequence[Configuration]) -> list[Configuration]:
    return list({one.key: one for one in among}.values())
