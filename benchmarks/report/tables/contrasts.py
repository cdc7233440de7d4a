"""Configurations held against their references: paired differences, and the cost of a request as refreshes get rarer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from benchmarks import text
from benchmarks.analysis.amortise import Price, ages_of, break_even, flops_price, quality_over_ages, time_price
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference, with_interval
from benchmarks.analysis.references import Comparison, compare, find_references
from benchmarks.report import tables
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.axes import METRIC_NAMES, Backbones
from benchmarks.report.figures.frontier import Drawing
from benchmarks.report.names import BACKBONES, Names, family, filter_name, in_order, name_all
from benchmarks.report.tables import Entry, Table

REQUESTS = (1, 10, 100)
AGED_REQUESTS = (1, 4, 16, 32, 64, 128)
_MOST_ROWS = 30


def contrasted(among: Sequence[Configuration]) -> list[Configuration]:
    """Those worth holding against the references: all that learn something, controls and full history among them."""
    return [one for one in among if not one.is_floor and one.quality(QUALITY_METRICS[0]).value is not None]


def comparison_table(comparisons: Sequence[Comparison], names: Names, *, key: str, metric: str) -> Table:
    """One row a configuration: its quality, the differences from its references, retention and the share recovered."""
    shown = METRIC_NAMES.get(metric, metric)
    numeric = (shown, "minus no token", "minus full history", "minus recent only", "retention", "recovered")
    explanations = {
        "minus no token": tables.PAIRED,
        "minus full history": tables.PAIRED,
        "minus recent only": "against a model trained on the recent items alone",
        "retention": "quality as a share of full history's quality",
        "recovered": "(quality - no token) / (full - no token)",
    }
    rows = []
    for found in comparisons:
        one = found.configuration
        rows.append(
            tables.row(
                Entry(text=names(one), family=family(one).key),
                tables.of_quality(found.quality),
                tables.REFERENCE if found.references.no_token is one else tables.of_difference(found.over_no_token),
                tables.REFERENCE if one["compression"] == "full" else tables.of_difference(found.over_full),
                tables.REFERENCE if one["compression"] == "recent" else tables.of_difference(found.over_recent),
                tables.REFERENCE if one["compression"] == "full" else tables.of_quality(found.retention, "percent"),
                Entry(text=text.MISSING, tone="muted")
                if one.is_control or one["compression"] == "full"
                else tables.of_quality(found.recovered, "percent"),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    headings = tables.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption=f"{shown}: paired differences, retention and recovered", columns=headings, rows=tuple(rows), filters=True)


def full_against_no_token(among: Sequence[Configuration], metric: str) -> list[Comparison]:
    """One comparison per control that has a full-history reference: does the long history pay at all?"""
    found = [compare(one, among, metric) for one in among if one.is_control]
    return [comparison for comparison in found if comparison.full_over_no_token.value is not None]


def forest_figure(among: Sequence[Configuration], names: Names, *, key: str, where: str) -> Drawing | None:
    """Differences from the no-token layout with their intervals; ``None`` where no configuration has that reference."""
    comparisons = {metric: [compare(one, among, metric) for one in contrasted(among)] for metric in QUALITY_METRICS}
    kept = [
        index
        for index, found in enumerate(comparisons[QUALITY_METRICS[0]])
        if found.over_no_token.value is not None and not found.configuration.is_control and not _served_twice(found)
    ][:_MOST_ROWS]
    if not kept:
        return None
    drawn = [comparisons[QUALITY_METRICS[0]][index].configuration for index in kept]
    backbones = Backbones.of(drawn)
    title = f"Difference from the no-token layout, {where}"
    with canvas.settings():
        figure, panels = canvas.new_figure(height=0.9 + 0.21 * len(kept), columns=len(QUALITY_METRICS), sharey=True)
        for axis, metric in zip(panels, QUALITY_METRICS, strict=True):
            axis.axvline(0.0, color=canvas.INK, linewidth=0.9)
            for place, index in enumerate(kept):
                found = comparisons[metric][index]
                gain, style = found.over_no_token, axes.marker(found.configuration, backbones, size=5.5)
                if gain.value is None:
                    continue
                if gain.low is not None:
                    axis.hlines(place, gain.low, gain.high, color=family(found.configuration).colour, linewidth=1.3)
                axis.plot([gain.value], [place], linestyle="none", **style)
            axis.set_title(f"{METRIC_NAMES[metric]}, minus no token")
            axis.xaxis.set_major_formatter(lambda value, _: text.decimals(value, signed=True))
        panels[0].set_ylim(len(kept) - 0.4, -0.6)
        panels[0].yaxis.set_major_locator(FixedLocator(range(len(kept))))
        panels[0].yaxis.set_major_formatter(FixedFormatter([names.brief(one) for one in drawn]))
        panels[0].tick_params(axis="y", labelcolor=canvas.INK)
        axes.legend(figure, drawn, backbones)
        description = _forest_in_words([comparisons[QUALITY_METRICS[0]][index] for index in kept], names)
        image = canvas.export(figure, key=key, title=title, description=description)
    return Drawing(
        key=key,
        title=title,
        description=description,
        image=image,
        table=_forest_table(comparisons, kept, names, key=f"{key}-table", caption=title),
    )


def amortised_figure(among: Sequence[Configuration], names: Names, *, key: str, where: str) -> Drawing | None:
    """FLOPs of a request against requests per refresh, one panel a backbone at its longest window; ``None`` without FLOPs."""
    priced = [one for one in among if not one.is_floor and flops_price(one) is not None]
    panels_of = {
        backbone: _representatives([one for one in priced if one["backbone"] == backbone]) for backbone in Backbones.of(priced).order
    }
    panels_of = {
        backbone: shown for backbone, shown in panels_of.items() if any(one["compression"] not in ("full", "recent") for one in shown)
    }
    if not panels_of:
        return None
    title = f"FLOPs of a request when a refresh is shared, {where}"
    requests = np.unique(np.round(np.geomspace(1, 1000, 61)).astype(int))
    with canvas.settings():
        figure, panels = canvas.new_figure(height=3.7, columns=len(panels_of), sharey=True)
        labels = [_amortised_panel(axis, shown, requests) for axis, shown in zip(panels, panels_of.values(), strict=True)]
        for axis, backbone in zip(panels, panels_of, strict=True):
            axis.set_title(BACKBONES.get(backbone, backbone))
            axis.set_xlabel("requests per refresh, r")
        everyone = [one for shown in panels_of.values() for one in shown]
        _flops_axis(panels, [flops_price(one).per_request(int(r)) for one in everyone for r in (1, 1000)])  # type: ignore[union-attr]
        axes.legend(figure, everyone, Backbones(order=()))
        held = [axes.reserve(axis, own) for axis, own in zip(panels, labels, strict=True)]
        renderer = canvas.settle(figure)
        for axis, own, holder in zip(panels, labels, held, strict=True):
            holder.remove()
            axes.end_labels(axis, renderer, own)
        description = _amortised_in_words(everyone, names)
        image = canvas.export(figure, key=key, title=title, description=description)
    return Drawing(
        key=key,
        title=title,
        description=description,
        image=image,
        table=_amortised_table(everyone, names, key=f"{key}-table", caption=title),
    )


def break_even_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """Compress, serve, and their sum per request at some refresh rates; where a compressed history costs no more than full history."""
    rates = [f"r = {r}" for r in REQUESTS]
    numeric = ("compress", "serve", *rates, "cache per user")
    breaks = ("vs full recomputed", "vs full from KV cache", "in time, vs full recomputed", "in time, vs full from KV cache")
    rows = []
    for one in among:
        price = None if one.is_floor or one["compression"] == "recent" else flops_price(one)
        if price is None:
            continue
        references = find_references(one, among)
        rows.append(
            tables.row(
                Entry(text=names(one), family=family(one).key),
                *(
                    Entry(text=text.flops(value), order=value)
                    for value in (price.compress, price.serve, *(price.per_request(r) for r in REQUESTS))
                ),
                tables.of_cost("cache_bytes", one.cost("cache_bytes")),
                _broken_even(one, references.full, flops_price),
                _broken_even(one, references.full_cached, flops_price),
                _broken_even(one, references.full, time_price),
                _broken_even(one, references.full_cached, time_price),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    explanations = dict.fromkeys(breaks, "the requests per refresh at which it costs no more, a request")
    headings = tables.columns("configuration", *numeric, *breaks, numeric=(*numeric, *breaks), explanations=explanations)
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True) if rows else None


def aged_table(everyone: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """Cost of a request beside the quality over the ages that its refresh rate implies; ``None`` where no model was aged."""
    rows = []
    for one in everyone:
        price = flops_price(one)
        ages = [] if one.is_experiment or price is None else ages_of(one, everyone)
        if price is None or len(ages) < 2:
            continue
        full = find_references(one, everyone).full
        whole = None if full is None else full.cost("serve_flops").value
        for requests in AGED_REQUESTS:
            each = price.per_request(requests)
            entries = [Entry(text=names(one), family=family(one).key), Entry(text=f"{requests:,}", order=requests)]
            entries.append(Entry(text=text.flops(each), order=each))
            entries.append(Entry(text=text.percent(each / whole), order=each / whole) if whole else Entry(text=text.MISSING))
            for metric in QUALITY_METRICS:
                found = quality_over_ages(ages, metric, requests)
                entries += [tables.of_quality(found), tables.of_difference(difference(found, one.quality(metric)))]
            rows.append(tables.row(*entries, family=family(one).name, backbone=filter_name(one)))
    per_metric = [name for metric in QUALITY_METRICS for name in (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} minus fresh")]
    numeric = ("requests per refresh", "a request", "of full recomputed", *per_metric)
    over = "mean over the ages 0 to r - 1 items, interpolated between the ages that were measured and not beyond"
    explanations = {METRIC_NAMES[metric]: over for metric in QUALITY_METRICS} | {"a request": "FLOPs, the refresh shared"}
    headings = tables.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True) if rows else None


def _amortised_table(shown: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table:
    rates = (1, 3, 10, 30, 100, 300, 1000)
    numeric = [f"r = {r:,}" for r in rates]
    rows = []
    for one in shown:
        price = flops_price(one)
        if price is not None:
            values = [price.per_request(r) for r in rates]
            rows.append(
                tables.row(
                    Entry(text=names(one), family=family(one).key), *(Entry(text=text.flops(value), order=value) for value in values)
                )
            )
    return Table(key=key, caption=caption, columns=tables.columns("configuration", *numeric, numeric=numeric), rows=tuple(rows))


def _broken_even(one: Configuration, other: Configuration | None, price_of: Any) -> Entry:
    if other is one:
        return Entry(text="itself", tone="muted")
    ours: Price | None = price_of(one)
    theirs: Price | None = None if other is None else price_of(other)
    if ours is None or theirs is None:
        return Entry(text=text.MISSING, tone="muted", detail="no such cell" if other is None else "not measured")
    found = break_even(ours, theirs)
    return Entry(text=str(found), order=float(found.first) if found.first else float("inf"), tone="" if found.first else "muted")


def _representatives(among: Sequence[Configuration]) -> list[Configuration]:
    """Of each family the configuration of the best quality, or with the most tokens, at the longest window that most families have."""
    families: dict[int, set[str]] = {}
    for one in among:
        families.setdefault(one.window, set()).add(family(one).key)
    longest = max(families, key=lambda window: (len(families[window]), window), default=0)
    best: dict[str, Configuration] = {}
    for one in sorted(among, key=lambda one: (one.quality(QUALITY_METRICS[0]).value or 0.0, one["tokens"], one.key)):
        if one.window == longest and not one.is_control:
            best[family(one).key] = one
    return in_order(list(best.values()))


def _amortised_panel(axis: Any, shown: Sequence[Configuration], requests: Any) -> list[axes.Label]:
    labels, names = [], name_all(shown)
    for one in shown:
        price = flops_price(one)
        if price is None:
            continue
        values = [price.per_request(int(r)) for r in requests]
        axis.plot(requests, values, color=family(one).colour, linestyle=(0, (4, 2)) if one["compression"] in ("full", "recent") else "-")
        at = [int(np.argmin(np.abs(requests - r))) for r in (1, 10, 100, 1000)]
        style = axes.marker(one, Backbones(order=()), size=5)
        axis.plot([requests[i] for i in at], [values[i] for i in at], linestyle="none", **style)
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


def _served_twice(found: Comparison) -> bool:
    """Full history from its cache where full history recomputed is there: the same ranks."""
    one = found.configuration
    return one["compression"] == "full" and one["serving"] == "cache" and found.references.full is not None


def _forest_table(comparisons: dict[str, list[Comparison]], kept: Sequence[int], names: Names, *, key: str, caption: str) -> Table:
    numeric = [f"{METRIC_NAMES[metric]} minus no token" for metric in QUALITY_METRICS]
    rows = [
        tables.row(
            Entry(
                text=names(comparisons[QUALITY_METRICS[0]][index].configuration),
                family=family(comparisons[QUALITY_METRICS[0]][index].configuration).key,
            ),
            *(tables.of_difference(comparisons[metric][index].over_no_token) for metric in QUALITY_METRICS),
        )
        for index in kept
    ]
    return Table(key=key, caption=caption, columns=tables.columns("configuration", *numeric, numeric=numeric), rows=tuple(rows))


def _forest_in_words(found: Sequence[Comparison], names: Names) -> str:
    said = [f"{names(comparison.configuration)} {with_interval(comparison.over_no_token, 'signed')}" for comparison in found]
    return f"{METRIC_NAMES[QUALITY_METRICS[0]]} minus the no-token layout's: {'; '.join(said)}."


def _amortised_in_words(everyone: Sequence[Configuration], names: Names) -> str:
    said = []
    for one in everyone:
        price = flops_price(one)
        if price is not None:
            said.append(f"{names(one)}: {text.flops(price.per_request(1))} at r = 1, {text.flops(price.per_request(100))} at r = 100")
    return f"FLOPs per request, (compress + r x serve) / r. {'; '.join(said)}."
