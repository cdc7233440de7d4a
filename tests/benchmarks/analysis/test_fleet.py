"""A fleet is arithmetic on measured times and bytes; the expected values are worked out by hand."""

import math

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.fleet import HOURS_A_MONTH, Demand, Fleet, Machine, fleet, refresh_time
from benchmarks.cell import Cell

TOKENS = Cell(backbone="hstu", compression="experts", tokens=4)
MACHINE = Machine(name="m", cores=10, memory_bytes=2**30, price_per_hour=0.5, currency="EUR", highest_load=0.5)
DEMAND = Demand(users=86_400, requests_per_second=1000.0, refreshes_per_day=2.0)


def measured(cell: Cell = TOKENS, **values: float | None):
    """A configuration with these metrics; a value may come with its interval."""
    record = fabricate(cell)
    known = {"request_latency_p50_ms": 4.0, "compress_users_per_second": 100.0, "cache_bytes": 1000, "serve_peak_bytes": 1000,
             "parameters": 1000, **values}  # fmt: skip
    for name, value in known.items():
        value, low, high = value if isinstance(value, tuple) else (value, None, None)
        record["metrics"][name] = {"value": value, "unit": "", "direction": "lower", "method": "made up", "n": 1, "low": low, "high": high}
    (one,) = configured([record])
    return one


def needed(one, demand=DEMAND, machine=MACHINE) -> Fleet:
    result = fleet(one, demand, machine)
    assert isinstance(result, Fleet), result
    return result


def test_the_times_take_machines():
    result = needed(measured())
    assert result.serving.value == pytest.approx(4.0)  # 1,000 requests a second of 4 ms
    assert result.refreshing.value == pytest.approx(0.02)  # 2 refreshes a second of 10 ms
    assert result.for_time.value == math.ceil(4.02 / 0.5 / 10) == 1
    heavier = needed(measured(request_latency_p50_ms=40.0))
    assert heavier.for_time.value == math.ceil(40.02 / 0.5 / 10) == 9
    assert heavier.per_month.value == pytest.approx(9 * 0.5 * HOURS_A_MONTH)


def test_the_memory_takes_machines():
    result = needed(measured(cache_bytes=100_000))
    fixed = 1000 * 4 + 10 * 1000  # the model once, a peak for each of 10 workers
    assert result.fixed_bytes == fixed
    assert result.for_memory == math.ceil(86_400 / ((2**30 - fixed) // 100_000)) == 9
    assert result.machines.value == 9


@pytest.mark.parametrize("name", ["serve_peak_bytes", "parameters"])
def test_memory_that_nobody_measured_is_not_none(name):
    result = fleet(measured(**{name: None}), DEMAND, MACHINE)
    assert result == "what a request takes of memory is not known: made up"


def test_an_interval_of_a_time_is_one_of_machines():
    result = needed(measured(request_latency_p50_ms=(40.0, 20.0, 80.0)))
    assert (result.machines.low, result.machines.value, result.machines.high) == (5, 9, 17)


def test_the_slowest_refresh_is_that_of_the_lowest_rate():
    time = refresh_time(measured(compress_users_per_second=(100.0, 80.0, 125.0)))
    assert (time.value, time.low, time.high) == (10.0, 8.0, 12.5)


def test_what_keeps_nothing_takes_no_memory_and_no_refresh():
    result = needed(measured(compress_flops=0, compress_users_per_second=None, cache_bytes=0))
    assert (result.for_memory, result.refreshing.value, result.machines.value) == (0, 0.0, 1)


def test_without_a_whole_request_the_backbone_alone_is_taken_and_named():
    assert needed(measured(request_latency_p50_ms=None)).request == "serve_latency_p50_ms"


def test_threads_of_a_request_are_cores_of_a_machine():
    four = measured(Cell(backbone="hstu", compression="experts", tokens=4, threads=4))
    assert needed(four).workers_a_machine == 2
    small = Machine(name="m", cores=2, memory_bytes=2**30)
    assert "fewer than 4 cores" in fleet(four, DEMAND, small)


def test_what_was_measured_on_a_card_takes_one():
    card = measured(Cell(backbone="hstu", compression="experts", tokens=4, device="cuda"))
    assert "fewer than a GPU" in fleet(card, DEMAND, MACHINE)
    assert needed(card, machine=Machine(name="m", cores=4, memory_bytes=2**30, gpus=2)).workers_a_machine == 2


def test_what_does_not_fit_or_was_not_timed_is_said():
    assert "no memory" in fleet(measured(cache_bytes=2**31), DEMAND, MACHINE)
    assert fleet(measured(compress_users_per_second=None), DEMAND, MACHINE) == "made up"


def test_requests_per_refresh_follow_from_the_demand():
    assert DEMAND.requests_per_refresh == pytest.approx(1000 * 86_400 / (86_400 * 2))
