import pytest

from benchmarks import text


@pytest.mark.parametrize(
    ("metric", "value", "said"),
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
def test_a_metric_in_its_unit(metric, value, said):
    assert text.quantity(metric, value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.5, "50.0%"),
        (1.0, "100%"),
        (1.234, "123%"),
        (0.99949, "99.9%"),
        (0.9996, "100%"),
        (-0.02, "\N{MINUS SIGN}2.0%"),
        (0.00049, "0.049%"),
        (-3e-5, "\N{MINUS SIGN}0.0030%"),
        (1e-9, "0.0%"),
    ],
)
def test_percent(value, said):
    assert text.percent(value) == said


def test_signs():
    assert text.ratio(0.01, signed=True) == "+0.0100"
    assert text.ratio(-0.01) == "\N{MINUS SIGN}0.0100"
    assert text.ratio(-0.000001, signed=True) == "+0.0000"


@pytest.mark.parametrize(("value", "said"), [(0.0, "0"), (0.025, "+0.025"), (-0.1, "\N{MINUS SIGN}0.1")])
def test_axis_decimals(value, said):
    assert text.decimals(value, signed=True) == said


@pytest.mark.parametrize("value", [1.7976931348623157e308, 5e-324, -1e300, float("inf"), float("nan")])
def test_no_number_is_too_large_or_too_small_to_be_written(value):
    shown = {
        form(value)
        for form in (
            text.flops,
            text.nbytes,
            text.milliseconds,
            text.rate,
            text.count,
            text.change,
            text.significant,
            text.ratio,
            text.percent,
        )
    }
    assert all(0 < len(said) < 40 for said in shown)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "+0%"), (0.034, "+3.4%"), (-0.0012, "\N{MINUS SIGN}0.12%"), (0.00001, "+0%"), (1.5, "+150.0%"), (12.0, "+1,200.0%")],
)
def test_a_change(value, said):
    assert text.change(value) == said


@pytest.mark.parametrize(("value", "said"), [(1234567.0, "1,234,567"), (0.1234567, "0.123457"), (-2, "\N{MINUS SIGN}2")])
def test_exact_numbers(value, said):
    assert text.exact(value) == said


def test_markdown_takes_nothing_for_its_own():
    assert text.literal("a|b\n`c` *d* [e](f)\x1b[31m") == r"a\|b \`c\` \*d\* \[e\](f) \[31m"


def test_lists_and_sentences():
    assert [text.listed(names) for names in ((), ("a",), ("a", "b"), ("a", "b", "c"))] == ["", "a", "a and b", "a, b and c"]
    assert text.sentence("cost of NDCG") == "Cost of NDCG"
