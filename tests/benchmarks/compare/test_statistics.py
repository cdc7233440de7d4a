"""The laws of the timing comparison, on fabricated log ratios: nothing here looks at a clock."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.compare import statistics as pairs
from benchmarks.compare.statistics import Rule
from benchmarks.findings import Verdict
from benchmarks.noise.rates import upper_bound

RULE = Rule(comparisons=20)
SPREAD = 0.04


@pytest.mark.parametrize("count", [3, 6, 9])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01])
def test_the_critical_sum_equals_a_count_over_all_signs(count, alpha):
    sums = [sum(rank for rank, sign in enumerate(signs, start=1) if sign) for signs in itertools.product((0, 1), repeat=count)]
    allowed = [limit for limit in range(count * (count + 1) // 2 + 1) if np.mean([found <= limit for found in sums]) <= alpha]
    assert pairs.critical(count, alpha) == (max(allowed) if allowed else None)


@pytest.mark.parametrize(("count", "alpha"), [(5, 0.05), (13, 0.0002), (20, 0.01), (30, 0.00001)])
def test_the_critical_sum_is_the_last_that_scipys_exact_test_rejects(count, alpha):
    limit = pairs.critical(count, alpha)
    chances = []
    for least in (limit, limit + 1):
        below, rest = set(), least  # ranks that sum to it: the signed-rank sum of what lies below 0
        for rank in range(count, 0, -1):
            if rank <= rest:
                below.add(rank)
                rest -= rank
        sample = [-rank if rank in below else rank for rank in range(1, count + 1)]
        chances.append(stats.wilcoxon(sample, alternative="greater", method="exact").pvalue)
    assert chances[0] <= alpha < chances[1]


def test_six_pairs_cannot_carry_twenty_comparisons():
    found = pairs.effect([0.2] * 6, RULE)
    assert (found.low, found.high) == (None, None)
    verdict, reason = pairs.judge(found, RULE)
    assert verdict is Verdict.AMBIGUOUS
    assert "at least 11" in reason
    assert pairs.least_pairs(RULE) == math.ceil(math.log2(20 / 0.01)) == 11


def test_the_estimate_and_its_bounds_by_hand():
    # averages of all two of 0, 1, 2: 0, 0.5, 1, 1, 1.5, 2; with 3 pairs, a bound at 1/8 is the outermost average
    found = pairs.effect([0.0, 2.0, 1.0], Rule(comparisons=1, level=1 / 8))
    assert (found.value, found.low, found.high) == pytest.approx((math.expm1(1.0), 0.0, math.expm1(2.0)))
    assert found.spread == pytest.approx(1.0)


@given(st.lists(st.floats(-0.5, 0.5), min_size=12, max_size=16), st.randoms())
def test_the_order_of_pairs_does_not_count_and_swapping_sides_mirrors(ratios, random):
    found = pairs.effect(ratios, RULE)
    shuffled = pairs.effect(random.sample(ratios, len(ratios)), RULE)
    assert (shuffled.low, shuffled.value, shuffled.high) == (found.low, found.value, found.high)
    mirrored = pairs.effect([-ratio for ratio in ratios], RULE)
    assert mirrored.low == pytest.approx(1 / (1 + found.high) - 1)
    assert mirrored.high == pytest.approx(1 / (1 + found.low) - 1)


def test_a_pair_too_few_or_a_number_that_is_none_is_refused():
    for ratios in ([0.1], [0.1, math.nan]):
        with pytest.raises(ValueError, match="ratios"):
            pairs.effect(ratios, RULE)


def verdicts(*, shift=0.0, spread=SPREAD, count=13, trials=1000, seed=1, heavy=False):
    random = np.random.default_rng(seed)
    noise = random.standard_t(3, size=(trials, count)) if heavy else random.normal(size=(trials, count))
    return [pairs.judge(pairs.effect(row, RULE), RULE)[0] for row in noise * spread + shift]


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("spread", [0.01, 0.04, 0.2])
def test_a_against_a_raises_no_alarm(spread, heavy):
    found = verdicts(spread=spread, heavy=heavy)
    alarms = sum(verdict in (Verdict.REGRESSION, Verdict.IMPROVED) for verdict in found)
    assert upper_bound(alarms, len(found)) < 0.01


def test_without_a_margin_alarms_come_as_rarely_as_the_bound_says():
    rule = Rule(comparisons=1, margin=0.0, level=0.05)
    random = np.random.default_rng(2)
    rows = random.standard_cauchy(size=(4000, 12))
    rate = np.mean([pairs.effect(row, rule).low > 0 for row in rows])
    assert 0.035 < rate <= 0.055  # exact for any symmetric noise; the sum is discrete, so a little below 5%


def test_a_fifth_slower_is_always_found_in_usual_noise():
    assert set(verdicts(shift=math.log(1.2), spread=0.02, trials=200)) == {Verdict.REGRESSION}
    assert set(verdicts(shift=-math.log(1.2), spread=0.02, trials=200)) == {Verdict.IMPROVED}


def test_a_slow_down_inside_the_margin_is_no_regression_however_sure():
    assert set(verdicts(shift=math.log(1.04), spread=0.001, trials=200)) == {Verdict.PASS}


def test_much_noise_is_ambiguous_and_no_pass():
    assert Verdict.AMBIGUOUS in set(verdicts(spread=0.2, trials=50))
    assert Verdict.PASS not in set(verdicts(spread=0.5, trials=50))


def test_the_power_calculation_holds_what_it_says():
    needed = pairs.pairs_needed(0.2, spread=SPREAD, rule=RULE)
    assert needed is not None
    found = verdicts(shift=math.log(1.2), count=needed, trials=2000)
    share = np.mean([verdict is Verdict.REGRESSION for verdict in found])
    assert share == pytest.approx(pairs.power(0.2, spread=SPREAD, pairs=needed, rule=RULE), abs=0.025)
    assert share >= pairs.POWER - 0.025


def test_more_noise_more_cells_and_smaller_effects_take_more_pairs():
    base = pairs.pairs_needed(0.2, spread=0.06, rule=RULE)
    assert pairs.pairs_needed(0.2, spread=0.12, rule=RULE) > base
    assert pairs.pairs_needed(0.1, spread=0.06, rule=RULE) > base
    assert pairs.pairs_needed(0.2, spread=0.06, rule=Rule(comparisons=500)) > base
    assert pairs.pairs_needed(0.05, spread=0.06, rule=RULE) is None  # the margin itself cannot be found
    assert pairs.power(0.2, spread=0.01, pairs=10, rule=RULE) == 0.0  # no bound, no finding


def test_the_smallest_effect_is_what_the_pairs_find():
    smallest = pairs.smallest_effect(spread=SPREAD, pairs=13, rule=RULE)
    assert smallest is not None
    assert RULE.margin < smallest < 0.2
    assert pairs.power(smallest, spread=SPREAD, pairs=13, rule=RULE) >= pairs.POWER
    assert pairs.power(smallest - 0.002, spread=SPREAD, pairs=13, rule=RULE) < pairs.POWER
    assert pairs.smallest_effect(spread=2.0, pairs=13, rule=RULE) is None
