"""A timed cost is that of several fresh processes: their median, and the interval over them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.analysis.estimates import interval_over_processes
from benchmarks.probes.latency import percentiles
from benchmarks.records import Cost, Environment, Metric, Process, Status, to_json, typed
from benchmarks.run.processes import heaviest_load, over_processes

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


def test_what_any_process_noted_of_its_timing_stays():
    """And not only what the one in the middle did."""
    wide, busy = ", interquartile range {}% of the median", ", other processes used {}% of the processors"
    methods = ["batch 1" + wide.format(12), "batch 1" + wide.format(31) + busy.format(44), "batch 1"]
    metric = over_processes([{P50: timed(value, method=method)} for value, method in zip((1.0, 2.0, 1.5), methods, strict=True)])[P50]
    assert metric.method.endswith(
        "; each: batch 1, interquartile range 31% of the median (noted in 2 of 3 processes, the most of them), "
        "other processes used 44% of the processors (noted in 1 of 3 processes, the most of them)"
    )


def test_of_each_kind_the_process_beside_which_others_worked_the_most_is_told():
    latency, request = {P50: timed(1.0)}, {"request_latency_p50_ms": timed(1.0)}
    shares = [
        (latency, {"latency": 0.4, "request": None}),
        (latency | request, {"latency": 0.1, "request": 0.2}),
        (request, {"latency": 0.9}),
    ]
    processes = [
        Process(
            metrics=metrics, environment=Environment(readings={"load": {kind: {"foreign_cpu_share": share} for kind, share in of.items()}})
        )
        for metrics, of in shares
    ]
    # the last one's latency was taken out, as where it is measured anew
    assert heaviest_load(processes) == {"latency": {"foreign_cpu_share": 0.4}, "request": {"foreign_cpu_share": 0.2}}
    assert heaviest_load([]) == {}


def process(milliseconds, *, name="serve_latency"):
    """What a process tells of its requests, as a record holds it."""
    metrics = percentiles(name, np.array(milliseconds) / 1e3)
    return {of: typed({"unit": "ms", **metric}, Metric, where="test", what="a metric") for of, metric in metrics.items()}


@pytest.mark.parametrize(("name", "n", "needed"), [(P95, 66, 200), (P99, 333, 1000)])
def test_a_percentile_takes_its_samples(name, n, needed):
    metric = over_processes([process([1.0] * n)] * 3)[name]
    assert (metric.value, metric.low, metric.high) == (None, None, None)
    assert metric.method == f"{3 * n} requests; it takes {needed} at least"
    assert over_processes([process([1.0] * (n + 1))] * 3)[name].value == 1.0


@pytest.mark.parametrize("of", ["serve_latency", "request_latency"])
def test_a_high_percentile_is_that_of_the_requests_of_all_processes(of):
    """One process of three is twice as slow: the median of the processes' own percentiles would not know."""
    random = np.random.default_rng(0)
    requests = [random.normal(slowness, 0.02, 67) for slowness in (1.0, 1.0, 2.0)]
    metric = over_processes([process(one, name=of) for one in requests])[f"{of}_p95_ms"]
    assert metric.value == pytest.approx(np.percentile(np.concatenate(requests), 95), rel=1e-4)
    assert metric.value > 2
    assert np.median([np.percentile(one, 95) for one in requests]) < 1.1
    assert (metric.n, metric.low, metric.high) == (201, None, None)
    assert metric.method.startswith("of the requests of 3 processes together: no interval; each: batch 1")


def test_a_process_has_a_percentile_of_its_own_where_it_has_the_requests_for_one():
    requests = [np.linspace(slowness, slowness + 0.2, 201) for slowness in (1.0, 1.0, 2.0)]
    metrics = over_processes([process(one) for one in requests])
    assert metrics[P95].method.startswith("of the requests of 3 processes together, whose own are 1.19 to 2.19: no interval; ")
    assert metrics[P99].value is None


def test_a_record_keeps_few_samples_and_a_percentile_is_hardly_another():
    requests = [np.random.default_rng(seed).lognormal(0, 0.5, 5000) for seed in range(3)]
    processes = [process(one) for one in requests]
    assert [len(one[P50].samples) for one in processes] == [300, 300, 300]
    found = over_processes(processes)
    for name, percentile in ((P95, 95), (P99, 99)):
        pooled = np.concatenate(requests)
        low, high = np.percentile(pooled, [percentile - 0.2, percentile + 0.2])
        assert low < found[name].value < high
    assert found[P50].samples == ()


def test_processes_that_kept_no_samples_are_not_pooled():
    """As those of older files."""
    metric = over_processes([{P50: timed(1.0), P95: timed(1.1)}, *[process([1.0] * 100)] * 2])[P95]
    assert (metric.value, metric.n) == (None, 300)
    assert metric.method == "single requests were not kept in every process, so the processes cannot be pooled"


def test_of_one_process_the_percentile_is_its_own():
    metric = over_processes([process(np.arange(1, 402))])[P95]
    assert (metric.value, metric.n) == (pytest.approx(381.0), 401)
    assert metric.method.startswith("one process, so no interval; ")
    untold = Metric(value=None, method="not told")
    assert over_processes([{P95: untold}] * 2)[P95] == untold


def test_samples_are_in_a_costs_file_and_a_metric_without_any_has_the_bytes_of_before():
    told = process([2.0, 1.0])
    cost = Cost(cost_key="k", status=Status.OK, shape={}, metrics=over_processes([told]), processes=(Process(metrics=told),))
    values = json.loads(to_json(cost))
    (kept,) = values["processes"]
    assert kept["metrics"][P50]["samples"] == [1.0, 2.0]
    assert not [name for name in (P95, P99) if "samples" in kept["metrics"][name]]
    assert not [name for name, metric in values["metrics"].items() if "samples" in metric]
    assert typed(values, Cost, where="test", what="a cost") == cost


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


@pytest.mark.parametrize("load", [None, 3, [], {"latency": 3}, {"latency": {"foreign_cpu_share": "much"}}])
def test_readings_of_another_form_stop_nothing(load):
    """Readings are free: a record of other hands may hold anything there."""
    sound = {"foreign_cpu_share": 0.2}
    processes = [
        Process(metrics={P50: timed(1.0)}, environment=Environment(readings={"load": each})) for each in (load, {"latency": sound}, load)
    ]
    assert heaviest_load(processes) == {"latency": sound}


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=6))
def test_the_median_lies_in_the_interval(values):
    low, high = interval_over_processes(values)
    assert low <= np.median(values) * (1 + 1e-9)
    assert high >= np.median(values) * (1 - 1e-9)


def test_of_values_that_hold_a_zero_the_interval_is_the_range():
    assert interval_over_processes([0, 5, 2]) == (0, 5)
    peaks = [{"serve_peak_bytes": Metric(value=value, unit="byte", n=1, method="VmHWM")} for value in (0, 5, 2)]
    assert over_processes(peaks)["serve_peak_bytes"].method.startswith("median of 3 processes, low and high are their range")
