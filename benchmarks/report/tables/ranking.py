"""Tables over all configurations: ranked, and the areas under their frontiers."""

import functools
from collections.abc import Sequence
from dataclasses import replace

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, Form, interval_of
from benchmarks.analysis.frontier import Frontiers, hypervolume_of
from benchmarks.analysis.references import compare, figure_on_validation
from benchmarks.labels import METRIC_NAMES
from benchmarks.records import Status
from benchmarks.report import tabular
from benchmarks.report.names import COST_NAMES, Names, family, filter_name
from benchmarks.report.tabular import Entry, Table
from benchmarks.text import sentence

_STATIC = 100  # rows of the ranking that a page holds without scripts
_REQUEST_TIME = "request_latency_p50_ms"
_COSTS = ("serve_flops", _REQUEST_TIME, "serve_latency_p50_ms", "cache_bytes", "compress_flops")
_HEADINGS = {
    "serve_flops": "request",
    "request_latency_p50_ms": "latency p50",
    "serve_latency_p50_ms": "backbone p50",
    "cache_bytes": "stored per user",
    "compress_flops": "refresh",
}
_METRIC = QUALITY_METRICS[0]
_EXPLANATIONS = {
    tabular.RETENTION: tabular.RETENTION_IS,
    "request": "FLOPs of one request without scoring the catalogue",
    "latency p50": "median time of a whole request: fetch, serve, score the catalogue, take the best 100",
    "backbone p50": "median time of the backbone's part of a request",
    "refresh": "FLOPs of compressing the history once",
    "on the frontier": f"for FLOPs of a request against NDCG@10: {tabular.CHANCE}",
    "seeds": "how many were measured, and how they ended",
}


def ranked(among: Sequence[Configuration]) -> list[Configuration]:
    """All configurations by NDCG@10, those without a quality last; without any quality by the FLOPs of a request.

    The order is that on validation, so that the first is not the luckiest on test; it is that on test where a trained model has no figure
    on validation.
    """
    if all(one.quality(_METRIC).value is None for one in among):
        return sorted(among, key=_dearer_last)
    return sorted(among, key=functools.partial(_worse_on_validation_last, among=among) if _by_validation(among) else _worse_last)


def ranked_table(
    order: Sequence[Configuration], frontiers: Frontiers, names: Names, *, key: str, where: str, group: int | None = None
) -> Table:
    """The essentials of all configurations in the order of `ranked`, with the chance to be on the first frontier.

    A value that no configuration has gets no column. ``group`` is the number of these peers in the page's compact table, if it is there.
    """
    has_quality = any(one.quality(_METRIC).value is not None for one in order)
    costs = [name for name in _COSTS if any(one.cost(name).value is not None for one in order)]
    chances = {s.configuration.key: s for s in frontiers["serve_flops"][_METRIC].standings}
    rows = []
    for rank, one in enumerate(order, start=1):
        entries = [Entry(text=str(rank), order=rank), Entry(text=names(one), family=family(one).key)]
        entries += [_with_interval(one.quality(_METRIC)), _retention(one, order)] if has_quality else []
        entries += [_with_interval_of_cost(name, one) for name in costs]
        if chances:
            standing = chances.get(one.key)
            chance = tabular.NOTHING if standing is None else tabular.of_chance(standing.probability, on_frontier=standing.on_frontier)
            entries.append(replace(chance, detail=""))
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(one.statuses.items()))
        entries.append(Entry(text=statuses, tone="" if set(one.statuses) == {Status.OK} else "warn"))
        rows.append(tabular.row(*entries, family=family(one).name, backbone=filter_name(one)))
    numeric = [
        *([METRIC_NAMES[_METRIC], tabular.RETENTION] if has_quality else []),
        *(_HEADINGS[name] for name in costs),
        *(["on the frontier"] if chances else []),
    ]
    headings = tabular.columns("rank", "configuration", *numeric, "seeds", numeric=["rank", *numeric], explanations=_EXPLANATIONS)
    by = "validation" if _by_validation(order) else "test"
    caption = f"Ranked by NDCG@10 on {by}, {where}" if has_quality else f"By the FLOPs of a request, as no quality was measured, {where}"
    by_test = "; floors have no figure on validation and are ranked by their quality on test" if by == "validation" else ", with floors"
    floors = by_test if any(one.is_floor for one in order) else ""
    caption += f": {text.amount(len(order), 'configuration')}, without ablations and aged caches{floors}"
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True, static=_STATIC, drawn=group)


def _retention(one: Configuration, among: Sequence[Configuration]) -> Entry:
    if one.is_floor or one.quality(_METRIC).value is None:
        return tabular.NOTHING
    contrast = compare(one, among, _METRIC)
    entry = _with_interval(contrast.retention, "percent")
    if one.cell.compression == "full":
        return entry
    return replace(tabular.of_unequal(entry, contrast.all_unequal), detail=entry.detail)  # the reasons stand with the comparisons


def _with_interval_of_cost(name: str, one: Configuration) -> Entry:
    """A cost; a whole request's time has its interval over processes. Why a cost is missing stands in the table of all costs."""
    cost = one.cost(name)
    return (tabular.of_cost if name == _REQUEST_TIME and cost.value is not None else tabular.bare_cost)(name, cost)


def _with_interval(estimate: Estimate, form: Form = "ratio") -> Entry:
    """A quality and its interval, if it has one; other tables say why there is none."""
    entry = tabular.of_quality(estimate, form)
    return tabular.NOTHING if entry.order is None else entry if estimate.low is not None else replace(entry, detail="")


def _by_validation(among: Sequence[Configuration]) -> bool:
    trained = [one for one in among if one.trained and one.quality(_METRIC).value is not None]
    return bool(trained) and all(figure_on_validation(one, among) is not None for one in trained)


def _worse_last(one: Configuration) -> float:
    quality = one.quality(_METRIC).value
    return float("inf") if quality is None else -quality


def _worse_on_validation_last(one: Configuration, *, among: Sequence[Configuration]) -> float:
    """By validation, a floor by its test quality; without a quality last."""
    figure = figure_on_validation(one, among)
    return _worse_last(one) if figure is None or one.quality(_METRIC).value is None else -figure


def _dearer_last(one: Configuration) -> float:
    flops = one.cost("serve_flops").value
    return float("inf") if flops is None else flops


def hypervolume_table(among: Sequence[Configuration], frontiers: Frontiers, *, key: str) -> Table | None:
    """The area under each frontier, with and without PerSRec, to the same reference; ``None`` where there is no frontier.

    Where validation chooses the point at each cost, PerSRec may take area away: what looks best on validation may be worse on test.
    """
    rows = []
    without = [one for one in among if not one.is_tokens]
    for cost, by_metric in frontiers.items():
        for metric, whole in by_metric.items():
            if not whole.standings:
                continue
            rest = hypervolume_of(without, cost=cost, metric=metric, reference=whole.reference)
            dearest = 10 ** whole.reference[0]
            rows.append(
                tabular.row(
                    sentence(COST_NAMES[cost]),
                    METRIC_NAMES.get(metric, metric),
                    tabular.of_quality(whole.hypervolume),
                    tabular.of_quality(rest),
                    tabular.of_difference(_gain(whole.hypervolume, rest)),
                    Entry(text=f"{text.quantity(cost, dearest)}, {METRIC_NAMES.get(metric, metric)} 0", tone="muted"),
                )
            )
    if not rows:
        return None
    numeric = ("all", "without PerSRec", "what PerSRec adds")
    headings = tabular.columns("cost", "quality", *numeric, "reference", numeric=numeric)
    caption = (
        "Hypervolume: the area below what one gets at each cost, quality times decades of cost, up to the dearest configuration; what "
        "is best at a cost is chosen on validation where every configuration has a figure there. Intervals are over users, and "
        "over processes where a cost is timed, not over seeds; there the value is the median over these draws"
    )
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows))


def _gain(whole: Estimate, rest: Estimate) -> Estimate:
    if whole.value is None or rest.value is None:
        return Estimate(value=None, reason="nothing left without PerSRec")
    if whole.replicates is None or rest.replicates is None:
        return Estimate(value=whole.value - rest.value, reason=whole.reason or rest.reason)
    replicates = whole.replicates - rest.replicates
    low, high = interval_of(replicates)
    return Estimate(value=whole.value - rest.value, low=low, high=high, replicates=replicates)
