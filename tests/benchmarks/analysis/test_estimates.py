import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import text
from benchmarks.analysis.estimates import Estimate, difference, over_seeds, recovered, retention, with_interval


def estimate(value: float, replicates: list[float], *, sample: str = "same") -> Estimate:
    low, high = np.percentile(replicates, (2.5, 97.5))
    return Estimate(value=value, low=float(low), high=float(high), n=10, seeds=(1,), replicates=np.array(replicates), sample=sample)


def test_one_seed_keeps_its_replicates():
    rows = np.array([[0.1, 0.2, 0.3]])
    assert over_seeds(rows).tolist() == [0.1, 0.2, 0.3]


def test_seeds_are_drawn_with_replacement_inside_a_replicate():
    rows = np.array([[1.0] * 4000, [0.0] * 4000])
    combined = over_seeds(rows)
    # two of two seeds with replacement: both first 1/4, one of each 1/2, both second 1/4
    shares = [float((combined == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert (over_seeds(rows) == combined).all()


@given(st.integers(1, 5), st.integers(2, 30))
def test_a_replicate_never_leaves_the_range_of_its_seeds(seeds, replicates):
    rows = np.random.default_rng(3).random((seeds, replicates))
    combined = over_seeds(rows)
    assert ((combined >= rows.min(axis=0) - 1e-12) & (combined <= rows.max(axis=0) + 1e-12)).all()


def test_a_difference_is_taken_replicate_by_replicate():
    ours, theirs = estimate(0.30, [0.2, 0.3, 0.42]), estimate(0.20, [0.1, 0.2, 0.3])
    found = difference(ours, theirs)
    assert found.value == pytest.approx(0.1)
    low, high = np.percentile([0.1, 0.1, 0.12], (2.5, 97.5))  # unpaired it would reach from -0.1 to 0.32
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert not found.holds_zero


def test_other_users_are_not_paired():
    found = difference(estimate(0.3, [0.2, 0.4]), estimate(0.2, [0.1, 0.3], sample="other"))
    assert found.value == pytest.approx(0.1)
    assert found.low is None
    assert "different users" in found.reason
    assert found.holds_zero


def test_retention_is_the_share_of_full_quality():
    found = retention(estimate(0.18, [0.16, 0.20]), estimate(0.20, [0.20, 0.20]))
    assert found.value == pytest.approx(0.9)
    assert found.low == pytest.approx(0.8 + 0.2 * 0.025)
    assert found.high == pytest.approx(1.0 - 0.2 * 0.025)


def test_retention_of_nothing_is_undefined():
    found = retention(estimate(0.18, [0.16, 0.20]), estimate(0.0, [0.0, 0.01]))
    assert found.value is None
    assert found.reason.startswith("undefined")


def test_recovered_is_the_share_of_the_long_historys_value():
    no_token, full = estimate(0.10, [0.10, 0.12]), estimate(0.20, [0.20, 0.20])
    found = recovered(estimate(0.175, [0.170, 0.184]), no_token, full)
    assert found.value == pytest.approx(0.75)  # 0.075 of 0.1
    low, high = 0.07 / 0.1, 0.064 / 0.08
    assert (found.low, found.high) == (pytest.approx(low + 0.025 * (high - low)), pytest.approx(high - 0.025 * (high - low)))


@pytest.mark.parametrize(
    ("full", "said"),
    [
        (estimate(0.11, [0.09, 0.13]), "holds 0"),
        (estimate(0.05, [0.04, 0.06]), "worse than the no-token layout"),
        (Estimate(value=0.2, reason="no replicates"), "no interval"),
        (Estimate(value=None, reason="no full-history cell"), "no full-history cell"),
    ],
)
def test_recovered_is_undefined_where_the_denominator_says_nothing(full, said):
    found = recovered(estimate(0.15, [0.15, 0.16]), estimate(0.10, [0.10, 0.10]), full)
    assert found.value is None
    assert said in found.reason


def test_intervals():
    assert with_interval(Estimate(value=0.5, low=0.4, high=0.6)) == "0.5000 (0.4000 to 0.6000)"
    assert with_interval(Estimate(value=0.5), "percent") == "50.0%"
    assert with_interval(Estimate(value=None, reason="crash")) == text.MISSING
