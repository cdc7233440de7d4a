"""What a configuration takes to serve a fleet of users: processors, machines, memory and money, from its measured times and bytes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.analysis.advice import kept_beside_items
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate

SECONDS_A_DAY = 86_400
HOURS_A_MONTH = 730.0  # a twelfth of a year
_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What the users ask for; ``refreshes_per_day`` are those of one user."""

    users: int
    requests_per_second: float
    refreshes_per_day: float

    @property
    def requests_per_refresh(self) -> float:
        """Requests of a user between two refreshes, on average."""
        return self.requests_per_second * SECONDS_A_DAY / (self.users * self.refreshes_per_day)


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What is rented.

    Attributes:
        name: for the reader.
        cores: of the processor; each thread that was measured takes one.
        memory_bytes: of the whole machine.
        gpus: cards, each of which serves one request at a time; only for what was measured on one.
        price_per_hour: in ``currency``; None where no price is known.
        currency: of the price.
        highest_load: the share of the processors' time that is planned for; the rest is for peaks.
    """

    name: str
    cores: int
    memory_bytes: int
    gpus: int = 0
    price_per_hour: float | None = None
    currency: str = ""
    highest_load: float = 0.6


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A number, and its values at the ends of the measured times' intervals, where these have any."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """What one configuration takes.

    Attributes:
        request: the measure of a request's time.
        request_ms: one request.
        refresh_ms: one refresh of one user; 0 where nothing is compressed.
        serving: workers that are busy with requests, on average.
        refreshing: workers that are busy with refreshes, on average.
        workers_a_machine: how many serve on one machine, side by side.
        cache_bytes: of all users.
        fixed_bytes: on each machine beside the caches: the model and the peak of each worker.
        for_time: machines that the times take.
        for_memory: machines that the caches take.
        per_month: of all machines, in the price's currency.
    """

    request: str
    request_ms: Estimate
    refresh_ms: Estimate
    serving: Span
    refreshing: Span
    workers_a_machine: int
    cache_bytes: float
    fixed_bytes: float
    for_time: Span
    for_memory: int
    per_month: Span | None

    @property
    def machines(self) -> Span:
        """The larger of the two needs, one at least."""
        return _mapped(self.for_time, lambda machines: max(machines, self.for_memory, 1))


def fleet(one: Configuration, demand: Demand, machine: Machine) -> Fleet | str:
    """What a configuration takes to serve the demand, or why that cannot be told."""
    request, request_ms = request_time(one)
    refresh_ms = refresh_time(one)
    kept = kept_beside_items(one).value
    if request_ms.value is None or refresh_ms.value is None or kept is None:
        return next(reason for reason in (request_ms.reason, refresh_ms.reason, one.reason("cache_bytes")) if reason)
    on_card = one.cell.device == "cuda"
    workers = machine.gpus if on_card else machine.cores // one.cell.threads
    if workers < 1:
        worker = "a GPU" if on_card else f"{one.cell.threads} cores"
        return f"the machine has fewer than {worker}, which one request takes"
    peak, parameters = one.cost("serve_peak_bytes").value, one.cost("parameters").value
    if peak is None or parameters is None:
        return f"what a request takes of memory is not known: {one.reason('serve_peak_bytes' if peak is None else 'parameters')}"
    fixed = parameters * _BYTES[one.cell.dtype] + workers * peak
    free = machine.memory_bytes - fixed
    if free <= 0 or (kept > 0 and free < kept):
        return "the model and its peaks leave no memory for a user's cache"
    serving = _scaled(request_ms, demand.requests_per_second / 1000)
    refreshing = _scaled(refresh_ms, demand.users * demand.refreshes_per_day / SECONDS_A_DAY / 1000)
    busy = _sum(serving, refreshing)
    for_time = _mapped(busy, lambda need: math.ceil(need / machine.highest_load / workers))
    for_memory = math.ceil(demand.users / (free // kept)) if kept else 0
    result = Fleet(
        request=request,
        request_ms=request_ms,
        refresh_ms=refresh_ms,
        serving=serving,
        refreshing=refreshing,
        workers_a_machine=workers,
        cache_bytes=demand.users * kept,
        fixed_bytes=fixed,
        for_time=for_time,
        for_memory=for_memory,
        per_month=None,
    )
    if machine.price_per_hour is None:
        return result
    monthly = machine.price_per_hour * HOURS_A_MONTH
    return replace(result, per_month=_mapped(result.machines, lambda machines: machines * monthly))


def request_time(one: Configuration) -> tuple[str, Estimate]:
    """The measure of one request alone and its time in ms: of the whole request, or of the backbone where that was not measured."""
    whole = one.cost("request_latency_p50_ms")
    return ("request_latency_p50_ms", whole) if whole.value is not None else ("serve_latency_p50_ms", one.cost("serve_latency_p50_ms"))


def refresh_time(one: Configuration) -> Estimate:
    """Milliseconds of a refresh of one user, from the throughput of batches; 0 where a refresh computes nothing."""
    if one.cost("compress_flops").value == 0:
        return Estimate(value=0.0)
    rate = one.cost("compress_users_per_second")
    if not rate.value:
        return Estimate(value=None, reason=rate.reason or "no refresh was timed")
    low, high = (1000 / end if end else None for end in (rate.high, rate.low))
    return Estimate(value=1000 / rate.value, low=low, high=high)


def in_batches(one: Configuration) -> str:
    """What `refresh_time` measures: a share of a batch, which is not one refresh alone where the batch holds several users."""
    return "one user at a time" if one.cell.batch_size == 1 else f"one user's share of a batch of {one.cell.batch_size:,}"


def _scaled(estimate: Estimate, factor: float) -> Span:
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    return Span(value=(estimate.value or 0.0) * factor, low=low, high=high)


def _sum(one: Span, other: Span) -> Span:
    """Both at their values, at their low and at their high ends; an end that is missing stands at the value."""
    if (one.low, one.high, other.low, other.high) == (None,) * 4:
        return Span(value=one.value + other.value)
    low = sum(span.value if span.low is None else span.low for span in (one, other))
    high = sum(span.value if span.high is None else span.high for span in (one, other))
    return Span(value=one.value + other.value, low=low, high=high)


def _mapped(span: Span, rule: Callable[[float], float]) -> Span:
    low, high = (None if end is None else rule(end) for end in (span.low, span.high))
    return Span(value=rule(span.value), low=low, high=high)
