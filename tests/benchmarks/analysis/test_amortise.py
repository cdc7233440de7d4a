import dataclasses

import numpy as np
import pytest
from fabricated_records import configured, fabricate
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.analysis.amortise import (
    BreakEven,
    Price,
    ages_of,
    break_even,
    flops_price,
    quality_over_ages,
    time_price,
    timed_break_even,
    weights_of_ages,
)
from benchmarks.cell import Cell
from benchmarks.report.names import name_all
from benchmarks.report.tables.amortisation import AGED_REQUESTS, aged_table

amounts = st.integers(0, 60).map(float)


def test_the_formula():
    assert Price(compress=100.0, serve=7.0).per_request(1) == 107.0
    assert Price(compress=100.0, serve=7.0).per_request(20) == (100 + 20 * 7) / 20


def test_no_request_has_no_price():
    with pytest.raises(ValueError, match=r"requests: 0 per refresh; expected above 0"):
        Price(compress=1.0, serve=1.0).per_request(0)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((90, 10), (0, 40), "from r = 3"),  # 90/3 + 10 = 40
        ((0, 40), (90, 10), "up to r = 3"),
        ((30, 10), (0, 40), "from r = 1"),
        ((10, 40), (0, 40), "never"),
        ((0, 40), (0, 40), "from r = 1"),
        ((0, 50), (5, 40), "never"),
        ((1_000_000, 1), (0, 2), "from r = 1,000,000"),
    ],
)
def test_break_even_by_hand(ours, theirs, said):
    assert str(break_even(Price(compress=ours[0], serve=ours[1]), Price(compress=theirs[0], serve=theirs[1]))) == said


@given(amounts, amounts, amounts, amounts)
def test_break_even_equals_trying_every_number(compress, serve, other_compress, other_serve):
    ours, theirs = Price(compress=compress, serve=serve), Price(compress=other_compress, serve=other_serve)
    found = break_even(ours, theirs)
    for r in range(1, 130):
        inside = found.first is not None and found.first <= r and (found.last is None or r <= found.last)
        assert inside == (compress + r * serve <= other_compress + r * other_serve)


def test_prices_of_a_configuration():
    (one,) = configured([fabricate(Cell(backbone="hstu", compression="experts", tokens=4))])
    assert flops_price(one) == Price(compress=one.cost("compress_flops").value, serve=one.cost("serve_flops").value)
    time = time_price(one).value
    assert time.serve == pytest.approx(1000 / one.cost("serve_users_per_second").value)
    assert time.compress == pytest.approx(1000 / one.cost("compress_users_per_second").value)


def timed(serve, compress, *, processes=3):
    """A configuration of these rates, of which ``(value, low, high)``."""
    record = fabricate(Cell(backbone="hstu", compression="experts", tokens=4))
    for name, (value, low, high) in (("serve", serve), ("compress", compress)):
        record["metrics"][f"{name}_users_per_second"] |= {"value": value, "low": low, "high": high}
    record["cost"]["processes"] = processes
    (one,) = configured([record])
    return time_price(one)


def test_a_break_even_in_time_is_known_between_its_worst_and_its_best():
    theirs = timed((100, 100, 100), (1000, 1000, 1000))  # 10 ms a request, 1 ms a refresh
    worst, best = timed_break_even(timed((200, 160, 250), (100, 80, 125)), theirs)  # 5 (4 to 6.25) ms, 10 (8 to 12.5) ms
    assert (str(worst), str(best)) == ("from r = 4", "from r = 2")  # 11.5 over 3.75, and 7 over 6
    worst, best = timed_break_even(timed((105, 90, 130), (100, 80, 125)), theirs)  # a request may take longer than theirs
    assert (str(worst), best.first is not None) == ("never", True)
    assert timed_break_even(timed((200, 160, 250), (100, 80, 125), processes=1), theirs) is None
    assert timed_break_even(theirs, timed((200, None, None), (100, None, None))) is None


def test_what_needs_no_refresh_pays_none():
    record = fabricate(Cell(backbone="hstu", compression="full", serving="recompute"))
    record["metrics"]["serve_users_per_second"] |= {"value": 100.0, "low": 80.0, "high": 125.0}
    (one,) = configured([record])
    assert flops_price(one).compress == 0
    price = time_price(one)
    assert (price.value, price.low, price.high) == tuple(Price(compress=0.0, serve=serve) for serve in (10.0, 8.0, 12.5))


def test_an_unmeasured_cost_has_no_price():
    record = fabricate(Cell(backbone="hstu", compression="experts", tokens=4))
    record["metrics"]["compress_flops"]["value"] = None
    record["metrics"]["compress_users_per_second"]["value"] = None
    (one,) = configured([record])
    assert flops_price(one) is None
    assert time_price(one) is None


def test_never_is_never():
    assert str(BreakEven(first=None)) == "never"


# Quality over the ages that a refresh rate implies

SERVED = Cell(backbone="hstu", compression="experts", history=64, recent=32, tokens=4)


def test_quality_over_ages_by_hand():
    assert weights_of_ages([0, 16], 1) == [1.0, 0.0]
    assert weights_of_ages([0, 16], 17) == pytest.approx([0.5, 0.5])  # the ages 0 to 16, evenly around 8
    assert weights_of_ages([0, 2, 4], 4) == pytest.approx([1.5 / 4, 2 / 4, 0.5 / 4])  # ages 0, 1, 2, 3


@given(st.sets(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 60))
def test_a_quality_that_falls_evenly_is_that_of_the_mean_age_and_nothing_is_extrapolated(ages, requests):
    measured = [0, *sorted(ages)]
    weights = weights_of_ages(measured, requests)
    if requests - 1 > measured[-1]:
        assert weights is None
        return
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert sum(weight * (0.3 - 0.004 * age) for weight, age in zip(weights, measured, strict=True)) == pytest.approx(
        0.3 - 0.004 * (requests - 1) / 2
    )


def test_without_the_fresh_history_there_is_no_quality_over_ages():
    assert weights_of_ages([8, 16], 4) is None
    assert weights_of_ages([], 1) is None


def test_ages_are_those_of_one_model_and_stay_paired():
    other = dataclasses.replace(SERVED, tokens=8)
    cells = [SERVED, other, dataclasses.replace(other, staleness=4), dataclasses.replace(SERVED, ablation="other_user", staleness=8)]
    cells += [dataclasses.replace(SERVED, staleness=age) for age in (16, 8)]
    found = configured([fabricate(cell) for cell in cells])
    own = next(one for one in found if one.cell.tokens == 4 and not one.changed)
    ages = ages_of(own, found)
    assert [one.cell.staleness for one in ages] == [0, 8, 16]
    fresh, older = (ages[place].quality("ndcg@10") for place in (0, 1))
    mean = quality_over_ages(ages, "ndcg@10", 9)  # the ages 0 to 8
    assert mean.value == pytest.approx((fresh.value + older.value) / 2)
    assert np.allclose(mean.replicates, (fresh.replicates + older.replicates) / 2)
    assert mean.low < mean.value < mean.high
    assert quality_over_ages(ages, "ndcg@10", 1).value == fresh.value
    beyond = quality_over_ages(ages, "ndcg@10", 18)
    assert (beyond.value, beyond.reason) == (None, "ages to 16 items measured, 17 needed")


def test_the_cost_of_a_request_stands_beside_its_quality_over_ages():
    cells = [SERVED, *(dataclasses.replace(SERVED, staleness=age) for age in (8, 20))]
    cells += [dataclasses.replace(SERVED, tokens=8), dataclasses.replace(SERVED, compression="full", tokens=0, serving="recompute")]
    found = configured([fabricate(cell) for cell in cells])
    table = aged_table(found, name_all(found), key="aged", caption="")
    own = next(one for one in found if one.cell.tokens == 4 and not one.changed)
    full = next(one for one in found if one.cell.compression == "full")
    assert {row.entries[0].text for row in table.rows} == {"HSTU · PerSRec, 4 tokens"}  # the model that was aged, once
    by_requests = {row.entries[1].order: row.entries for row in table.rows}
    assert tuple(by_requests) == AGED_REQUESTS
    price = flops_price(own)
    for requests, entries in by_requests.items():
        assert entries[2].order == price.per_request(requests)
        assert entries[3].order == price.per_request(requests) / full.cost("serve_flops").value
        assert (entries[4].order is None) == (requests - 1 > 20)
    assert by_requests[1][4].order == own.quality("ndcg@10").value
    assert by_requests[32][4].detail == "ages to 20 items measured, 31 needed"
    assert aged_table([one for one in found if not one.cell.staleness], name_all(found), key="aged", caption="") is None
