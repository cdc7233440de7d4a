"""What an advice says: to a reader in lines, and as JSON to a program."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from benchmarks import text
from benchmarks.analysis.advice import Advice, Budget, Candidate, Check, left_out
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate, with_interval
from benchmarks.analysis.fleet import in_batches, refresh_time
from benchmarks.analysis.origins import sources, timings
from benchmarks.analysis.trained import endings
from benchmarks.analysis.worth import floors_above
from benchmarks.labels import METRIC_NAMES, Labels
from benchmarks.text import listed

_RANKED: Mapping[str, str] = MappingProxyType({
    "cost": "the fewest FLOPs per request first",
    "validation": "the best on validation first",
    "test": "the best on test first, which flatters it: a record holds no figure on validation",
})  # fmt: skip


def labels_of(among: Sequence[Configuration]) -> Labels:
    """The labels of configurations, as a report has them."""
    return Labels.of([one.cell for one in among], [part for one in among for part in one.parts.all()], seeds=False)


def first_lines(among: Sequence[Configuration], metric: str) -> list[str]:
    """Warnings that come before any number: one seed, models that had not converged, floors above models, several machines."""
    trained = [one for one in among if one.trained and not one.is_experiment and one.quality(metric).value is not None]
    single = [one for one in trained if one.quality(metric).of_one_seed]
    lines = []
    if single:
        share = "One seed" if len(single) == len(trained) else f"One seed for {len(single)} of {len(trained)} trained configurations"
        lines.append(f"{share}: intervals cover users alone, not another training, so there is no verdict.")
    ends = endings(among)
    if ends.not_converged:
        lines.append(f"{ends.not_converged} of {ends.models} models had not converged: longer training may change their order.")
    if ends.not_recorded:
        lines.append(f"The records do not say whether {ends.not_recorded} of {ends.models} models converged.")
    for above in floors_above(among, metric)[:1]:
        level = text.ratio(above.floor.quality(metric).value or 0.0)
        count = f"{len(above.below)} of {above.models}"
        lines.append(f"{above.floor.cell.backbone}, which learns nothing, reaches {METRIC_NAMES[metric]} {level}, above {count} models.")
    every = sources(record for one in among for record in one.measured)
    machines = {source.origin.environment.fingerprint for source in timings(every)}
    if len(machines) > 1:
        lines.append(f"Times come from {len(machines)} environments: those of different machines do not compare.")
    return lines


def asked_line(budget: Budget, latency: str) -> str:
    """What was asked."""
    phrases = {
        "latency": lambda limit: f"{_latency_name(latency)} at most {text.milliseconds(limit)}",
        "cache": lambda limit: f"at most {text.nbytes(limit)} kept of a user",
        "retention": lambda limit: f"at least {text.percent(limit)} of the best full history's {METRIC_NAMES[budget.metric]}",
        "quality": lambda limit: f"{METRIC_NAMES[budget.metric]} at least {text.ratio(limit)}",
    }
    bounds = [phrases[name](limit) for name, limit in budget.limits().items()] or ["no bound"]
    count = budget.requests_per_refresh
    shown = f"{count:,.0f}" if count >= 100 or count == round(count) else f"{count:.3g}"
    return f"Asked: {'; '.join(bounds)}; {shown} request{'s' * (shown != '1')} per refresh."


def advice_lines(advice: Advice, among: Sequence[Configuration], *, most: int) -> Iterator[str]:
    """The answer: what fits, or the nearest misses."""
    labels = labels_of(among)
    yield asked_line(advice.budget, advice.latency)
    if advice.reference is not None:
        level = with_interval(advice.reference.quality(advice.budget.metric))
        yield f"The best full history is {labels(advice.reference.cell)}: {METRIC_NAMES[advice.budget.metric]} {level}."
    total = len(advice.fits) + len(advice.misses) + len(advice.unknown)
    yield from _warnings(advice)
    if advice.fits:
        yield f"{len(advice.fits)} of {total} servable configurations fit; {_RANKED[advice.chosen_by]}."
    else:
        yield f"Nothing fits: none of {total} servable configurations meets every bound." + (
            " The nearest misses:" if advice.misses else ""
        )
    choices = (advice.fits or advice.misses)[:most]
    for place, choice in enumerate(choices, 1):
        yield ""
        yield from _choice_lines(place, choice, labels, advice)
    more = len(advice.fits or advice.misses) - len(choices)
    if more:
        yield ""
        yield f"and {more} more (--top {len(choices) + more})"
    yield from _unjudged(advice, among)


def _warnings(advice: Advice) -> Iterator[str]:
    budget = advice.budget
    if advice.no_share:
        yield f"No share of full history's quality can be asked for: {advice.no_share}."
        if advice.offered is not None:
            yield f"Ask for a quality instead: --min-ndcg {advice.offered:g} in place of --min-retention {budget.min_retention:g}."
        else:
            yield f"Leave --min-retention {budget.min_retention:g} out."
    if all(choice.quality.value is None for choice in (*advice.fits, *advice.misses, *advice.unknown)):
        yield "No quality was measured here. By cost alone what keeps nothing of the history is the cheapest, whatever it is worth."
    if budget.max_latency_ms is not None and f"_p{budget.percentile}_" not in advice.latency:
        yield f"The latency is the median: not every configuration has a {budget.percentile}th percentile."
    if budget.max_latency_ms is not None and advice.latency.startswith("serve_"):
        yield "The latency is the backbone's alone: the whole request, with fetching and scoring the catalogue, was not measured for all."
    if budget.max_latency_ms is not None and advice.latency.endswith(("_p95_ms", "_p99_ms")):
        yield "A percentile above the median has no interval: few processes say little of the next one's tail."
    if any(choice.is_fresh for choice in (*advice.fits, *advice.misses)):
        yield "Qualities are of a fresh cache where its ages were not measured: with several requests per refresh the history grows old."
    if budget.asks_quality and len(advice.fits) > 1:
        yield "Many configurations are compared with the bound on quality at once, so one that just meets it is flattered."


def _choice_lines(place: int, choice: Candidate, labels: Labels, advice: Advice) -> Iterator[str]:
    one = choice.configuration
    yield f"{place}. {labels(one.cell)}{_marks(choice)}"
    if choice.quality.value is not None:
        share = f", {with_interval(choice.kept, 'percent')} of the best full history's" if choice.kept.value is not None else ""
        yield f"   {METRIC_NAMES[advice.budget.metric]} {with_interval(choice.quality)}{share}"
    if choice.flops is not None:
        yield f"   {text.flops(choice.flops)} a request with its share of the refresh"
    refresh = refresh_time(one).value
    if refresh:
        yield f"   a refresh of one user takes {text.milliseconds(refresh)} ({in_batches(one)})"
    yield from (_check_line(check, advice, is_binding=check is choice.binding and len(choice.checks) > 1) for check in choice.checks)


def _marks(choice: Candidate) -> str:
    return f" [{'; '.join(choice.unsettled)}]" if choice.unsettled else ""


def _check_line(check: Check, advice: Advice, *, is_binding: bool) -> str:
    say = {"latency": text.milliseconds, "cache": text.nbytes, "retention": text.percent, "quality": text.ratio}[check.asked]
    name = {
        "latency": _latency_name(advice.latency), "cache": "kept of a user", "retention": "share of the best full history's quality",
        "quality": METRIC_NAMES[advice.budget.metric],
    }[check.asked]  # fmt: skip
    spare = check.spare or 0.0
    how = f"{text.percent(spare)} to spare" if spare >= 0 else f"misses by {'far' if math.isinf(spare) else text.percent(-spare)}"
    bound = f"{'at least' if check.is_floor else 'at most'} {say(check.limit)}"
    binds = " <- binds" if is_binding and check.holds else ""
    return f"   {name}: {say(check.measured.value or 0.0)}, {bound}: {how}, {_sureness(check, say)}{binds}"


def _sureness(check: Check, say: Any) -> str:
    if check.exact:
        return "exact" if check.asked == "cache" else "it is that full history"
    end = check.measured.low if check.is_floor else check.measured.high
    if check.surely is None or end is None:
        return "no interval"
    over = ", over users of one seed" if check.is_floor and check.measured.of_one_seed else ""
    verdict = "holds there too" if check.surely else "does not hold there" if check.holds else "missed there too"
    return f"unfavourable end {say(end)}: {verdict}{over}"


def _unjudged(advice: Advice, among: Sequence[Configuration]) -> Iterator[str]:
    reasons: dict[str, int] = {}
    for choice in advice.unknown:
        missing = listed([f"no {check.asked} ({check.measured.reason or 'not measured'})" for check in choice.unknown])
        reasons[missing] = reasons.get(missing, 0) + 1
    for reason, count in {**left_out(among), **reasons}.items():
        yield ""
        yield f"Not judged: {text.amount(count, 'configuration')}, {reason}."


def _latency_name(latency: str) -> str:
    what, _, percentile = latency.removesuffix("_ms").partition("_latency_p")
    return f"p{percentile} of {'a whole request' if what == 'request' else 'a request, backbone alone'}"


def to_values(advice: Advice, among: Sequence[Configuration], *, most: int) -> dict[str, Any]:
    """The same as plain JSON values."""
    labels = labels_of(among)
    return {
        "first": first_lines(among, advice.budget.metric),
        "budget": {**advice.budget.limits(), "requests_per_refresh": advice.budget.requests_per_refresh, "metric": advice.budget.metric},
        "latency": advice.latency,
        "full_history": None if advice.reference is None else labels(advice.reference.cell),
        "ranked_by": advice.chosen_by,
        "no_share": advice.no_share or None,
        "offered_min_quality": advice.offered,
        "counts": {"fits": len(advice.fits), "misses": len(advice.misses), "not_judged": len(advice.unknown)},
        "warnings": list(_warnings(advice)),
        "fits": [_choice_values(choice, labels) for choice in advice.fits[:most]],
        "nearest_misses": [] if advice.fits else [_choice_values(choice, labels) for choice in advice.misses[:most]],
        "not_judged": [{"name": labels(one.configuration.cell), "missing": [c.asked for c in one.unknown]} for one in advice.unknown],
    }


def _choice_values(choice: Candidate, labels: Labels) -> dict[str, Any]:
    one = choice.configuration
    binding = choice.binding
    return {
        "name": labels(one.cell),
        "cell_keys": [record.cell_key for record in one.measured],
        "cell": one.cell.to_dict(),
        "quality": estimate_values(choice.quality),
        "retention": estimate_values(choice.kept),
        "of_a_fresh_cache": choice.is_fresh,
        "flops_per_request": choice.flops,
        "unsettled": list(choice.unsettled),
        "binding": binding.asked if binding else None,
        "checks": {
            check.asked: {"limit": check.limit, **estimate_values(check.measured), "spare": _finite(check.spare), "surely": check.surely}
            for check in choice.checks
        },
    }


def estimate_values(estimate: Estimate) -> dict[str, Any]:
    """A number with its interval."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "seeds": len(estimate.by_seed) or None}


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
