"""Which configurations fit a budget: bounds, ranking, what binds, and what takes the share's place where there is no frontier."""

import dataclasses

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.advice import Budget, advise, full_history
from benchmarks.cell import Cell

FULL = Cell(backbone="hstu", compression="full")
SHORT = Cell(backbone="hstu", compression="full", history=64)
CONTROL = Cell(backbone="hstu", compression="experts", tokens=0)
FLOOR = Cell(backbone="popularity", compression="none", training="none")


def tokens(count: int, **settings) -> Cell:
    return Cell(backbone="hstu", compression="experts", tokens=count, **settings)


def valued(cell: Cell, quality: float, *, latency: float = 2.0, cache: int = 1000, spread: float = 0.002, **changes) -> dict:
    """A record of this quality, latency and cache; the replicates lie evenly around the quality."""
    record = fabricate(cell, **changes)
    half = 0.95 * spread * (1 + cell.tokens)
    record["metrics"]["ndcg@10"] |= {"value": quality, "low": quality - half, "high": quality + half}
    record["replicates"]["means"]["ndcg@10"] = [quality + spread * (place / 50 - 1) * (1 + cell.tokens) for place in range(101)]
    if record["model"]:
        record["model"]["validation"] = quality
    for percentile in (50, 95, 99):  # those of the backbone alone are what is asked of
        del record["metrics"][f"request_latency_p{percentile}_ms"]
    for name, value in (("serve_latency_p95_ms", latency), ("serve_latency_p50_ms", latency / 2), ("cache_bytes", cache)):
        record["metrics"][name]["value"] = value
    return record


RUN = [
    valued(FULL, 0.200, cache=90_000),
    valued(SHORT, 0.150, cache=20_000),
    valued(CONTROL, 0.100, cache=0),
    valued(tokens(4), 0.190, latency=1.0, cache=4000),
    valued(tokens(8), 0.196, latency=3.0, cache=8000),
    valued(tokens(16), 0.199, latency=6.0, cache=16_000),
    fabricate(FLOOR),
]


def tokens_of(choices) -> list[int]:
    return [choice.configuration.cell.tokens for choice in choices]


def test_what_meets_every_bound_fits_and_the_cheapest_is_first():
    advice = advise(configured(RUN), Budget(max_latency_ms=5.0, max_cache_bytes=10_000, min_retention=0.94))
    assert tokens_of(advice.fits) == [4, 8]
    assert [choice.flops for choice in advice.fits] == sorted(choice.flops for choice in advice.fits)
    assert advice.chosen_by == "cost"
    assert FLOOR.backbone not in {choice.configuration.cell.backbone for choice in (*advice.fits, *advice.misses, *advice.unknown)}


def test_the_bound_with_the_least_to_spare_binds():
    (first, second) = advise(configured(RUN), Budget(max_latency_ms=5.0, max_cache_bytes=10_000, min_retention=0.94)).fits
    assert (first.binding.asked, second.binding.asked) == ("retention", "retention")
    assert first.binding.spare == pytest.approx(0.95 / 0.94 - 1)
    loose = advise(configured(RUN), Budget(max_latency_ms=3.3, max_cache_bytes=10_000)).fits
    by_tokens = {choice.configuration.cell.tokens: choice.binding for choice in loose if choice.configuration.cell.tokens}
    assert (by_tokens[8].asked, by_tokens[8].spare) == ("latency", pytest.approx(0.3 / 3.3))


def test_the_nearest_miss_is_first_where_nothing_fits():
    advice = advise(configured(RUN), Budget(max_latency_ms=2.9, max_cache_bytes=9000, min_retention=0.97))
    assert advice.fits == ()
    assert tokens_of(advice.misses)[:2] == [4, 8]  # misses the share by 2.1%, and the latency by 3.4%
    assert advice.misses[0].binding.spare == pytest.approx(0.95 / 0.97 - 1)


def test_a_share_is_of_full_history_at_the_longest_window_and_not_of_ones_own():
    among = configured(RUN)
    reference, why = full_history(among, "ndcg@10")
    assert (reference.window, why) == (FULL.history + FULL.recent, "")
    advice = advise(among, Budget(min_retention=0.9))
    assert SHORT not in {dataclasses.replace(choice.configuration.cell, seed=1) for choice in advice.fits}
    short = next(choice for choice in advice.misses if choice.configuration.window == SHORT.history + SHORT.recent)
    assert short.kept.value == pytest.approx(0.75)


def test_a_short_window_that_does_better_on_validation_is_no_full_history():
    short = valued(SHORT, 0.150)
    short["model"]["validation"] = 0.9
    reference, _ = full_history(configured([RUN[0], short, RUN[2]]), "ndcg@10")
    assert reference.window == FULL.history + FULL.recent


def test_a_bound_that_holds_at_the_value_and_not_at_the_end_of_the_interval_says_so():
    (wide,) = [choice for choice in advise(configured(RUN), Budget(min_quality=0.189)).fits if choice.configuration.cell.tokens == 4]
    (check,) = wide.checks
    assert (check.holds, check.surely) == (True, False)
    (sure,) = [choice for choice in advise(configured(RUN), Budget(min_quality=0.17)).fits if choice.configuration.cell.tokens == 4]
    assert sure.checks[0].surely


def test_an_upper_bound_is_sure_where_the_high_end_of_the_interval_meets_it():
    records = [valued(FULL, 0.2), valued(CONTROL, 0.1), valued(tokens(4), 0.19)]
    records[2]["metrics"]["serve_latency_p50_ms"] |= {"value": 4.0, "low": 3.0, "high": 6.0}
    for limit, surely in ((5.0, False), (7.0, True)):
        budget = Budget(max_latency_ms=limit, percentile=50)
        (choice,) = [one for one in advise(configured(records), budget).fits if one.configuration.cell.tokens == 4]
        assert (choice.checks[0].holds, choice.checks[0].surely) == (True, surely)


def test_without_a_frontier_a_quality_is_offered_in_place_of_a_share():
    flat = [valued(FULL, 0.1000, spread=0.02), valued(CONTROL, 0.1001, spread=0.01), valued(tokens(4), 0.1)]
    advice = advise(configured(flat), Budget(min_retention=0.97))
    assert (advice.fits, advice.misses, len(advice.unknown)) == ((), (), 3)
    assert "worth nothing that could be measured" in advice.no_share
    assert advice.offered == pytest.approx(0.097)
    assert advise(configured(flat), Budget(min_quality=advice.offered)).fits


def test_of_cost_alone_no_share_and_no_quality_can_be_asked_for():
    records = [fabricate(dataclasses.replace(cell, training="none")) for cell in (FULL, tokens(4))]
    for record in records:
        record["metrics"] = {name: one for name, one in record["metrics"].items() if "@" not in name and name != "mrr"}
        record["replicates"] = None
    advice = advise(configured(records), Budget(min_retention=0.9))
    assert (advice.no_share, advice.offered) == ("no quality was measured, cost alone", None)
    assert len(advise(configured(records), Budget(max_cache_bytes=1e9)).fits) == 2


def test_a_budget_on_cost_alone_ranks_by_validation():
    records = [dict(record) for record in RUN]
    best_on_validation = valued(tokens(4), 0.190, latency=1.0, cache=4000)
    best_on_validation["model"]["validation"] = 0.9
    records[3] = best_on_validation
    advice = advise(configured(records), Budget(max_latency_ms=9.0))
    assert (advice.chosen_by, advice.fits[0].configuration.cell.tokens) == ("validation", 4)


def test_a_failed_cell_and_one_whose_ledger_disagrees_are_no_choice():
    records = [*RUN[:3], fabricate(tokens(4), status="oom"), fabricate(tokens(8), agrees=False)]
    advice = advise(configured(records), Budget())
    assert {choice.configuration.cell.tokens for choice in advice.fits} == {0}


def test_a_model_that_had_not_converged_is_marked():
    record = valued(tokens(4), 0.19)
    record["model"]["converged"] = False
    advice = advise(configured([*RUN[:3], record]), Budget(min_retention=0.9))
    marked = {choice.configuration.cell.tokens: choice.unsettled for choice in advice.fits}
    assert marked[4] == ("not converged",)


def test_the_whole_request_is_held_against_the_bound_where_all_have_it():
    assert advise(configured(RUN), Budget(max_latency_ms=5.0)).latency == "serve_latency_p95_ms"
    records = [valued(cell, 0.2) for cell in (FULL, tokens(4))]
    for record in records:
        record["metrics"]["request_latency_p95_ms"] = {**record["metrics"]["serve_latency_p95_ms"], "value": 7.0}
    advice = advise(configured(records), Budget(max_latency_ms=5.0))
    assert (advice.latency, advice.fits) == ("request_latency_p95_ms", ())


def test_a_refresh_is_paid_by_the_requests_that_share_it():
    one, ten = (advise(configured(RUN), Budget(min_retention=0.9, requests_per_refresh=count)) for count in (1, 10))
    by_tokens = [{choice.configuration.cell.tokens: choice.flops for choice in advice.fits} for advice in (one, ten)]
    assert by_tokens[1][4] < by_tokens[0][4] / 2
    assert any(choice.is_fresh for choice in ten.fits)  # no age was measured
    assert not any(choice.is_fresh for choice in one.fits)


def test_refreshes_that_nobody_asks_behind_are_paid_too():
    half, one = (advise(configured(RUN), Budget(min_retention=0.9, requests_per_refresh=count)) for count in (0.5, 1))
    once = {choice.configuration.key: choice.flops for choice in one.fits}
    assert once.keys() == {choice.configuration.key for choice in half.fits}
    for choice in half.fits:
        compress = choice.configuration.cost("compress_flops").value
        assert choice.flops == pytest.approx(once[choice.configuration.key] + compress)
        assert not choice.is_fresh


def test_quality_is_that_of_the_ages_of_a_refresh_where_they_were_measured():
    aged = valued(tokens(4, staleness=8), 0.11)
    advice = advise(configured([*RUN, aged]), Budget(min_quality=0.0001, requests_per_refresh=9))
    chosen = next(choice for choice in (*advice.fits, *advice.misses) if choice.configuration.cell.tokens == 4)
    assert chosen.quality.value == pytest.approx((0.19 + 0.11) / 2)
    assert not chosen.is_fresh


def test_a_coarser_cache_of_full_history_is_not_what_shares_are_of():
    coarse = valued(dataclasses.replace(FULL, cache_dtype="bfloat16"), 0.150)
    coarse["model"]["validation"] = RUN[0]["model"]["validation"]
    reference, _ = full_history(configured([*RUN, coarse]), "ndcg@10")
    assert reference.cell.cache_dtype == "float32"
