"""Quality against tokens and against history length, and cost against history length, drawn beside their references."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, TUNED, Configuration
from benchmarks.analysis.frontier import COSTS
from benchmarks.analysis.trained import not_converged, validation
from benchmarks.cell import Cell
from benchmarks.labels import METRIC_NAMES, in_words
from benchmarks.report import tabular
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.axes import Backbones
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import CEILINGS, COST_NAMES, Names, backbone_name, family, marked
from benchmarks.report.tabular import Entry, Table
from benchmarks.text import sentence

_METRIC = QUALITY_METRICS[0]
_MOST_TOKEN_COUNTS = 3
_OF_A_TOKENS_LINE = ("training", "elastic_history", "segments", "plan")
_OF_AN_AXIS = {"tokens", "history", "staleness", "seed", "elastic_tokens"}
_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Cell) if setting.name not in _OF_AN_AXIS)
_COLUMNS = 2  # of panels: the names at the right edge of each need room
Ceiling = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Configurations that differ in one number alone, in its order."""

    members: tuple[Configuration, ...]
    positions: tuple[int, ...]

    @property
    def head(self) -> Configuration:
        """The member that sets the line's style: the first that is not the control."""
        return next((one for one in self.members if not one.is_control), self.members[0])


def tokens_figure(among: Sequence[Configuration], names: Names, *, ceiling: Ceiling, key: str, where: str) -> Drawing | None:
    """Quality against the number of tokens at one window; ``None`` where nothing keeps tokens."""
    lines = series(
        among,
        by=lambda cell: cell.tokens,
        alike=lambda cell: (cell.compression, *(getattr(cell, name) for name in _OF_A_TOKENS_LINE)),
        include=lambda one: one.cell.tokens > 0 or one.is_control,
    )
    lines = [line for line in lines if any(one.cell.tokens > 0 for one in line.members)]
    if not any(one.quality(metric).value is not None for line in lines for one in line.members for metric in QUALITY_METRICS):
        return None
    references = [one for one in among if one.cell.compression in ("full", "recent") and not one.is_floor]
    title = f"Quality against tokens, {where}"
    several = len({_kind(line) for line in lines}) < len(lines)
    image, description = quality_panels(
        lines,
        references,
        ceiling,
        key=key,
        title=title,
        axis_name="tokens kept of a user's history",
        name_of=named_by_recipe(lines, lambda head: family(head).name) if several else None,
    )
    members = [one for line in lines for one in line.members] + references
    return Drawing(
        key=key, title=title, description=description, image=image, table=quality_table(members, names, key=f"{key}-table", caption=title)
    )


def history_figure(among: Sequence[Configuration], names: Names, *, ceiling: Ceiling, key: str, where: str) -> Drawing | None:
    """Quality against the length of the history; ``None`` where one length alone was measured."""
    trained = [one for one in among if not one.is_floor and any(one.quality(metric).value is not None for metric in QUALITY_METRICS)]
    lines = _by_history(trained, once=any(one.cell.compression == "full" and one.cell.serving == "recompute" for one in trained))
    if len({position for line in lines for position in line.positions}) < 2:
        return None
    title = f"Quality against history length, {where}"
    image, description = quality_panels(
        lines,
        [],
        ceiling,
        key=key,
        title=title,
        axis_name="history items before the recent ones",
        name_of=named_by_recipe(lines, _line_name),
    )
    members = sorted(
        {one.key: one for line in lines for one in line.members}.values(), key=lambda one: (one.cell.backbone, one.cell.history, one.key)
    )
    return Drawing(
        key=key, title=title, description=description, image=image, table=quality_table(members, names, key=f"{key}-table", caption=title)
    )


def cost_history_figure(among: Sequence[Configuration], names: Names, *, key: str, where: str) -> Drawing | None:
    """What a request costs against the length of the history; ``None`` where one length alone was measured."""
    lines = _by_history([one for one in among if not one.is_floor], once=False, by_recipe=False)  # it changes no cost of a request
    costs = [cost for cost in ("serve_flops", "request_latency_p50_ms", "cache_bytes") if _has_trend(lines, cost)]
    if not costs:
        return None
    members = [one for line in lines for one in line.members]
    backbones = Backbones.of(members)
    title = f"Cost against history length, {where}"
    with canvas.settings():
        figure, panels = canvas.new_figure(height=0.55 + 2.5 * len(backbones.order), rows=len(backbones.order), columns=len(costs))
        axes.legend(figure, members)
        places = axes.positions([position for line in lines for position in line.positions])
        labels = []
        for axis, ((backbone, name), cost) in zip(panels, itertools.product(backbones.items(), costs), strict=True):
            axis.set_title(f"{sentence(COST_NAMES[cost])}, {name}")
            _cost_axes(axis, lines, cost, places)
            labels.append(_cost_panel(axis, [line for line in lines if line.head.cell.backbone == backbone], cost, places))
        for axis in panels[-len(costs) :]:
            axis.set_xlabel("history items before the recent ones")
        axes.settle_with_end_labels(figure, panels, labels)
        description = " ".join(_trend_in_words(lines, cost, names) for cost in costs)
        image = canvas.export(figure, key=key, title=title, description=description)
    headings = tabular.columns(
        "configuration", *(sentence(COST_NAMES[cost]) for cost in costs), numeric=[sentence(COST_NAMES[cost]) for cost in costs]
    )
    unique = sorted({one.key: one for one in members}.values(), key=lambda one: (one.cell.backbone, one.cell.history, one.key))
    rows = tuple(
        tabular.row(Entry(text=names(one), family=family(one).key), *(tabular.of_cost(cost, COSTS[cost](one)) for cost in costs))
        for one in unique
    )
    table = Table(key=f"{key}-table", caption=f"{title}; {tabular.NO_SEED}", columns=headings, rows=rows)
    return Drawing(key=key, title=title, description=description, image=image, table=table)


def quality_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table:
    """Quality with intervals, one row a configuration."""
    metric_names = [METRIC_NAMES[metric] for metric in QUALITY_METRICS]
    headings = tabular.columns("configuration", "history", "tokens", *metric_names, numeric=["history", "tokens", *metric_names])
    rows = [
        tabular.row(
            Entry(text=names(one), family=family(one).key),
            Entry(text=str(one.cell.history), order=one.cell.history),
            Entry(text=str(one.cell.tokens), order=one.cell.tokens),
            *(tabular.of_quality(one.quality(metric)) for metric in QUALITY_METRICS),
        )
        for one in among
    ]
    return tabular.with_seeds(Table(key=key, caption=caption, columns=headings, rows=tuple(rows)), among)


def series(
    among: Sequence[Configuration],
    *,
    by: Callable[[Cell], int],
    alike: Callable[[Cell], tuple[object, ...]],
    include: Callable[[Configuration], bool],
    by_recipe: bool = True,
) -> list[Series]:
    """Lines, each of the configurations of one model and data that are also alike in some settings, in the order of one more setting.

    With ``by_recipe`` those of one line were also trained by the same recipe.
    """
    groups: dict[tuple[object, ...], list[Configuration]] = {}
    for one in filter(include, among):
        recipe = recipe_of(one) if by_recipe else ()
        groups.setdefault((one.shared, recipe, alike(one.cell)), []).append(one)
    return [
        Series(members=tuple(members), positions=tuple(by(one.cell) for one in members))
        for members in (sorted(group, key=lambda one: (by(one.cell), one.key)) for group in groups.values())
    ]


def named_by_recipe(lines: Sequence[Series], name_of: Callable[[Configuration], str]) -> Callable[[Configuration], str]:
    """Names of lines; behind a name that several of a backbone have stands where a line differs from most of these."""
    alike: dict[tuple[str, str], list[Configuration]] = {}
    for line in lines:
        alike.setdefault((line.head.cell.backbone, name_of(line.head)), []).append(line.head)
    named: dict[str, str] = {}
    for (_, name), heads in alike.items():
        for head in heads:
            words = in_words(head.cell, [field for field in _SETTINGS if getattr(head.cell, field) != _commonest(field, heads)])
            named[head.key] = ", ".join([name, *words])
    return lambda head: named.get(head.key) or name_of(head)


def _commonest(field: str, heads: Sequence[Configuration]) -> object:
    return Counter(getattr(head.cell, field) for head in heads).most_common(1)[0][0]


def recipe_of(one: Configuration) -> tuple[object, ...]:
    """How it was tuned."""
    return tuple(getattr(one.cell, name) for name in TUNED)


def _by_history(among: Sequence[Configuration], *, once: bool, by_recipe: bool = True) -> list[Series]:
    """A line for each way of keeping the history, for the token counts that were measured at the largest number of lengths.

    Of PerSRec's such counts it takes the least, a middle one and the most, of another family's the most. ``once`` leaves out full history
    from its cache, as it ranks like full history.
    """
    again = {one.key for one in among if one.cell.compression == "full" and one.cell.serving == "cache"} if once else set()
    lines = series(
        among,
        by=lambda cell: cell.history,
        alike=lambda cell: (cell.compression, cell.training, cell.elastic_history, cell.segments, cell.plan, cell.tokens, cell.serving),
        include=lambda one: one.key not in again,
        by_recipe=by_recipe,
    )
    longest = max((len(set(line.positions)) for line in lines), default=0)
    lines = [line for line in lines if longest < 2 or len(set(line.positions)) > 1]
    alike = [[other for other in lines if _kind(other) == _kind(line)] for line in lines]
    longest_lines = [max(len(set(other.positions)) for other in others) for others in alike]
    lines = [line for line, most in zip(lines, longest_lines, strict=True) if len(set(line.positions)) == most]
    selection = []
    for line in lines:
        counts = sorted({other.head.cell.tokens for other in lines if _kind(other) == _kind(line)})
        drawn_counts = counts if len(counts) <= _MOST_TOKEN_COUNTS else [counts[0], counts[len(counts) // 2], counts[-1]]
        if not family(line.head).key.startswith("experts"):
            drawn_counts = counts[-1:]
        if line.head.cell.tokens in drawn_counts:
            selection.append(line)
    return selection


def _kind(line: Series) -> tuple[str, str]:
    """A way of keeping the history, by one backbone: another backbone may be measured at fewer lengths."""
    return family(line.head).key, line.head.cell.backbone


def quality_panels(
    lines: Sequence[Series],
    references: Sequence[Configuration],
    ceiling: Ceiling,
    *,
    key: str,
    title: str,
    axis_name: str,
    name_of: Callable[[Configuration], str] | None = None,
) -> tuple[canvas.Image, str]:
    """A panel for each backbone, with the same axes, of the first quality metric; the table has the other."""
    members = [one for line in lines for one in line.members]
    backbones = Backbones.of([*members, *references])
    columns = min(_COLUMNS, len(backbones.order))
    rows = -(-len(backbones.order) // columns)
    with canvas.settings():
        figure, panels = canvas.new_figure(height=0.55 + 2.9 * rows, rows=rows, columns=columns, sharey=True)
        for axis in panels[len(backbones.order) :]:
            axis.set_visible(False)
        panels = panels[: len(backbones.order)]
        axes.legend(figure, [*members, *(one for one in references if not_converged(one))])
        labels: list[list[axes.Label]] = []
        for axis, (backbone, name) in zip(panels, backbones.items(), strict=True):
            own = [line for line in lines if line.head.cell.backbone == backbone]
            beside = [one for one in references if one.cell.backbone == backbone]
            axis.set_title(f"{METRIC_NAMES[_METRIC]}, {name}")
            axis.set_xlabel(axis_name)
            labels.append(_quality_panel(axis, own, beside, name_of=name_of))
        for number, extra in enumerate(_limits_and_ceilings(panels, [*members, *references], ceiling)):
            labels[number] += extra
        axes.settle_with_end_labels(figure, panels, labels)
        description = _quality_in_words(lines, references, name_of or (lambda one: family(one).name))
        return canvas.export(figure, key=key, title=title, description=description), description


def _quality_panel(
    axis: Any, lines: Sequence[Series], references: Sequence[Configuration], *, name_of: Callable[[Configuration], str] | None
) -> list[axes.Label]:
    """Draws one panel and returns the labels for its right edge."""
    places = axes.positions([position for line in lines for position in line.positions] or [1])
    right = max(places.values()) + 0.25
    left = min(places.values()) - 0.25
    axis.set_xlim(left, right)
    axis.xaxis.set_major_locator(FixedLocator(list(places.values())))
    axis.xaxis.set_major_formatter(FixedFormatter([str(position) for position in places]))
    labels = []
    for line in sorted(lines, key=lambda line: line.head.key):
        points = [(places[position], one, one.quality(_METRIC)) for position, one in zip(line.positions, line.members, strict=True)]
        points = [(x, one, quality) for x, one, quality in points if quality.value is not None]
        colour = family(line.head).colour
        axis.plot([x for x, *_ in points], [quality.value for *_, quality in points], color=colour, alpha=0.8, zorder=3)
        for control in (False, True):
            members = [(x, one, quality) for x, one, quality in points if one.is_control == control]
            if not members:
                continue
            at = [x for x, *_ in members]
            lows, highs = zip(*(axes.bounds_of(quality) for *_, quality in members), strict=True)
            axes.error_bars(axis, at, lows, highs, color=family(members[0][1]).colour, alpha=0.4, zorder=2)
            marks = [(x, float(quality.value or 0.0), one) for x, one, quality in members]
            axes.draw_marks(axis, marks, size=5.5, zorder=4)
        if name_of and points:
            labels.append((float(points[-1][2].value or 0), marked(name_of(line.head), *line.members), colour))
    for one in _once(references):
        quality = one.quality(_METRIC)
        if quality.value is None:
            continue
        colour = family(one).colour
        axis.axhline(quality.value, color=colour, linewidth=1.2, linestyle=(0, (4, 2)), zorder=2)
        if quality.low is not None and one.cell.compression == "full":
            axis.fill_between([left, right], quality.low, quality.high, color=colour, alpha=0.09, linewidth=0, zorder=1)
        labels.append((quality.value, marked("full history" if one.cell.compression == "full" else family(one).name, one), colour))
    return labels


def _limits_and_ceilings(panels: Sequence[Any], configurations: Sequence[Configuration], ceiling: Ceiling) -> list[list[axes.Label]]:
    """Gives the panels the same limits and draws what the exact predictor reaches; returns the labels of these lines, a list a panel."""
    qualities = [one.quality(_METRIC) for one in configurations]
    values = [float(v) for quality in qualities for v in (quality.low, quality.high, quality.value) if v is not None]
    ceiling_values = {
        CEILINGS[name]: value for name, by_metric in ceiling.items() if name in CEILINGS and (value := by_metric.get(_METRIC)) is not None
    }
    axis_values = values + [value for value in ceiling_values.values() if values and axes.within_reach(value, values)]
    labels = []
    for axis in panels:
        axes.quality_limits(axis, axis_values)
        labels.append(axes.reference_lines(axis, {name: (value, canvas.MUTED) for name, value in ceiling_values.items()}))
    return labels


def _cost_axes(axis: Any, lines: Sequence[Series], cost: str, places: Mapping[int, float]) -> None:
    """Gives a panel limits and ticks that hold all lines, so that a reader can compare backbones."""
    estimates = [estimate for line in lines for one in line.members if (estimate := COSTS[cost](one)).value]
    values = [end for estimate in estimates for end in (*axes.bounds_of(estimate), float(estimate.value or 0.0)) if end > 0]
    axis.set_yscale("log")
    ticks = axes.cost_ticks(cost, min(values), max(values))
    axis.set_ylim(min([*ticks, *values]) / 1.15, max([*ticks, *values]) * 1.15)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_major_formatter(FixedFormatter([axes.tick_label(cost, tick) for tick in ticks]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(FixedLocator(list(places.values())))
    axis.xaxis.set_major_formatter(FixedFormatter([str(position) for position in places]))
    axis.set_xlim(min(places.values()) - 0.25, max(places.values()) + 0.25)


def _cost_panel(axis: Any, lines: Sequence[Series], cost: str, places: Mapping[int, float]) -> list[axes.Label]:
    """Draws one backbone's lines and returns the labels for the right edge."""
    labels = []
    for line in sorted(lines, key=lambda line: line.head.key):
        points = [(places[p], value, one) for p, one in zip(line.positions, line.members, strict=True) if (value := COSTS[cost](one).value)]
        if points:
            colour = family(line.head).colour
            axis.plot([x for x, *_ in points], [y for _, y, _ in points], color=colour)
            lows, highs = zip(*(axes.bounds_of(COSTS[cost](one)) for *_, one in points), strict=True)
            axes.error_bars(axis, [x for x, *_ in points], lows, highs, color=colour, alpha=0.4, zorder=2)
            axes.draw_marks(axis, points, size=5)
            labels.append((points[-1][1], _line_name(line.head), colour))
    return labels


def _has_trend(lines: Sequence[Series], cost: str) -> bool:
    """Whether some line has that cost, above 0, at two lengths of history."""
    return any(len({p for p, one in zip(line.positions, line.members, strict=True) if COSTS[cost](one).value}) > 1 for line in lines)


def _line_name(head: Configuration) -> str:
    kind, cell = family(head), head.cell
    if not head.cell.tokens:
        return kind.name
    name = text.amount(cell.tokens, "token") if kind.key.startswith("experts") else f"{kind.name} {cell.tokens}"
    kind_of_plan = "growing " if head.cell.plan == "growing" else ""
    return f"{name}, {cell.segments} {kind_of_plan}segments" if head.cell.segments > 1 else name


def _once(references: Sequence[Configuration]) -> list[Configuration]:
    """One configuration for each compression, the best on validation: how full history is served does not change what it ranks."""
    first: dict[str, Configuration] = {}
    for one in sorted(references, key=lambda one: (-(validation(one) or 0.0), one.cell.serving == "cache", one.key)):
        first.setdefault(one.cell.compression, one)
    return list(first.values())


def _quality_in_words(lines: Sequence[Series], references: Sequence[Configuration], name_of: Callable[[Configuration], str]) -> str:
    metric = QUALITY_METRICS[0]
    phrases = []
    for line in lines:
        members = zip(line.positions, line.members, strict=True)
        points = [(place, q.value, one) for place, one in members if (q := one.quality(metric)).value is not None]
        values = ", ".join(marked(f"{position}: {text.ratio(float(value or 0))}", one) for position, value, one in points)
        phrases.append(f"{backbone_name(line.head)} {name_of(line.head)} {values}")
    alike = ([one for one in references if one.cell.backbone == backbone] for backbone in Backbones.of(references).order)
    for one in itertools.chain.from_iterable(map(_once, alike)):
        quality = one.quality(metric)
        if quality.value is not None:
            phrases.append(marked(f"{backbone_name(one)} {family(one).name} {text.ratio(quality.value)}", one))
    return f"{METRIC_NAMES[metric]}: {'; '.join(phrases)}."


def _trend_in_words(lines: Sequence[Series], cost: str, names: Names) -> str:
    phrases = []
    for line in lines:
        points = [(one, value) for one in line.members if (value := COSTS[cost](one).value)]
        if len(points) > 1:
            (first, low), (last, high) = points[0], points[-1]
            phrases.append(f"{names(first)} {text.quantity(cost, low)} to {names(last)} {text.quantity(cost, high)}")
    return f"{sentence(COST_NAMES[cost])}: {'; '.join(phrases)}."
