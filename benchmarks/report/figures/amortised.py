"""FLOPs of a request against requests per refresh."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from benchmarks import text
from benchmarks.analysis.amortise import flops_price
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.trained import validation
from benchmarks.report import tabular
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.axes import Backbones
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import Names, backbone_name, family, in_order, name_all
from benchmarks.report.tabular import Entry, Table


def amortised_figure(among: Sequence[Configuration], names: Names, *, key: str, where: str) -> Drawing | None:
    """FLOPs of a request against requests per refresh, one panel a backbone at its longest window; ``None`` without FLOPs."""
    candidates = [one for one in among if not one.is_floor and flops_price(one) is not None]
    panels_of = {
        backbone: _representatives([one for one in candidates if one.cell.backbone == backbone])
        for backbone in Backbones.of(candidates).order
    }
    panels_of = {
        backbone: members
        for backbone, members in panels_of.items()
        if any(one.cell.compression not in ("full", "recent") for one in members)
    }
    if not panels_of:
        return None
    title = f"FLOPs of a request when a refresh is shared, {where}"
    requests = np.unique(np.round(np.geomspace(1, 1000, 61)).astype(int))
    with canvas.settings():
        figure, panels = canvas.new_figure(height=3.7, columns=len(panels_of), sharey=True)
        labels = [_amortised_panel(axis, members, requests) for axis, members in zip(panels, panels_of.values(), strict=True)]
        for axis, members in zip(panels, panels_of.values(), strict=True):
            axis.set_title(backbone_name(members[0]))
            axis.set_xlabel("requests per refresh, r")
        everyone = [one for members in panels_of.values() for one in members]
        _flops_axis(panels, [flops_price(one).per_request(int(r)) for one in everyone for r in (1, 1000)])  # type: ignore[union-attr]
        axes.legend(figure, everyone)
        axes.settle_with_end_labels(figure, panels, labels)
        description = _amortised_in_words(everyone, names)
        image = canvas.export(figure, key=key, title=title, description=description)
    return Drawing(
        key=key,
        title=title,
        description=description,
        image=image,
        table=_amortised_table(everyone, names, key=f"{key}-table", caption=title),
    )


def _amortised_table(members: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table:
    rates = (1, 3, 10, 30, 100, 300, 1000)
    numeric = [f"r = {r:,}" for r in rates]
    rows = []
    for one in members:
        price = flops_price(one)
        if price is not None:
            values = [price.per_request(r) for r in rates]
            rows.append(
                tabular.row(
                    Entry(text=names(one), family=family(one).key), *(Entry(text=text.flops(value), order=value) for value in values)
                )
            )
    caption += f"; {tabular.NO_SEED}"
    return Table(key=key, caption=caption, columns=tabular.columns("configuration", *numeric, numeric=numeric), rows=tuple(rows))


def _representatives(among: Sequence[Configuration]) -> list[Configuration]:
    """The best configuration of each family on validation, or that with the most tokens, at the longest window that most families have."""
    families: dict[int, set[str]] = {}
    for one in among:
        families.setdefault(one.window, set()).add(family(one).key)
    longest = max(families, key=lambda window: (len(families[window]), window), default=0)
    best: dict[str, Configuration] = {}
    for one in sorted(among, key=lambda one: (validation(one) or 0.0, one.cell.tokens, one.key)):
        if one.window == longest and not one.is_control:
            best[family(one).key] = one
    return in_order(list(best.values()))


def _amortised_panel(axis: Any, members: Sequence[Configuration], requests: Any) -> list[axes.Label]:
    labels, names = [], name_all(members)
    for one in members:
        price = flops_price(one)
        if price is None:
            continue
        values = [price.per_request(int(r)) for r in requests]
        axis.plot(requests, values, color=family(one).colour, linestyle=(0, (4, 2)) if one.cell.compression in ("full", "recent") else "-")
        at = [int(np.argmin(np.abs(requests - r))) for r in (1, 10, 100, 1000)]
        axes.draw_marks(axis, [(requests[i], values[i], one) for i in at], size=5)
        labels.append((values[-1], names.brief(one), family(one).colour))
    axis.set_xscale("log")
    axis.set_xlim(0.9, 1000 * 1.1)
    axis.xaxis.set_major_locator(FixedLocator([1, 10, 100, 1000]))
    axis.xaxis.set_major_formatter(FixedFormatter(["1", "10", "100", "1,000"]))
    axis.xaxis.set_minor_locator(NullLocator())
    return labels


def _flops_axis(panels: Sequence[Any], values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 1.2, max(positive) * 1.2
    ticks = axes.cost_ticks("serve_flops", low, high)
    for axis in panels:
        axis.set_yscale("log")
        axis.set_ylim(low, high)
        axis.yaxis.set_major_locator(FixedLocator(ticks))
        axis.yaxis.set_major_formatter(FixedFormatter([axes.tick_label("serve_flops", tick) for tick in ticks]))
        axis.yaxis.set_minor_locator(NullLocator())


def _amortised_in_words(everyone: Sequence[Configuration], names: Names) -> str:
    phrases = []
    for one in everyone:
        price = flops_price(one)
        if price is not None:
            phrases.append(f"{names(one)}: {text.flops(price.per_request(1))} at r = 1, {text.flops(price.per_request(100))} at r = 100")
    return f"FLOPs per request, (compress + r x serve) / r. {'; '.join(phrases)}."
