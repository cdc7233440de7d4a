import dataclasses
import itertools

import numpy as np
import pytest
from fabricated_records import configured, fabricate, grid_cells
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.analysis.estimates import Estimate
from benchmarks.analysis.frontier import (
    COSTS,
    _cost_draws,
    decades,
    domination_probability,
    frontier,
    hypervolume,
    hypervolume_of,
    non_dominated,
)
from benchmarks.cell import Cell

few = st.integers(1, 7)
grid = st.integers(0, 4).map(float)  # few values, so that ties are common


@st.composite
def points(draw):
    n = draw(few)
    costs = draw(arrays(np.float64, n, elements=grid))
    qualities = draw(arrays(np.float64, (n, draw(few)), elements=grid))
    return costs, qualities


def dominates(cost_a, quality_a, cost_b, quality_b):
    return cost_a <= cost_b and quality_a >= quality_b and (cost_a < cost_b or quality_a > quality_b)


@given(points())
def test_non_dominated_equals_brute_force(drawn):
    costs, qualities = drawn
    expected = [
        [
            not any(dominates(costs[j], qualities[j, b], costs[i], qualities[i, b]) for j in range(len(costs)))
            for b in range(qualities.shape[1])
        ]
        for i in range(len(costs))
    ]
    assert non_dominated(costs, qualities).tolist() == expected
    assert non_dominated(costs, qualities[:, 0]).tolist() == [row[0] for row in expected]


@given(points())
def test_domination_probability_equals_brute_force(drawn):
    costs, qualities = drawn
    n, draws = qualities.shape
    expected = np.zeros((n, n))
    for i, j, b in itertools.product(range(n), range(n), range(draws)):
        expected[i, j] += dominates(costs[j], qualities[j, b], costs[i], qualities[i, b]) / draws
    assert domination_probability(costs, qualities) == pytest.approx(expected)


def test_a_timed_cost_is_drawn_as_its_interval_says():
    drawn = _cost_draws([Estimate(value=2.0, low=1.0, high=4.0), Estimate(value=3.0)], 50_000)
    assert np.quantile(drawn[0], [0.025, 0.5, 0.975]) == pytest.approx([1.0, 2.0, 4.0], rel=0.03)
    assert set(drawn[1]) == {3.0}


@given(points())
def test_hypervolume_equals_counting_unit_squares(drawn):
    costs, qualities = drawn
    for column, area in zip(qualities.T, hypervolume(costs, qualities, reference=(4.0, 1.0)), strict=True):
        squares = sum(
            any(cost <= x and quality >= y + 1 for cost, quality in zip(costs, column, strict=True))
            for x, y in itertools.product(range(4), range(1, 4))
        )
        assert area == pytest.approx(squares)


def test_hypervolume_by_hand():
    # (1, 2) dominates 2 wide to the next point and 1 to the reference; (3, 5) lifts the last unit to 5
    area = hypervolume(np.array([3.0, 1.0]), np.array([[5.0], [2.0]]), reference=(4.0, 0.0))
    assert area.tolist() == [2.0 * 2 + 5.0 * 1]


def test_decades_take_what_is_free_as_one():
    assert decades(np.array([0.0, 0.1, 1.0, 1000.0])).tolist() == [0.0, -1.0, 0.0, 3.0]  # a time may be less than a unit


def made(quality: float, *, spread: float = 0.001, flops: float = 100.0, **settings: object):
    """A record with this quality (replicates spread evenly around it) and these serving FLOPs."""
    record = fabricate(
        Cell(**({"backbone": "hstu", "compression": "experts", "tokens": 4} | settings)), agrees=settings.get("tokens") != 64
    )  # type: ignore[arg-type]
    for metric in ("ndcg@10", "recall@10"):
        record["metrics"][metric]["value"] = quality
        record["replicates"]["means"][metric] = np.linspace(quality - spread, quality + spread, 101).tolist()
    record["model"]["validation"] = quality
    record["metrics"]["serve_flops"]["value"] = flops
    return record


def stand(records):
    found = frontier(configured(records), cost="serve_flops", metric="ndcg@10")
    return found, {s.configuration.cell.tokens: s for s in found.standings}


def three(seeds=(1, 2, 3), **model):
    """A dear and bad one, a cheap and better one (other settings of its model as given), and a dear one that is best."""
    records = []
    for seed in seeds:
        records.append(made(0.1, tokens=1, flops=10, seed=seed))
        records.append(made(0.2 + 0.001 * seed, tokens=2, flops=5, spread=0.002, seed=seed))
        records[-1]["model"] |= model
        records.append(made(0.3, tokens=3, flops=20, seed=seed))
    return records


def test_a_cheaper_and_better_rival_is_named():
    _, standings = stand(three())
    assert [tokens for tokens, standing in standings.items() if standing.on_frontier] == [2, 3]
    # the seeds' gaps are 0.101, 0.102 and 0.103: 4.30 x 0.001 / sqrt 3 is far below 0.1
    assert standings[1].dominated_by is standings[2].configuration
    assert (standings[1].probability, standings[2].probability) == (0.0, 1.0)
    assert standings[2].dominated_by is None


@pytest.mark.parametrize("model", [{"converged": False}, {"steps": 50, "converged": None}])
def test_nothing_is_dominated_for_sure_by_what_was_trained_otherwise(model):
    _, standings = stand(three(**model))
    assert standings[1].dominated_by is None


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_one_seed_or_two_dominate_nobody_for_sure(seeds):
    _, standings = stand(three(seeds=seeds))
    assert (standings[1].dominated_by, standings[1].on_frontier) == (None, False)


def test_the_same_ranks_at_a_lower_cost_dominate_for_sure():
    dear, cheap = made(0.2, tokens=1, flops=10), made(0.2, tokens=2, flops=5)
    _, standings = stand([dear, cheap])
    assert standings[1].dominated_by is standings[2].configuration


def test_a_point_that_validation_flatters_takes_area_away():
    honest, flattered = made(0.2, tokens=1, flops=10), made(0.1, tokens=2, flops=100)
    flattered["model"]["validation"] = 0.3
    dearest = made(0.05, tokens=3, flops=1000)
    with_it, without = stand([honest, flattered, dearest])[0], stand([honest, dearest])[0]
    assert without.hypervolume.value == pytest.approx(0.2 * 2)  # two decades
    assert with_it.hypervolume.value == pytest.approx(0.2 + 0.1)
    alone = hypervolume_of(configured([honest, flattered, dearest]), cost="serve_flops", metric="ndcg@10", reference=with_it.reference)
    assert (alone.value, alone.low, alone.high) == (with_it.hypervolume.value, with_it.hypervolume.low, with_it.hypervolume.high)


def test_a_rival_that_wins_half_the_draws_dominates_nobody():
    better, worse = made(0.20, tokens=1, flops=10), made(0.19, tokens=2, flops=10)
    worse["replicates"]["means"]["ndcg@10"] = worse["replicates"]["means"]["ndcg@10"][:]
    better["replicates"]["means"]["ndcg@10"] = [0.18 if draw % 2 else 0.22 for draw in range(101)]
    _, standings = stand([better, worse])
    assert standings[1].on_frontier
    assert not standings[2].on_frontier
    assert standings[2].probability == pytest.approx(50 / 101)
    assert standings[2].dominated_by is None


def test_equals_share_the_frontier():
    _, standings = stand([made(0.2, tokens=1), made(0.2, tokens=2)])
    assert all(standing.on_frontier and standing.probability == 1.0 for standing in standings.values())


def test_a_disagreeing_ledger_neither_wins_nor_pushes_others_off():
    found, standings = stand([made(0.1, tokens=1, flops=10), made(0.9, tokens=64, flops=1)])
    assert set(standings) == {1}
    assert standings[1].on_frontier
    assert [(one.cell.tokens, reason) for one, reason in found.excluded] == [(64, "its FLOP ledger disagrees by over 1%")]


def test_who_lacks_cost_or_quality_is_excluded_with_the_reason():
    no_cost, no_quality = made(0.1, tokens=1), made(0.1, tokens=2)
    no_cost["metrics"]["serve_flops"] |= {"value": None, "method": "not priced"}
    del no_quality["metrics"]["ndcg@10"]
    found, standings = stand([no_cost, no_quality, made(0.1, tokens=3)])
    assert set(standings) == {3}
    assert [reason for _, reason in found.excluded] == ["serve_flops: not priced", "ndcg@10: not measured"]


def test_nothing_to_stand_on_it():
    found = frontier([], cost="serve_flops", metric="ndcg@10")
    assert found.standings == ()
    assert found.hypervolume.value is None


def test_the_reference_is_the_dearest_and_quality_zero():
    found, _ = stand([made(0.1, tokens=1, flops=10), made(0.3, tokens=2, flops=100), made(0.2, tokens=3, flops=1000)])
    assert found.reference == (3.0, 0.0)
    assert found.hypervolume.value == pytest.approx(0.1 * 1 + 0.3 * 1)


def test_a_free_cost_can_be_on_the_frontier():
    record = made(0.1, tokens=1, flops=0)
    found, standings = stand([record, made(0.2, tokens=2, flops=100)])
    assert standings[1].on_frontier
    assert found.hypervolume.value == pytest.approx(0.1 * 2)


def test_compress_and_serve_is_their_sum():
    (one,) = configured([fabricate(Cell(backbone="hstu", compression="experts", tokens=4))])
    assert COSTS["compress_serve_flops"](one).value == one.cost("compress_flops").value + one.cost("serve_flops").value


def test_it_is_the_same_every_time_and_in_every_order():
    records = [fabricate(cell) for cell in grid_cells(histories=(64,))]
    first, _ = stand(records)
    second, _ = stand(records[::-1])
    summary = [[(s.configuration.key, s.on_frontier, s.probability) for s in found.standings] for found in (first, second)]
    assert summary[0] == summary[1]
    assert first.hypervolume.low == second.hypervolume.low


# Timed costs


@given(points(), st.integers(0, 9))
def test_with_costs_that_are_drawn_each_draw_is_judged_by_itself(drawn, seed):
    costs, qualities = drawn
    rows = np.random.default_rng(seed).permuted(np.repeat(costs[:, None], qualities.shape[1], axis=1), axis=0)
    n, draws = qualities.shape
    dominated = np.zeros((n, n, draws), dtype=bool)
    for i, j, b in itertools.product(range(n), range(n), range(draws)):
        dominated[i, j, b] = dominates(rows[j, b], qualities[j, b], rows[i, b], qualities[i, b])
    assert non_dominated(rows, qualities).tolist() == (~dominated.any(axis=1)).tolist()
    assert domination_probability(rows, qualities) == pytest.approx(dominated.mean(axis=2))


TIME, NDCG = "request_latency_p50_ms", "ndcg@10"


def timed(quality, milliseconds, *, half, processes=3, **settings):
    """Three seeds of a cell with this request time, and an interval of so much to both sides."""
    records = []
    for seed in (1, 2, 3):
        record = made(quality + 0.0001 * seed * settings["tokens"], spread=0.0005 * settings["tokens"], seed=seed, **settings)
        record["cost"]["processes"] = processes
        record["metrics"]["request_latency_p50_ms"] |= {"value": milliseconds, "low": milliseconds - half, "high": milliseconds + half}
        records.append(record)
    return records


@pytest.mark.parametrize(
    ("half", "processes", "verdict", "said"),
    [(0.1, 3, True, True), (0.5, 3, False, True), (0.1, 1, False, False), (0.1, None, False, False)],
)
def test_another_dominates_on_a_timed_cost_only_where_its_whole_interval_is_no_dearer(half, processes, verdict, said):
    records = [
        *timed(0.5, 1.0, half=half, processes=processes, tokens=4),
        *timed(0.3, 1.5, half=half, processes=processes, tokens=8),
    ]
    found = frontier(configured(records), cost=TIME, metric=NDCG)
    worse = next(standing for standing in found.standings if standing.configuration.cell.tokens == 8)
    assert (worse.dominated_by is not None) == verdict
    assert (worse.probability is not None) == said
    if half > 0.1:
        assert 0 < worse.probability < 0.5  # with times that overlap so, nobody knows


def test_equal_shapes_have_one_time_in_every_draw():
    records = [*timed(0.5, 2.0, half=1.0, tokens=4), *timed(0.3, 2.0, half=1.0, tokens=8)]
    found = frontier(configured(records), cost=TIME, metric=NDCG)
    assert {standing.configuration.cell.tokens: standing.probability for standing in found.standings} == {4: 1.0, 8: 0.0}


def test_of_what_a_rival_of_unknown_time_may_beat_nothing_is_said():
    """It was timed in one process, so it might be cheaper than any: all that ranks no better might be off the frontier."""
    rival = timed(0.4, 9.0, half=0.1, processes=1, tokens=8)
    found = frontier(
        configured([*timed(0.5, 1.0, half=0.1, tokens=4), *rival, *timed(0.3, 0.5, half=0.1, tokens=2)]), cost=TIME, metric=NDCG
    )
    chances = {standing.configuration.cell.tokens: standing.probability for standing in found.standings}
    assert chances == {4: 1.0, 8: None, 2: None}
    hair = timed(0.4999, 0.5, half=0.1, processes=1, tokens=8)  # below by its mean, above in many draws
    found = frontier(configured([*timed(0.5, 1.0, half=0.1, tokens=4), *hair]), cost=TIME, metric=NDCG)
    assert [standing.probability for standing in found.standings] == [None, None]
    assert (found.hypervolume.low, found.hypervolume.replicates) == (None, None)
    assert "one process" in found.hypervolume.reason


def test_an_area_over_times_is_as_uncertain_as_these_and_a_gain_takes_one_draw_of_them_on_both_sides():
    records = [*timed(0.5, 2.0, half=1.0, tokens=4), *timed(0.3, 30.0, half=0.1, tokens=0)]
    both = configured(records)
    whole = frontier(both, cost=TIME, metric=NDCG)
    sharp = frontier(configured([*timed(0.5, 2.0, half=0.001, tokens=4), *records[3:]]), cost=TIME, metric=NDCG)
    assert whole.hypervolume.value == pytest.approx(sharp.hypervolume.value, rel=0.1)
    assert whole.hypervolume.high - whole.hypervolume.low > 3 * (sharp.hypervolume.high - sharp.hypervolume.low)
    for among in (both, both[::-1]):  # a configuration's times are drawn alike whoever stands beside it
        again = hypervolume_of(among, cost=TIME, metric=NDCG, reference=whole.reference)
        assert np.array_equal(again.replicates, whole.hypervolume.replicates)


def test_an_area_over_noisy_times_is_the_middle_of_the_draws_of_its_interval():
    """The least of many draws is less than the least of the medians: a value by these would lie below."""
    records = [record for tokens in range(1, 21) for record in timed(0.5, 2.0, half=1.0, tokens=tokens)]
    area = frontier(configured([*records, *timed(0.3, 30.0, half=0.1, tokens=0)]), cost=TIME, metric=NDCG).hypervolume
    assert area.low <= area.value <= area.high
    assert area.value == np.median(area.replicates)


def test_what_recomputes_is_on_no_frontier_of_kept_bytes():
    cells = [Cell(backbone="hstu", compression="full", serving=serving) for serving in ("recompute", "cache")]
    found = frontier(configured([fabricate(cell) for cell in cells]), cost="cache_bytes", metric="ndcg@10")
    assert [standing.configuration.cell.serving for standing in found.standings] == ["cache"]
    [(left_out, reason)] = found.excluded
    assert left_out.cell.serving == "recompute"
    assert "keeps the items themselves" in reason


def test_a_coarse_cache_of_an_elastic_model_is_chosen_by_its_models_validation():
    """Its record has no figure of its own; so the area is that of what validation chooses all the same."""
    own = Cell(backbone="hstu", compression="experts", tokens=4, training="elastic", elastic_tokens=(0, 4))
    records = [fabricate(own), fabricate(dataclasses.replace(own, cache_dtype="int8"))]
    records[0]["model"]["validation"], records[1]["model"]["validation"] = 0.3, None
    records[1]["metrics"]["cache_bytes"]["value"] = 1
    records[1]["metrics"]["ndcg@10"]["value"] = records[0]["metrics"]["ndcg@10"]["value"] * 0.5
    worse = fabricate(Cell(backbone="hstu", compression="full", serving="cache"))
    worse["model"]["validation"] = 0.01
    worse["metrics"]["ndcg@10"]["value"], worse["metrics"]["cache_bytes"]["value"] = 0.9, 2  # lucky on test
    area = frontier(configured([*records, worse]), cost="cache_bytes", metric="ndcg@10").hypervolume
    without = frontier(configured(records), cost="cache_bytes", metric="ndcg@10", reference=None).hypervolume
    assert area.value == pytest.approx(without.value)


SIXTEEN = {"compression": "experts", "tokens": 16}


@pytest.mark.parametrize(
    ("rival", "computed", "believed"),
    [
        (SIXTEEN, 110, False),
        (SIXTEEN, 100, True),
        (SIXTEEN, 90, True),
        ({"compression": "full"}, 110, False),  # keys and values, too: only more of them
        ({"compression": "full"}, 90, True),
        ({"compression": "memory", "tokens": 16}, 110, True),  # states, which every request runs through the layers
        ({"compression": "full", "serving": "recompute"}, 110, True),
        (SIXTEEN | {"backbone": "sasrec"}, 110, True),
    ],
)
def test_what_computes_more_of_the_same_work_is_not_quicker_whatever_the_clock_says(rival, computed, believed):
    fewer = Cell(backbone="hstu", compression="experts", tokens=8)
    more = dataclasses.replace(fewer, **({"tokens": 0} | rival))
    records = []
    for cell, quality, latency, flops in ((fewer, 0.3, 2.0, 100), (more, 0.4, 1.0, computed)):
        for seed in (1, 2, 3):
            record = fabricate(dataclasses.replace(cell, seed=seed))
            record["metrics"]["ndcg@10"] |= {"value": quality}
            record["replicates"]["means"]["ndcg@10"] = [quality + (-1) ** (draw // max(1, cell.tokens)) * 1e-3 for draw in range(101)]
            record["metrics"]["request_latency_p50_ms"] |= {"value": latency, "low": latency - 0.1, "high": latency + 0.1}
            record["metrics"]["serve_visible_flops"] |= {"value": flops}
            records.append(record)
    found = frontier(configured(records), cost="request_latency_p50_ms", metric="ndcg@10")
    (dearer,) = [one for one in found.standings if one.configuration.cell.tokens == 8]
    assert (dearer.dominated_by is not None) == believed
