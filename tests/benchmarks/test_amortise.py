import pytest
from fabricated_records import fabricate
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.amortise import BreakEven, Price, break_even, flops_price, time_price
from benchmarks.cell import Cell
from benchmarks.paired import configurations

amounts = st.integers(0, 60).map(float)


def test_the_formula():
    assert Price(compress=100.0, serve=7.0).per_request(1) == 107.0
    assert Price(compress=100.0, serve=7.0).per_request(20) == (100 + 20 * 7) / 20


def test_no_request_has_no_price():
    with pytest.raises(ValueError, match=r"requests: 0 per refresh is less than 1"):
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
    (one,) = configurations([fabricate(Cell(backbone="hstu", compression="experts", tokens=4))])
    assert flops_price(one) == Price(compress=one.cost("compress_flops").value, serve=one.cost("serve_flops").value)
    time = time_price(one)
    assert time.serve == pytest.approx(1000 / one.cost("serve_users_per_second").value)
    assert time.compress == pytest.approx(1000 / one.cost("compress_users_per_second").value)


def test_what_needs_no_refresh_pays_none():
    (one,) = configurations([fabricate(Cell(backbone="hstu", compression="full", serving="recompute"))])
    assert flops_price(one).compress == 0
    assert time_price(one).compress == 0.0


def test_an_unmeasured_cost_has_no_price():
    record = fabricate(Cell(backbone="hstu", compression="experts", tokens=4))
    record["metrics"]["compress_flops"]["value"] = None
    record["metrics"]["compress_users_per_second"]["value"] = None
    (one,) = configurations([record])
    assert flops_price(one) is None
    assert time_price(one) is None


def test_never_is_never():
    assert str(BreakEven(first=None)) == "never"
