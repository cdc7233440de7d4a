"""Axes that say costs as people read them, marks per family, labels that do not overlap, and lines of reference."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate
from benchmarks.analysis.trained import not_converged
from benchmarks.report.figures.canvas import INK, MUTED, PAPER, settle
from benchmarks.report.figures.placement import READABLE, Box, place, spread
from benchmarks.report.names import FILLS, NOT_CONVERGED, Family, backbone_name, family

Label = tuple[float, str, str]  # a value, its name, its colour
_STOPPED_RIM = 4.0  # how much larger than a mark the dark shape below it is, where its model had not converged
_MOST_TICKS = 7
_FEW_STAND_FARTHER = 2.5  # a few labels may stand away from their points before numbers read better
_FEW = 3
_TICK_GAP = 0.14  # the share of the axis that the label of a tick needs


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbones:
    """The fill of each backbone's marks, in the order of their names."""

    order: tuple[str, ...]
    titles: tuple[str, ...] = ()

    @classmethod
    def of(cls, among: Sequence[Configuration]) -> "Backbones":
        """The backbones that are no floors."""
        titles = {one.cell.backbone: backbone_name(one) for one in among if not one.is_floor}
        order = tuple(sorted(titles))
        return cls(order=order, titles=tuple(titles[name] for name in order))

    def fill(self, one: Configuration) -> str:
        """How its markers are filled."""
        return FILLS[self._index(one) % len(FILLS)]

    def items(self) -> Iterator[tuple[str, str]]:
        """Name and title of each."""
        return zip(self.order, self.titles, strict=True)

    def _index(self, one: Configuration) -> int:
        return self.order.index(one.cell.backbone) if one.cell.backbone in self.order else 0


ALIKE = Backbones(order=())  # marks of all backbones are filled alike: each has a panel of its own


def marker(one: Configuration, *, size: float = 6.5, backbones: Backbones = ALIKE) -> dict[str, Any]:
    """The style of a configuration's mark, for ``Line2D``."""
    kind = family(one)
    return {
        "marker": kind.marker,
        "markersize": size,
        "color": kind.colour,
        "markeredgecolor": kind.colour,
        "markeredgewidth": 1.2,
        "fillstyle": backbones.fill(one),
        "markerfacecolor": PAPER if backbones.fill(one) == "none" else kind.colour,
        "markerfacecoloralt": PAPER,
    } | ({"fillstyle": "full"} if backbones.fill(one) == "none" else {})


def legend(figure: Any, among: Sequence[Configuration], *, backbones: Backbones = ALIKE, extra: Sequence[Any] = ()) -> None:
    """One legend above the panels: families by colour and shape, backbones by fill."""
    kinds: dict[str, Family] = {family(one).name: family(one) for one in sorted(among, key=lambda one: family(one).place)}
    handles: list[Any] = [
        Line2D([], [], linestyle="none", marker=kind.marker, color=kind.colour, markersize=6, label=kind.name) for kind in kinds.values()
    ]
    if len(backbones.order) > 1:
        for name in backbones.order:
            one = next(other for other in among if other.cell.backbone == name)
            style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 6, "color": MUTED}
            face = PAPER if backbones.fill(one) == "none" else MUTED
            fill = "full" if backbones.fill(one) == "none" else backbones.fill(one)
            handles.append(
                Line2D([], [], markerfacecolor=face, markerfacecoloralt=PAPER, fillstyle=fill, label=backbone_name(one), **style)
            )
    if any(not_converged(one) for one in among):
        stopped_style: dict[str, Any] = {"markerfacecolor": PAPER, "markeredgecolor": INK, "markeredgewidth": _STOPPED_RIM / 2}
        label = f"{NOT_CONVERGED} not converged (dark edge)"
        handles.append(Line2D([], [], linestyle="none", marker="o", markersize=6, color=INK, label=label, **stopped_style))
    handles += extra
    if handles:
        figure.legend(
            handles=handles, loc="outside upper left", ncols=min(len(handles), 7), handletextpad=0.5, columnspacing=1.6, borderpad=0.1
        )


def draw_marks(
    axis: Any, points: Sequence[tuple[float, float, Configuration]], *, size: float, backbones: Backbones = ALIKE, **more: Any
) -> None:
    """One or more marks at ``(x, y, configuration)``, of one family and backbone; a dark rim marks models that had not converged."""
    style = marker(points[0][2], size=size, backbones=backbones)
    stopped_points = [(x, y) for x, y, one in points if not_converged(one)]
    if stopped_points:
        rim = {"marker": style["marker"], "markersize": size + _STOPPED_RIM, "color": INK, "markeredgewidth": 1.2}
        axis.plot(*zip(*stopped_points, strict=True), linestyle="none", **(rim | more))
    axis.plot([x for x, *_ in points], [y for _, y, _ in points], linestyle="none", **(style | more))


@dataclass(frozen=True, kw_only=True, slots=True)
class CostScale:
    """A logarithmic axis of costs. It cannot hold zeros, so they have a place of their own to its left."""

    metric: str
    low: float
    high: float
    zero: float | None

    @classmethod
    def of(cls, metric: str, costs: Sequence[float]) -> "CostScale":
        """The scale that holds all ``costs``."""
        positive = [cost for cost in costs if cost > 0]
        low, high = (min(positive), max(positive)) if positive else (1.0, 10.0)
        room = max((high / low) ** 0.08, 1.15)
        zero = low / room**2.5 if len(positive) < len(costs) else None
        return cls(metric=metric, low=low / room, high=high * room, zero=zero)

    def place(self, cost: float) -> float:
        """Where a cost stands on the axis."""
        return cost if cost > 0 or self.zero is None else self.zero

    def apply(self, axis: Any, name: str) -> None:
        """Gives the horizontal axis its limits, ticks and name."""
        axis.set_xscale("log")
        left = self.low if self.zero is None else self.zero / (self.low / self.zero) ** 0.6
        axis.set_xlim(left, self.high)
        ticks = cost_ticks(self.metric, self.low, self.high)
        labels = [tick_label(self.metric, tick) for tick in ticks]
        if self.zero is not None:
            axis.axvline(math.sqrt(self.zero * self.low), color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)))
            ticks, labels = [self.zero, *ticks], ["0", *labels]
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_major_formatter(FixedFormatter(labels))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(name)


def tick_label(metric: str, value: float) -> str:
    """A tick's cost without zeros that say nothing: ``10 MFLOP``."""
    number, _, unit = text.quantity(metric, value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def cost_ticks(metric: str, low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of two for bytes, else 1, 2, 5 and what there is room for."""
    if metric.endswith("_bytes"):
        for step in (1, 2, 3, 4, 5, 10):
            powers = range(math.ceil(math.log2(low) / step), math.floor(math.log2(high) / step) + 1)
            if 2 < len(powers) <= _MOST_TICKS:
                return [2.0 ** (power * step) for power in powers]
        unit = 1024.0 ** max(0, math.floor(math.log(high, 1024)))
        return [tick * unit for tick in _decimal_ticks(low / unit, high / unit)]
    return _decimal_ticks(low, high)


def _decimal_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [lead * 10.0**decade for decade in decades for lead in leading if low <= lead * 10.0**decade <= high]
        nearest = min((math.log(after / before) for before, after in itertools.pairwise(ticks)), default=1.0)
        if len(ticks) <= _MOST_TICKS and nearest >= _TICK_GAP * math.log(high / low):
            break
    else:
        ticks = [10.0**decade for decade in decades if low <= 10.0**decade <= high][:: -(-len(decades) // _MOST_TICKS)]
    return ticks if len(ticks) > 1 else _even_ticks(low, high)


def _even_ticks(low: float, high: float) -> list[float]:
    """Round ticks of a range too narrow for 1, 2, 5."""
    return [float(tick) for tick in MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= tick <= high]


def quality_limits(axis: Any, values: Sequence[float]) -> None:
    """Vertical limits around the values, never below 0, with room for labels."""
    if not values:
        axis.set_ylim(0, 1)
        return
    low, high = min(values), max(values)
    room = max((high - low) * 0.14, abs(high) * 0.02, 1e-4)
    axis.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)


def within_reach(value: float, values: Sequence[float], *, share: float = 0.9) -> bool:
    """Whether a line at ``value`` may stretch the axis: it may by ``share`` of the values' own spread."""
    low, high = min(values), max(values)
    room = share * max(high - low, 0.05 * abs(high))
    return low - room <= value <= high + room


def reference_lines(axis: Any, lines: Mapping[str, tuple[float, str]]) -> list[Label]:
    """Horizontal lines; a line off the axis becomes a note with an arrow in the corner where points are fewest, up left or down right.

    Args:
        axis: its vertical limits stand.
        lines: name to value and colour.

    Returns:
        The labels of the lines on the axis, for `settle_with_end_labels`.
    """
    bottom, top = axis.get_ylim()
    labels = []
    for name, (value, colour) in lines.items():
        if bottom <= value <= top:
            axis.axhline(value, color=colour, linewidth=0.9, linestyle=(0, (5, 2, 1, 2)), zorder=1.5)
            labels.append((value, name, colour))
    above = [(name, value) for name, (value, _) in lines.items() if value > top]
    below = [(name, value) for name, (value, _) in lines.items() if value < bottom]
    corners = (((0.0, 1.0), above, "\N{UPWARDS ARROW}", -1), ((1.0, 0.0), below, "\N{DOWNWARDS ARROW}", 1))
    for corner, notes, arrow, direction in corners:
        for number, (name, value) in enumerate(notes):
            note = axis.annotate(
                f"{arrow} {name} {text.ratio(value)}",
                corner,
                xycoords="axes fraction",
                xytext=(-5 * direction, direction * (6 + 11 * number)),
                textcoords="offset points",
                ha="left" if direction < 0 else "right",
                va="top" if direction < 0 else "bottom",
                color=MUTED,
                fontsize=7.5,
            )
            note.set_gid("class-halo")
    return labels


def notes_of(axis: Any, renderer: Any) -> list[Box]:
    """The boxes of the notes that a settled axis already has, in display coordinates."""
    extents = [text.get_window_extent(renderer) for text in axis.texts if text.get_text()]
    return [(box.x0, box.y0, box.x1, box.y1) for box in extents]


def bounds_of(estimate: Estimate) -> tuple[float, float]:
    """The ends of an estimate's interval; of one without an interval its value, twice."""
    value = float(estimate.value or 0.0)
    return (value if estimate.low is None else estimate.low, value if estimate.high is None else estimate.high)


def error_bars(axis: Any, at: Sequence[float], lows: Sequence[float], highs: Sequence[float], **style: Any) -> None:
    """Intervals as one broken line: a path for each would be most of a figure."""
    y = np.column_stack([lows, highs, np.full(len(lows), np.nan)])
    axis.plot(np.repeat(np.asarray(at, dtype=np.float64), 3), y.ravel(), **({"linewidth": 1.0, "solid_capstyle": "butt"} | style))


def label_points(
    axis: Any, renderer: Any, labels: Sequence[tuple[float, float, str]], *, marks: Sequence[Box], anyway: bool = False
) -> bool:
    """Writes labels beside data points, or none where not all could be read. A thin leader joins a label that is far from its point.

    Args:
        axis: a settled axis.
        renderer: what measures the texts.
        labels: data coordinates and text.
        marks: boxes in display coordinates that labels should not cover.
        anyway: whether to write them even so.

    Returns:
        Whether it wrote them.
    """
    points = [tuple(axis.transData.transform((x, y))) for x, y, _ in labels]
    sizes = [_text_size(renderer, text) for *_, text in labels]
    window = axis.get_window_extent(renderer)
    placement = place(points, sizes, marks=marks, bounds=(window.x0 + 1, window.y0 + 1, window.x1 + 6, window.y1 + 4))
    if not anyway and placement.worst > READABLE * (_FEW_STAND_FARTHER if len(labels) <= _FEW else 1.0):
        return False
    for point, box, (x, y, label) in zip(points, placement.boxes, labels, strict=True):
        offset = ((box[0] + box[2]) / 2 - point[0], (box[1] + box[3]) / 2 - point[1])
        nearest = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
        if math.dist(point, nearest) > 11:
            _leader(axis, (x, y), "data", (nearest[0] - point[0], nearest[1] - point[1]), MUTED)
        annotation = axis.annotate(
            label, (x, y), xytext=offset, textcoords="offset points", ha="center", va="center", fontsize=7.5, color=INK, zorder=6
        )
        annotation.set_gid("class-halo")
    return True


def _leader(axis: Any, at: tuple[float, float], coordinates: Any, offset: tuple[float, float], colour: str) -> None:
    """A thin line from a place to where its label stands, ``offset`` points away."""
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", at, xycoords=coordinates, xytext=offset, textcoords="offset points", arrowprops=line, zorder=3.5)


def settle_with_end_labels(figure: Any, panels: Sequence[Any], labels: Sequence[Sequence[Label]]) -> Any:
    """Lays a figure out with room for each panel's end labels and writes them; returns the renderer."""
    holders = [_reserve(axis, own) for axis, own in zip(panels, labels, strict=True)]
    renderer = settle(figure)
    for axis, own, holder in zip(panels, labels, holders, strict=True):
        holder.remove()
        _end_labels(axis, renderer, own)
    return renderer


def _reserve(axis: Any, labels: Sequence[Label]) -> Any:
    """Keeps room at the right of an axis for its end labels while the figure is laid out; returns the placeholder, to remove afterwards."""
    longest = max((text for _, text, _ in labels), key=len, default="")
    return axis.annotate(longest, (1.0, 0.5), xycoords="axes fraction", xytext=(13, 0), textcoords="offset points", fontsize=7.5)


def _end_labels(axis: Any, renderer: Any, labels: Sequence[Label]) -> None:
    """Names lines at the right edge of a settled axis, moved apart where they would touch."""
    window = axis.get_window_extent(renderer)
    targets = [float(axis.transData.transform((axis.get_xlim()[1], value))[1]) for value, *_ in labels]
    heights = spread(targets, gap=10.5, low=window.y0 + 2, high=window.y1 - 2)
    for place_y, target, (value, name, colour) in zip(heights, targets, labels, strict=True):
        edge = ((1.0, value), ("axes fraction", "data"))
        _leader(axis, *edge, (10, place_y - target), colour)
        annotation = axis.annotate(
            name,
            edge[0],
            xycoords=edge[1],
            xytext=(12, place_y - target),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=colour,
        )
        annotation.set_gid("class-halo")


def _text_size(renderer: Any, text: str) -> tuple[float, float]:
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - only needed where there is something to label

    width, height, _ = renderer.get_text_width_height_descent(text, FontProperties(family="DejaVu Sans", size=7.5), False)
    return float(width) + 2.0, float(height) + 1.5


def boxes_of(axis: Any, points: Sequence[tuple[float, float, float, float]], *, radius: float = 4.5) -> list[Box]:
    """The boxes that marks and their error bars cover, in display coordinates; points are x, y, low, high."""
    boxes: list[Box] = []
    for x, y, low, high in points:
        (at_x, at_y), (_, at_low), (_, at_high) = (axis.transData.transform((x, value)) for value in (y, low, high))
        boxes.append((float(at_x) - radius, float(at_y) - radius, float(at_x) + radius, float(at_y) + radius))
        boxes.append((float(at_x) - 1.0, float(at_low), float(at_x) + 1.0, float(at_high)))
    return boxes


def positions(values: Sequence[int]) -> dict[int, float]:
    """Places of token counts or history lengths on an even axis: by the logarithm, 0 a step before the least."""
    ordered = sorted(set(values))
    positive = [value for value in ordered if value > 0]
    places = {value: float(np.log2(value)) for value in positive}
    if 0 in ordered:
        places[0] = (min(places.values()) if places else 1.0) - 1.0
    return places
