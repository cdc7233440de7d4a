"""A timed cost is that of several fresh processes: their median, and the interval over them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.records import Metric
from benchmarks.run.processes import interval, over_processes

P50, P95, P99 = (f"serve_latency_p{percentile}_ms" for percentile in (50, 95, 99))


def timed(value, *, n=100, method="batch 1"):
    return Metric(value=value, unit="ms", low=value, high=value, n=n, method=method)


def test_the_value_is_the_median_of_the_processes_and_the_interval_is_over_them():
    (metric,) = over_processes([{P50: timed(value)} for value in (2.0, 1.0, 1.5)]).values()
    assert (metric.value, metric.n) == (1.5, 300)
    # Student's t of the logarithms with 2 degrees of freedom: 4.303 SD / sqrt 3
    logs = np.log([2.0, 1.0, 1.5])
    half = 4.303 * logs.std(ddof=1) / math.sqrt(3)
    assert (metric.low, metric.high) == pytest.approx((math.exp(logs.mean() - half), math.exp(logs.mean() + half)), rel=1e-3)
    assert metric.method == "median of 3 processes, low and high are the 95% interval over them; each: batch 1"


def test_one_process_gives_no_interval_and_says_so():
    (metric,) = over_processes([{P50: timed(1.5)}]).values()
    assert (metric.value, metric.low, metric.high) == (1.5, None, None)
    assert metric.method.startswith("one process, so no interval; ")


@pytest.mark.parametrize(("name", "n", "needed"), [(P95, 66, 200), (P99, 333, 1000)])
def test_a_percentile_takes_its_samples(name, n, needed):
    (metric,) = over_processes([{name: timed(1.0, n=n)}] * 3).values()
    assert (metric.value, metric.low, metric.high) == (None, None, None)
    assert metric.method == f"{3 * n} requests; it takes {needed} at least"
    (metric,) = over_processes([{name: timed(1.0, n=n + 1)}] * 3).values()
    assert metric.value == 1.0


def test_counts_are_those_of_the_process_that_counted():
    counted = Metric(value=7, unit="flop", method="counted", n=1)
    found = over_processes([{"serve_flops": counted, P50: timed(1.0)}, {P50: timed(2.0)}])
    assert found["serve_flops"] == counted
    assert found[P50].value == 1.5


def test_bytes_stay_whole_and_what_one_process_could_not_tell_is_left_out():
    peaks = [Metric(value=4096, n=1, method="VmHWM"), Metric(value=None, method="not told"), Metric(value=8192, n=1, method="VmHWM")]
    (metric,) = over_processes([{"serve_peak_bytes": peak} for peak in peaks]).values()
    assert (metric.value, type(metric.value)) == (6144, int)
    assert "median of 2 processes" in metric.method
    (metric,) = over_processes([{"serve_peak_bytes": peaks[1]}] * 3).values()
    assert metric == peaks[1]


def test_a_load_that_one_process_notes_stays_where_its_value_is_the_one_told():
    noted = timed(2.0, method="batch 1; others used 40% of the processors")
    (metric,) = over_processes([{P50: timed(1.0)}, {P50: noted}, {P50: timed(3.0)}]).values()
    assert metric.method.endswith("others used 40% of the processors")


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=6))
def test_the_median_lies_in_the_interval(values):
    low, high = interval(values)
    assert low <= np.median(values) * (1 + 1e-9)
    assert high >= np.median(values) * (1 - 1e-9)


def test_of_values_that_hold_a_zero_the_interval_is_the_range():
    assert interval([0, 5, 2]) == (0, 5)
