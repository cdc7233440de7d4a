"""Tables over all configurations: ranked, with every quality and every cost, and the same as rows for a CSV file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, difference, interval_of
from benchmarks.analysis.frontier import COSTS, Frontier, frontier
from benchmarks.analysis.references import compare, untouched
from benchmarks.analysis.trained import own_validation
from benchmarks.measures import MEASURES
from benchmarks.records import Status
from benchmarks.report import tabular
from benchmarks.report.names import COST_NAMES, METRIC_NAMES, Names, family, filter_name
from benchmarks.report.peers import Peers
from benchmarks.report.tabular import Entry, Table
from benchmarks.text import sentence

Frontiers = Mapping[str, Mapping[str, Frontier]]  # by cost, then by metric
_COSTS = (
    "serve_flops",
    "compress_serve_flops",
    "serve_latency_p50_ms",
    "serve_users_per_second",
    "serve_peak_bytes",
    "cache_bytes",
    "parameters",
)
_HEADINGS = {
    "serve_flops": "serve",
    "compress_serve_flops": "compress + serve",
    "serve_latency_p50_ms": "latency p50",
    "serve_users_per_second": "throughput",
    "serve_peak_bytes": "peak memory",
    "cache_bytes": "cache per user",
    "parameters": "parameters",
}

_VALIDATION = "validation"
_EXPLANATIONS = {
    _VALIDATION: "NDCG@10 on the validation targets, by which the order is; floors, which choose nothing, stand by their test NDCG@10",
    "serve": "FLOPs of one request, catalogue scoring apart",
    "compress + serve": "FLOPs of a refresh and one request",
    "on the frontier": f"{tabular.CHANCE}: serving FLOPs against NDCG@10",
    "throughput": "requests served per second, in batches",
}


def ranked_table(among: Sequence[Configuration], frontiers: Frontiers, names: Names, *, key: str, where: str) -> Table:
    """All configurations by NDCG@10, those without a quality last, with costs and the chance to be on the first frontier.

    The order is that of validation, so that the first is not the luckiest on test, unless a trained model has no figure there.
    Without any quality they stand by serving FLOPs. What no configuration has gets no column.
    """
    metric = QUALITY_METRICS[0]
    ranked = any(one.quality(metric).value is not None for one in among)
    qualities = [name for name in QUALITY_METRICS if any(one.quality(name).value is not None for one in among)]
    trained = [one for one in among if one.trained and one.quality(metric).value is not None]
    by_validation = bool(trained) and all(own_validation(one) is not None for one in trained)
    order = sorted(among, key=(_chosen_last if by_validation else _worse_last) if ranked else _dearer_last)
    costs = [name for name in _COSTS if any(_cost(one, name).value is not None for one in among)]
    chances = {s.configuration.key: s for s in frontiers["serve_flops"][metric].standings}
    rows = []
    for rank, one in enumerate(order, start=1):
        entries = [Entry(text=str(rank), order=rank), Entry(text=names(one), family=family(one).key)]
        entries += [tabular.of_ratio(own_validation(one))] if by_validation else []
        entries += [tabular.of_quality(one.quality(name)) for name in qualities]
        entries += [tabular.of_cost(name, _cost(one, name)) for name in costs]
        if chances:
            standing = chances.get(one.key)
            chance = tabular.NOTHING if standing is None else tabular.of_chance(standing.probability, on_frontier=standing.on_frontier)
            entries.append(replace(chance, detail=""))
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(one.statuses.items()))
        entries.append(Entry(text=statuses, tone="" if set(one.statuses) == {Status.OK} else "warn"))
        rows.append(tabular.row(*entries, family=family(one).name, backbone=filter_name(one)))
    shown = [
        *([_VALIDATION] if by_validation else []),
        *(METRIC_NAMES[name] for name in qualities),
        *(_HEADINGS[name] for name in costs),
        *(["on the frontier"] if chances else []),
    ]
    headings = tabular.columns("rank", "configuration", *shown, "cells", numeric=["rank", *shown], explanations=_EXPLANATIONS)
    caption = (
        f"Ranked by NDCG@10{' on validation' if by_validation else ' on test'}, {where}"
        if ranked
        else f"By serving FLOPs, as no quality was measured, {where}"
    )
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)


def _worse_last(one: Configuration) -> float:
    quality = one.quality(QUALITY_METRICS[0]).value
    return float("inf") if quality is None else -quality


def _chosen_last(one: Configuration) -> float:
    """By validation, a floor by its test quality; without a quality last."""
    figure = own_validation(one)
    return _worse_last(one) if figure is None or one.quality(QUALITY_METRICS[0]).value is None else -figure


def _dearer_last(one: Configuration) -> float:
    flops = one.cost("serve_flops").value
    return float("inf") if flops is None else flops


def quality_table(among: Sequence[Configuration], names: Names, *, key: str) -> Table | None:
    """Every quality that was measured."""
    metrics = [
        name
        for name, measure in MEASURES.items()
        if measure.group == "quality" and any(one.quality(name).value is not None for one in among)
    ]
    return _metrics_table(among, names, metrics, key=key, caption="Every measure of quality") if metrics else None


def cost_table(among: Sequence[Configuration], names: Names, *, key: str) -> Table | None:
    """Every cost that was measured, MACs apart, which are half the FLOPs."""
    costs = [name for name, measure in MEASURES.items() if measure.group == "cost" and not name.endswith("_macs")]
    metrics = [name for name in costs if any(one.cost(name).value is not None for one in among)]
    return _metrics_table(among, names, metrics, key=key, caption="Every measure of cost") if metrics else None


def _metrics_table(among: Sequence[Configuration], names: Names, metrics: Sequence[str], *, key: str, caption: str) -> Table:
    rows = []
    for one in among:
        entries = [
            tabular.of_quality(one.quality(name)) if MEASURES[name].group == "quality" else tabular.of_cost(name, one.cost(name))
            for name in metrics
        ]
        entries = [Entry(text=entry.text, order=entry.order, tone=entry.tone) for entry in entries]
        rows.append(
            tabular.row(Entry(text=names(one), family=family(one).key), *entries, family=family(one).name, backbone=filter_name(one))
        )
    shown = [
        METRIC_NAMES.get(name) or name.replace("_", " ").replace("ndcg", "NDCG").replace("recall", "Recall").replace("mrr", "MRR")
        for name in metrics
    ]
    explanations = {heading: MEASURES[name].description for heading, name in zip(shown, metrics, strict=True)}
    return Table(
        key=key,
        caption=caption,
        columns=tabular.columns("configuration", *shown, numeric=shown, explanations=explanations),
        rows=tuple(rows),
        filters=True,
    )


def hypervolume_table(among: Sequence[Configuration], frontiers: Frontiers, *, key: str) -> Table | None:
    """The area under each frontier, with and without PerSRec, to the same reference; ``None`` where there is no frontier.

    Where validation chooses what counts at each cost, PerSRec may add less than nothing: what looks best there may be worse on test.
    """
    rows = []
    without = [one for one in among if not one.is_tokens]
    for cost, by_metric in frontiers.items():
        for metric, whole in by_metric.items():
            if not whole.standings:
                continue
            rest = frontier(without, cost=cost, metric=metric, reference=whole.reference)
            dearest = 10 ** whole.reference[0]
            rows.append(
                tabular.row(
                    sentence(COST_NAMES[cost]),
                    METRIC_NAMES.get(metric, metric),
                    tabular.of_quality(whole.hypervolume),
                    tabular.of_quality(rest.hypervolume),
                    tabular.of_difference(_gain(whole.hypervolume, rest.hypervolume)),
                    Entry(text=f"{text.quantity(cost, dearest)}, {METRIC_NAMES.get(metric, metric)} 0", tone="muted"),
                )
            )
    if not rows:
        return None
    numeric = ("all", "without PerSRec", "what PerSRec adds")
    headings = tabular.columns("cost", "quality", *numeric, "reference", numeric=numeric)
    caption = (
        "Hypervolume: the area below what one gets at each cost, quality times decades of cost, up to the dearest configuration; what "
        "is best at a cost is chosen on validation where every configuration has a figure there"
    )
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows))


def _gain(whole: Estimate, rest: Estimate) -> Estimate:
    if whole.value is None or rest.value is None or whole.replicates is None or rest.replicates is None:
        return Estimate(value=None, reason="nothing left without PerSRec")
    replicates = whole.replicates - rest.replicates
    low, high = interval_of(replicates)
    return Estimate(value=whole.value - rest.value, low=low, high=high, replicates=replicates)


def measurements(peers: Peers, frontiers: Frontiers, names: Names) -> Iterator[dict[str, Any]]:
    """Every number of the report, a row each: what was measured, then what was derived."""
    for one in peers.everyone:
        settings = {name: value for name, value in asdict(one.cell).items() if name != "seed"}
        common = {"context": peers.title, "configuration": names(one), **dict(sorted(settings.items()))}
        for name, measure in MEASURES.items():
            estimate = one.quality(name) if measure.group == "quality" else one.cost(name)
            yield common | _flat("measured", name, estimate, measure.unit)
        yield common | _flat("derived", "compress_serve_flops", COSTS["compress_serve_flops"](one), "flop")
        if one.is_floor:
            continue
        for metric in QUALITY_METRICS:
            comparison = compare(one, peers.configurations, metric)
            if one.changed and (own := untouched(one, peers.everyone)) is not None:
                lost = difference(one.quality(metric), own.quality(metric))
                yield common | _flat("derived", f"{metric}_over_own_cache", lost, "ratio")
            for name in ("over_no_token", "over_full", "over_recent", "retention", "recovered"):
                yield common | _flat("derived", f"{metric}_{name}", getattr(comparison, name), "ratio")
            for cost, by_metric in frontiers.items():
                standing = next((s for s in by_metric[metric].standings if s.configuration is one), None)
                if standing:
                    estimate = Estimate(value=standing.probability)
                    yield common | _flat("derived", f"on_frontier_probability_{cost}_{metric}", estimate, "ratio")


def _flat(source: str, name: str, estimate: Estimate, unit: str) -> dict[str, Any]:
    seeds = "+".join(str(seed) for seed in estimate.seeds)
    return {
        "source": source,
        "metric": name,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "unit": unit,
        "n": estimate.n or None,
        "seeds": seeds,
        "reason": estimate.reason,
    }


def _cost(one: Configuration, cost: str) -> Estimate:
    return COSTS[cost](one) if cost in COSTS else one.cost(cost)
