"""The picture under the answer: quality against what a request costs, with the chosen configurations named."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import text
from benchmarks.analysis.choices import RunAnswer
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, Form, retention, with_interval
from benchmarks.analysis.frontier import Frontier
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import Names, family
from benchmarks.report.tabular import Entry, Table

_RING = 13.0


def answer_figure(
    answer: RunAnswer, frontier: Frontier, names: Names, *, roles: Mapping[str, str], key: str, where: str, png: bool
) -> Drawing | None:
    """Quality kept, as a share of full attention's where there is one, against FLOPs per request; ``None`` without a point."""
    points = [(s.configuration, s.cost, _quality_kept(s.configuration, answer.full, frontier.metric)) for s in frontier.standings]
    points = [point for point in points if point[2].value is not None]
    if not points:
        return None
    metric = METRIC_NAMES.get(frontier.metric, frontier.metric)
    title = f"{'Quality kept' if answer.full else metric} against the compute of a request, {where}"
    chosen_points = [point for point in points if point[0].key in roles]
    form: Form = "percent" if answer.full else "ratio"
    choices = "; ".join(
        f"{roles[one.key]}, {names(one)}: {text.flops(cost)}, {with_interval(quality, form)}" for one, cost, quality in chosen_points
    )
    description = f"{len(points)} configurations with both a cost and a quality. {choices or 'None is chosen'}."
    with canvas.settings():
        figure = _draw(points, frontier, names, roles, of_full=answer.full is not None, metric=metric)
        image = canvas.export(figure, key=key, title=title, description=description, png=png)
    winners = {standing.configuration.key for standing in frontier.standings if standing.on_frontier}
    table_points = chosen_points or [point for point in points if point[0].key in winners]
    which = "what was chosen" if chosen_points else "nothing was chosen; what no other beats in both"
    caption = f"{title}: {which}, {len(table_points)} of {len(points)}; the ranked table has all"
    table = _table(table_points, names, roles, key=f"{key}-table", caption=caption, of_full=answer.full is not None, metric=metric)
    return Drawing(key=key, title=title, description=description, image=image, table=table)


Point = tuple[Configuration, float, Estimate]


def _quality_kept(one: Configuration, full: Configuration | None, metric: str) -> Estimate:
    return one.quality(metric) if full is None else retention(one.quality(metric), full.quality(metric))


def _draw(points: Sequence[Point], frontier: Frontier, names: Names, roles: Mapping[str, str], *, of_full: bool, metric: str) -> Any:
    scale = axes.CostScale.of(frontier.cost, [cost for _, cost, _ in points])
    figure, [axis] = canvas.new_figure(height=4.6)
    scale.apply(axis, "FLOPs per request, cheaper to the left")
    axes.quality_limits(axis, [bound for *_, quality in points for bound in axes.bounds_of(quality)])
    if of_full:
        axis.yaxis.set_major_formatter(lambda value, _: text.percent(value, places=0))
    axis.set_title(f"{metric} as a share of the best full attention's" if of_full else metric)
    alike: dict[tuple[str, bool], list[Point]] = {}
    for point in points:
        alike.setdefault((family(point[0]).key, point[0].key in roles), []).append(point)
    for (_, chosen), members in alike.items():
        at = [scale.place(cost) for _, cost, _ in members]
        lows, highs = zip(*(axes.bounds_of(quality) for *_, quality in members), strict=True)
        colour = family(members[0][0]).colour
        axes.error_bars(axis, at, lows, highs, color=colour, alpha=0.9 if chosen else 0.16, zorder=2)
        marks = [(x, float(quality.value or 0.0), one) for x, (one, _, quality) in zip(at, members, strict=True)]
        if chosen:
            ring = {"marker": "o", "markersize": _RING, "markerfacecolor": "none", "markeredgecolor": canvas.INK, "markeredgewidth": 1.3}
            axis.plot([x for x, *_ in marks], [y for _, y, _ in marks], linestyle="none", zorder=6, **ring)
        axes.draw_marks(axis, marks, size=7.0 if chosen else 5.0, alpha=1.0 if chosen else 0.45, zorder=5 if chosen else 4)
    axes.legend(figure, [one for one, *_ in points])
    renderer = canvas.settle(figure)
    boxes = axes.boxes_of(axis, [(scale.place(cost), float(quality.value or 0.0), *axes.bounds_of(quality)) for _, cost, quality in points])
    labels = [
        (scale.place(cost), float(quality.value or 0.0), f"{roles[one.key]}: {names.brief(one)}")
        for one, cost, quality in points
        if one.key in roles
    ]
    axes.label_points(axis, renderer, labels, marks=boxes, anyway=True)
    return figure


def _table(points: Sequence[Point], names: Names, roles: Mapping[str, str], *, key: str, caption: str, of_full: bool, metric: str) -> Table:
    numeric = ("FLOPs per request", f"{metric} over the best full attention's" if of_full else metric)
    rows = tuple(
        tabular.row(
            text.sentence(roles.get(one.key, text.MISSING)),
            Entry(text=names(one), family=family(one).key),
            Entry(text=text.flops(cost), order=cost),
            tabular.of_quality(quality, "percent" if of_full else "ratio"),
        )
        for one, cost, quality in points
    )
    headings = tabular.columns("chosen as", "configuration", *numeric, numeric=numeric)
    return tabular.with_seeds(Table(key=key, caption=caption, columns=headings, rows=rows), [one for one, *_ in points])
