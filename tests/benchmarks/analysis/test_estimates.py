import numpy as np
import pytest

from benchmarks import text
from benchmarks.analysis.estimates import Estimate, difference, interval_of, interval_over, mean_of, recovered, retention, with_interval
from persrec.names import INTERVAL


def estimate(value: float, replicates: list[float], *, sample: str = "same") -> Estimate:
    low, high = np.percentile(replicates, (2.5, 97.5))
    return Estimate(value=value, low=float(low), high=float(high), n=10, seeds=(1,), replicates=np.array(replicates), sample=sample)


def of_rows(values: list[float], rows: list[list[float]], *, seeds: tuple[int, ...]) -> Estimate:
    """As a configuration has it: replicates of each seed."""
    mean, over_users = float(np.mean(values)), np.mean(rows, axis=0)
    low, high = interval_over(mean, values, over_users)
    by_seed = {"seeds": seeds, "by_seed": tuple(values), "replicates_by_seed": tuple(map(np.array, rows))}
    return Estimate(value=mean, low=low, high=high, n=100, replicates=over_users, sample="same", **by_seed)


def seeded(values: list[float], replicates: list[float], *, seeds: tuple[int, ...] = (1, 2, 3)) -> Estimate:
    mean = float(np.mean(values))
    low, high = interval_over(mean, values, np.array(replicates))
    return Estimate(
        value=mean, low=low, high=high, n=100, seeds=seeds, by_seed=tuple(values), replicates=np.array(replicates), sample="same"
    )


def test_one_seed_has_the_interval_over_users():
    users = [0.1, 0.2, 0.3]
    assert interval_over(0.2, [0.2], np.array(users)) == pytest.approx(tuple(np.percentile(users, (2.5, 97.5))))


def test_three_seeds_have_students_interval_where_it_is_wider():
    # SD of 0.1, 0.2, 0.3 is 0.1; 4.303 x 0.1 / sqrt(3) = 0.2484
    low, high = interval_over(0.2, [0.1, 0.2, 0.3], np.array([0.19, 0.21]))
    assert (low, high) == pytest.approx((0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)
    assert interval_over(0.2, [0.2, 0.2, 0.2], np.array([0.1, 0.3])) == pytest.approx((0.105, 0.295))


def test_a_difference_between_trained_models_is_paired_by_seed():
    ours, theirs = seeded([0.11, 0.22, 0.33], [0.21, 0.23]), seeded([0.1, 0.2, 0.3], [0.2, 0.2])
    found = difference(ours, theirs)
    assert found.by_seed == pytest.approx((0.01, 0.02, 0.03))
    half = 4.3027 * 0.01 / np.sqrt(3)  # wider than 0.01 to 0.03 over users
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-5)
    assert (found.of_one_seed, found.sign) == (False, 0)


def test_one_seed_decides_nothing_between_trained_models():
    ours, theirs = seeded([0.3], [0.29, 0.31], seeds=(1,)), seeded([0.2], [0.2, 0.2], seeds=(1,))
    found = difference(ours, theirs)
    assert not found.holds_zero
    assert (found.of_one_seed, found.sign) == (True, 0)


@pytest.mark.parametrize(("count", "sign"), [(2, 0), (3, 1)])
def test_a_verdict_takes_three_seeds(count, sign):
    seeds = tuple(range(1, count + 1))
    ours = seeded([0.3 + 1e-6 * seed for seed in seeds], [0.29, 0.31], seeds=seeds)
    found = difference(ours, seeded([0.2] * count, [0.2, 0.2], seeds=seeds))
    assert not found.holds_zero
    assert (found.of_few_seeds, found.sign) == (count < 3, sign)


def test_seeds_that_only_one_side_has_are_no_pairs():
    found = difference(seeded([0.3, 0.3], [0.29, 0.31], seeds=(1, 2)), seeded([0.2, 0.2], [0.2, 0.2], seeds=(2, 3)))
    assert (found.seeds, found.of_one_seed) == ((2,), True)


def test_a_seed_that_one_side_lacks_has_no_part_in_what_is_compared():
    ours = of_rows([0.100, 0.104, 0.900], [[0.09, 0.11], [0.10, 0.12], [0.8, 1.0]], seeds=(1, 2, 3))
    theirs = of_rows([0.100, 0.102], [[0.09, 0.11], [0.10, 0.11]], seeds=(1, 2))
    found = difference(ours, theirs)
    assert (found.value, found.seeds) == (pytest.approx(0.001), (1, 2))
    assert found.value == pytest.approx(np.mean(found.by_seed))
    assert found.replicates == pytest.approx(np.array([0.0, 0.005]))
    assert found.sign == 0
    assert difference(theirs, ours).value == pytest.approx(-0.001)
    assert retention(theirs, ours).value == pytest.approx(0.101 / 0.102)
    no_token, full = of_rows([0.05, 0.9], [[0.05, 0.06], [0.9, 0.8]], seeds=(2, 9)), of_rows([0.2], [[0.19, 0.205]], seeds=(2,))
    assert recovered(ours, no_token, full).value == pytest.approx((0.104 - 0.05) / (0.2 - 0.05))
    assert mean_of([ours, theirs], [1.0, 1.0]).value == pytest.approx(0.102 + 0.101)


def test_without_a_seed_in_common_nothing_is_paired():
    found = difference(seeded([0.3], [0.29, 0.31], seeds=(1,)), seeded([0.2], [0.2, 0.2], seeds=(2,)))
    assert (found.value, found.low, found.reason) == (pytest.approx(0.1), None, "not paired: no seed in common")
    one = of_rows([0.3, 0.4], [[0.3, 0.31], [0.39, 0.41]], seeds=(1, 2))
    other = of_rows([0.1, 0.3], [[0.1, 0.12], [0.3, 0.33]], seeds=(1, 2))
    of_pair = difference(difference(one, other), seeded([0.2], [0.2, 0.3], seeds=(2,)))  # what was derived keeps no rows
    assert (of_pair.value, of_pair.low) == (pytest.approx(0.1 - 0.2), None)
    assert "of other seeds" in of_pair.reason


def test_what_learns_nothing_goes_with_every_seed():
    floor = Estimate(value=0.1, low=0.09, high=0.11, replicates=np.array([0.1, 0.1]), sample="same", seeds=(1,), by_seed=(0.1,), fixed=True)
    found = difference(seeded([0.2, 0.21, 0.22], [0.2, 0.22]), floor)
    assert found.by_seed == pytest.approx((0.1, 0.11, 0.12))
    assert found.sign == 1
    assert difference(floor, floor).fixed


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
        (estimate(0.11, [0.09, 0.13]), "+0.0100"),
        (estimate(0.05, [0.04, 0.06]), "the smallest detectable difference is 0.0095"),
        (estimate(0.14, [0.13, 0.15]), "the smallest detectable difference is 0.0095"),  # 0.04 is below 5 x 0.0095
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


@pytest.mark.parametrize("size", [2, 3, 41, 500, 1001])
def test_an_interval_is_the_percentiles_that_numpy_takes(size):
    for seed in range(20):
        replicates = np.random.default_rng(seed).normal(0.3, 0.1, size)
        assert interval_of(replicates) == tuple(np.percentile(replicates, INTERVAL))
