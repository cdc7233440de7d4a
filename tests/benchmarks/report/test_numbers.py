import pytest

from benchmarks.analysis.estimates import Estimate
from benchmarks.report import numbers


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("serve_flops", 0, "0 FLOP"),
        ("serve_flops", 999.0, "999 FLOP"),
        ("serve_flops", 999_999.0, "1.00 MFLOP"),
        ("serve_flops", 2_460_000.0, "2.46 MFLOP"),
        ("train_visible_flops", 1.5e12, "1.50 TFLOP"),
        ("serve_macs", 1_230_000.0, "1.23 MMAC"),
        ("cache_bytes", 768.0, "768 B"),
        ("cache_bytes", 1536.0, "1.50 KiB"),
        ("serve_peak_bytes", 3 * 2**30, "3.00 GiB"),
        ("serve_latency_p50_ms", 0.0456, "0.0456 ms"),
        ("serve_latency_p99_ms", 12_340.0, "12.3 s"),
        ("serve_users_per_second", 1234.5, "1,230/s"),
        ("serve_users_per_second", 51_200.0, "51.2 k/s"),
        ("padding_share", 0.214, "21.4%"),
        ("parameters", 153_000.0, "153 k"),
        ("serve_energy_j", 12.34, "12.3 J"),
        ("ndcg@10", 0.12345, "0.1235"),
    ],
)
def test_a_metric_in_its_unit(metric, value, text):
    assert numbers.quantity(metric, value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "50.0%"), (1.0, "100%"), (1.234, "123%"), (0.99949, "99.9%"), (0.9996, "100%"), (-0.02, "\N{MINUS SIGN}2.0%")]
)
def test_percent(value, text):
    assert numbers.percent(value) == text


def test_signs():
    assert numbers.ratio(0.01, signed=True) == "+0.0100"
    assert numbers.ratio(-0.01) == "\N{MINUS SIGN}0.0100"
    assert numbers.ratio(-0.000001, signed=True) == "+0.0000"


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.025, "+0.025"), (-0.1, "\N{MINUS SIGN}0.1")])
def test_axis_decimals(value, text):
    assert numbers.decimals(value, signed=True) == text


def test_intervals():
    assert numbers.with_interval(Estimate(value=0.5, low=0.4, high=0.6)) == "0.5000 (0.4000 to 0.6000)"
    assert numbers.with_interval(Estimate(value=0.5), "percent") == "50.0%"
    assert numbers.with_interval(Estimate(value=None, reason="crash")) == numbers.MISSING
