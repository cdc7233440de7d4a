"""Every measurement of a report, and what sets it beside its references, as the rows of a CSV file."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.analysis.configurations import QUALITY_METRICS
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.frontier import COSTS, Frontiers
from benchmarks.analysis.references import compare, untouched
from benchmarks.measures import MEASURES
from benchmarks.report.names import Names
from benchmarks.report.peers import Peers


def measurements(peers: Peers, frontiers: Frontiers, names: Names) -> Iterator[dict[str, Any]]:
    """What was measured and what was derived from it, a row each; comparisons of pairs and areas stand on the page alone."""
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
                loss = difference(one.quality(metric), own.quality(metric))
                yield common | _flat("derived", f"{metric}_over_own_cache", loss, "ratio")
            for name in ("over_no_token", "over_full", "over_recent", "over_counts_only", "retention", "recovered"):
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
