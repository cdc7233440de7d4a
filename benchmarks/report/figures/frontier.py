"""The frontier, drawn: one cost against quality, with error bars, and the table of the same numbers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.lines import Line2D

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, with_interval
from benchmarks.analysis.frontier import COSTS, Frontier, Standing
from benchmarks.report import tabular
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.axes import Backbones
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import COST_NAMES, METRIC_NAMES, Names, backbone_name, family, filter_name
from benchmarks.report.tabular import Entry, Table


def frontier_figure(frontiers: Mapping[str, Frontier], names: Names, *, key: str, where: str) -> Drawing:
    """One cost against each quality metric, a panel each.

    Args:
        frontiers: by metric, all of the same cost.
        names: how configurations are called.
        key: prefix of the ids in the page.
        where: the dataset and device, for the title.
    """
    title = f"{text.sentence(COST_NAMES[next(iter(frontiers.values())).cost])} against quality, {where}"
    description = " ".join(_in_words(frontier, names) for frontier in frontiers.values())
    with canvas.settings():
        figure, readable = _draw_frontiers(frontiers, names, numbered=False)
        if not readable:
            figure, _ = _draw_frontiers(frontiers, names, numbered=True)
        image = canvas.export(figure, key=key, title=title, description=description, png=True)
    return Drawing(
        key=key,
        title=title,
        description=description,
        image=image,
        table=frontier_table(frontiers, names, key=f"{key}-table", caption=title),
    )


def _draw_frontiers(frontiers: Mapping[str, Frontier], names: Names, *, numbered: bool) -> tuple[Any, bool]:
    """The figure, and whether all its labels can be read; ``numbered`` points have their names in a list beside."""
    drawn = [standing.configuration for f in frontiers.values() for standing in f.standings]
    backbones = Backbones.of(drawn)
    cost = next(iter(frontiers.values())).cost
    scale = axes.CostScale.of(cost, [standing.cost for f in frontiers.values() for standing in f.standings])
    figure, panels = canvas.new_figure(height=0.6 + 3.15 * len(frontiers), rows=len(frontiers))
    floors: list[list[axes.Label]] = []
    for axis, (metric, frontier) in zip(panels, frontiers.items(), strict=True):
        floors.append(_frontier_panel(axis, frontier, backbones, scale))
        axis.set_title(METRIC_NAMES.get(metric, metric))
        scale.apply(axis, f"{COST_NAMES[cost]}, cheaper to the left")
        if numbered:
            axes.key_beside(axis, [names.brief(winner.configuration) for winner in frontier.winners])
    axes.legend(figure, _unique(drawn), backbones, extra=[Line2D([], [], color=canvas.INK, linewidth=1.0, label="frontier")])
    renderer = axes.settle_with_end_labels(figure, panels, floors)
    readable = [
        _label_frontier(axis, renderer, frontier, names, scale, numbered=numbered)
        for axis, frontier in zip(panels, frontiers.values(), strict=True)
    ]
    return figure, all(readable)


def _frontier_panel(axis: Any, frontier: Frontier, backbones: Backbones, scale: axes.CostScale) -> list[axes.Label]:
    values = [bound for standing in frontier.standings for bound in _bounds(standing.quality)]
    alike: dict[tuple[str, str, bool], list[Standing]] = {}
    for standing in frontier.standings:
        one = standing.configuration
        alike.setdefault((family(one).key, backbones.fill(one), standing.on_frontier), []).append(standing)
    for (_, _, on_frontier), members in alike.items():
        one = members[0].configuration
        at = [scale.place(member.cost) for member in members]
        lows, highs = zip(*(_bounds(member.quality) for member in members), strict=True)
        axis.vlines(at, lows, highs, color=family(one).colour, linewidth=1.0, alpha=0.75 if on_frontier else 0.22, zorder=2)
        marks = [(x, _value(member), member.configuration) for x, member in zip(at, members, strict=True)]
        size, faded = (7.0, 1.0) if on_frontier else (5.5, 0.5)
        axes.draw_marks(axis, marks, backbones, size=size, alpha=faded, zorder=5 if on_frontier else 4)
    axes.quality_limits(axis, values)
    winners = frontier.winners
    if winners:
        steps_x = [scale.place(winner.cost) for winner in winners] + [scale.high]
        steps_y = [winner.quality.value for winner in winners] + [winners[-1].quality.value]
        axis.plot(steps_x, steps_y, drawstyle="steps-post", color=canvas.INK, linewidth=1.0, zorder=3)
    return axes.reference_lines(axis, _floors(frontier))


def _floors(frontier: Frontier) -> dict[str, tuple[float, str]]:
    """Baselines without a cost of their own are lines: what any configuration must beat."""
    floors = {}
    for one, _ in frontier.excluded:
        quality = one.quality(frontier.metric)
        if one.is_floor and quality.value is not None:
            floors[backbone_name(one)] = (quality.value, canvas.MUTED)
    return floors


def _label_frontier(axis: Any, renderer: Any, frontier: Frontier, names: Names, scale: axes.CostScale, *, numbered: bool) -> bool:
    marks = axes.boxes_of(axis, [(scale.place(s.cost), _value(s), *_bounds(s.quality)) for s in frontier.standings])
    marks += axes.notes_of(axis, renderer)
    winners = frontier.winners
    corners = [(scale.place(w.cost), _value(w)) for w in winners] + ([(scale.high, _value(winners[-1]))] if winners else [])
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        (left, level), (right, upper) = axis.transData.transform([(x0, y0), (x1, y1)])
        marks += [(left, level - 0.7, right, level + 0.7), (right - 0.7, level, right + 0.7, upper)]
    texts = [str(number + 1) if numbered else names.brief(winner.configuration) for number, winner in enumerate(winners)]
    labels = [(scale.place(w.cost), _value(w), text) for w, text in zip(winners, texts, strict=True)]
    return axes.label_points(axis, renderer, labels, marks=marks)


def _in_words(frontier: Frontier, names: Names) -> str:
    metric = METRIC_NAMES.get(frontier.metric, frontier.metric)
    if not frontier.standings:
        return f"{metric}: nothing to draw."
    steps = [
        f"{names(w.configuration)} ({text.quantity(frontier.cost, w.cost)}, {metric} {with_interval(w.quality)})" for w in frontier.winners
    ]
    return f"{metric}: {len(frontier.standings)} configurations; on the frontier, cheapest first: {'; '.join(steps)}."


def frontier_table(frontiers: Mapping[str, Frontier], names: Names, *, key: str, caption: str) -> Table:
    """Every configuration with its cost, and for each metric whether it is on the frontier and how sure that is."""
    first = next(iter(frontiers.values()))
    everyone = _unique(
        [s.configuration for f in frontiers.values() for s in f.standings] + [one for f in frontiers.values() for one, _ in f.excluded]
    )
    everyone.sort(key=lambda one: (_cost_order(COSTS[first.cost](one)), one.key))
    headings = [tabular.Column(name="configuration"), tabular.Column(name=COST_NAMES[first.cost], numeric=True)]
    for metric in frontiers:
        shown = METRIC_NAMES.get(metric, metric)
        headings += [
            tabular.Column(name=shown, numeric=True, explanation="95% interval below"),
            tabular.Column(
                name=f"on the frontier of {shown}",
                numeric=True,
                explanation=tabular.CHANCE,
            ),
            tabular.Column(name="dominated with 95% confidence by"),
        ]
    rows = []
    for one in everyone:
        entries: list[Entry | str] = [Entry(text=names(one), family=family(one).key), tabular.of_cost(first.cost, COSTS[first.cost](one))]
        for metric, frontier in frontiers.items():
            entries.append(tabular.of_quality(one.quality(metric)))
            entries += _standing_entries(one, frontier, names)
        rows.append(tabular.row(*entries, family=family(one).name, backbone=filter_name(one)))
    return Table(key=key, caption=caption, columns=tuple(headings), rows=tuple(rows))


def _standing_entries(one: Configuration, frontier: Frontier, names: Names) -> list[Entry]:
    standing = next((s for s in frontier.standings if s.configuration is one), None)
    if standing is None:
        reason = next((reason for other, reason in frontier.excluded if other is one), "")
        return [Entry(text="takes no part", tone="muted", detail=reason), tabular.NOTHING]
    on = tabular.of_chance(standing.probability, on_frontier=standing.on_frontier)
    rival = Entry(text=names(standing.dominated_by)) if standing.dominated_by else tabular.NOTHING
    return [on, rival]


def _cost_order(cost: Estimate) -> float:
    return float("inf") if cost.value is None else cost.value


def _bounds(quality: Estimate) -> tuple[float, float]:
    value = float(quality.value or 0.0)
    return (value if quality.low is None else quality.low, value if quality.high is None else quality.high)


def _value(standing: Standing) -> float:
    return float(standing.quality.value or 0.0)


def _unique(among: Sequence[Configuration]) -> list[Configuration]:
    return list({one.key: one for one in among}.values())
