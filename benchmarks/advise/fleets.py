"""What a fleet takes, in words and as JSON, with every assumption."""

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import text
from benchmarks.advise.words import estimate_values
from benchmarks.analysis.advice import Candidate
from benchmarks.analysis.estimates import Estimate
from benchmarks.analysis.fleet import HOURS_A_MONTH, Demand, Fleet, Machine, Span, in_batches
from benchmarks.labels import Labels


def assumptions(demand: Demand, machine: Machine, choice: Candidate) -> list[str]:
    """Every assumption behind the numbers."""
    cell = choice.configuration.cell
    worker = "one GPU" if cell.device == "cuda" else text.amount(cell.threads, "core")
    size = f"{machine.cores} cores and {text.nbytes(machine.memory_bytes)} ({machine.name})"
    return [
        f"A machine has {size}. A request takes {worker} of it, as it was measured; requests side by side do not slow each other down.",
        "A core of it is as fast as one of the machine that was measured.",
        f"{text.percent(machine.highest_load)} of the processors' time is planned for; the rest is for peaks of the demand and the tail.",
        "A request takes its median time, one at a time: batches would take fewer machines, a heavy tail more.",
        f"Each user is refreshed {demand.refreshes_per_day:.3g} times a day, for {demand.requests_per_refresh:.3g} requests a refresh.",
        "Refreshes are spread evenly over the day and computed in batches, as they were measured.",
        "All users' caches lie in the machines' memory, once: no copy for a failure, and the network between machines takes no time.",
        "Each machine holds the model once, and the peak memory of serving once per worker; users' events and the system are not in it.",
        f"A month has {HOURS_A_MONTH:.0f} hours; machines run all of them. Training, storage and traffic are not in the price.",
    ]


def fleet_lines(choice: Candidate, fleet: Fleet | str, machine: Machine, labels: Labels) -> Iterator[str]:
    """What one choice takes."""
    yield f"{labels(choice.configuration.cell)}"
    if isinstance(fleet, str):
        yield f"   cannot be told: {fleet}"
        return
    alone = "" if fleet.request.startswith("request_") else " (the backbone alone: scoring the catalogue was not timed)"
    refresh = f"{_times(fleet.refresh_ms)} ({in_batches(choice.configuration)})" if fleet.refresh_ms.value else "0 ms"
    yield f"   a request takes {_times(fleet.request_ms)} at the median{alone}, a refresh of one user {refresh}"
    yield f"   busy with requests {_span_text(fleet.serving, _workers)}, with refreshes {_span_text(fleet.refreshing, _workers)}"
    yield f"   caches {text.nbytes(fleet.cache_bytes)}; beside them {text.nbytes(fleet.fixed_bytes)} on each machine"
    by_time, by_memory = _span_text(fleet.for_time, _count), f"{fleet.for_memory:,}"
    yield f"   machines {_span_text(fleet.machines, _count)}: the times take {by_time}, the memory {by_memory}"
    if fleet.per_month is not None:
        unit = f" {machine.currency}" if machine.currency else ""
        yield f"   {_span_text(fleet.per_month, lambda money: f'{money:,.0f}{unit}')} a month"


def fleet_values(choice: Candidate, fleet: Fleet | str, labels: Labels) -> dict[str, Any]:
    """The same as plain JSON values."""
    name = labels(choice.configuration.cell)
    if isinstance(fleet, str):
        return {"name": name, "reason": fleet}
    return {
        "name": name,
        "request": fleet.request,
        "request_ms": estimate_values(fleet.request_ms),
        "refresh_ms": estimate_values(fleet.refresh_ms),
        "busy_serving": _span(fleet.serving),
        "busy_refreshing": _span(fleet.refreshing),
        "cache_bytes": fleet.cache_bytes,
        "fixed_bytes": fleet.fixed_bytes,
        "machines": _span(fleet.machines),
        "machines_for_time": _span(fleet.for_time),
        "machines_for_memory": fleet.for_memory,
        "per_month": None if fleet.per_month is None else _span(fleet.per_month),
    }


def _span(span: Span) -> dict[str, float | None]:
    return {"value": span.value, "low": span.low, "high": span.high}


def _times(estimate: Estimate) -> str:
    return _span_text(Span(value=estimate.value or 0.0, low=estimate.low, high=estimate.high), text.milliseconds)


def _span_text(span: Span, say: Callable[[float], str]) -> str:
    """``3 (2 to 5)``; the value alone where the ends say the same."""
    ends = [say(end) for end in (span.low, span.high) if end is not None]
    return say(span.value) if len(ends) < 2 or set(ends) == {say(span.value)} else f"{say(span.value)} ({ends[0]} to {ends[1]})"


def _workers(busy: float) -> str:
    return f"{text.significant(busy)} workers"


def _count(machines: float) -> str:
    return f"{int(machines):,}"
