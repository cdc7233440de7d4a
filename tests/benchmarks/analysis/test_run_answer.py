"""What a run answers: chosen on validation, quoted on test, held against full attention served the same way, or why there is no choice."""

import dataclasses

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.choices import KEEPS, Role, Standstill, answer
from benchmarks.analysis.estimates import retention
from benchmarks.cell import Cell
from benchmarks.grids import load_grid

BASE = {"backbone": "hstu", "dataset_size": "small", "history": 224, "recent": 32}
FULL = Cell(**BASE, compression="full")
ANEW = dataclasses.replace(FULL, serving="recompute")
CONTROL = Cell(**BASE, compression="experts")
FLOOR = Cell(backbone="popularity", compression="none", training="none")


def tokens(count: int, **settings: object) -> Cell:
    return Cell(**BASE, compression="experts", tokens=count, **settings)


def levelled(cell: Cell, quality: float, *, validation: float | None = None, stored: float | None = None, **model: object):
    """A record of this quality on test and validation, its replicates evenly around it, and what it stores of a user."""
    record = fabricate(cell)
    for metric in ("ndcg@10", "recall@10"):
        record["metrics"][metric]["value"] = quality
        record["replicates"]["means"][metric] = [quality + 0.004 * (draw / 250 - 1) for draw in range(501)]
    if record["model"]:
        record["model"] |= {"validation": quality if validation is None else validation, **model}
    if stored is not None:
        record["metrics"]["cache_bytes"]["value"] = stored
    return record


def grid(*more, full: float = 0.4, control: float = 0.1):
    return [levelled(FULL, full), levelled(ANEW, full), levelled(CONTROL, control), *more]


def chosen(found) -> dict[str, int]:
    return {role.value: choice.beside.configuration.cell.tokens for choice in found.choices for role in choice.roles}


def test_each_role_has_its_configuration():
    found = answer(
        configured(grid(levelled(tokens(16), 0.396), levelled(tokens(8), 0.385), levelled(tokens(2), 0.362), levelled(tokens(1), 0.2)))
    )
    assert found.standstill is None
    assert chosen(found) == {"best": 16, "balanced": 8, "smallest": 2}  # 0.385 / 0.4 = 0.9625, 0.362 / 0.4 = 0.905


def test_one_configuration_may_fill_several_roles():
    [only] = answer(configured(grid(levelled(tokens(4), 0.39)))).choices
    assert only.roles == tuple(Role)


def test_the_choice_is_by_validation_and_the_share_is_of_the_test():
    lucky, best = levelled(tokens(2), 0.399, validation=0.2), levelled(tokens(16), 0.35, validation=0.39)
    found = answer(configured(grid(lucky, best)))
    assert found.by_validation
    assert chosen(found)["best"] == 16
    [choice] = [choice for choice in found.choices if Role.BEST in choice.roles]
    assert choice.beside.kept.value == pytest.approx(0.35 / 0.4)


def test_older_records_without_figures_are_chosen_on_test_and_that_is_told():
    elastic = {"training": "elastic", "elastic_tokens": (2, 16)}
    records = grid(levelled(tokens(2, **elastic), 0.3), levelled(tokens(16, **elastic), 0.39))
    for record in records[3:]:
        record["model"]["validation"] = None
    found = answer(configured(records))
    assert not found.by_validation
    assert chosen(found)["best"] == 16


def test_without_a_figure_of_full_attention_test_decides_too():
    records = grid(levelled(tokens(16), 0.396), levelled(tokens(1), 0.2))
    for record in records[:2]:
        record["model"] |= {"validation": None, "best_validation": None}
    found = answer(configured(records))
    assert not found.by_validation
    assert chosen(found) == {"best": 16, "balanced": 16, "smallest": 16}  # one token keeps half: neither 95 nor 90%


def test_bytes_far_below_full_attentions_weigh_alike():
    light = levelled(tokens(1), 0.39, stored=2.0)
    better = levelled(tokens(2), 0.398, stored=8.0)
    for name in ("serve_flops", "request_latency_p50_ms", "serve_latency_p50_ms"):
        better["metrics"][name] = dict(light["metrics"][name])
    found = answer(configured(grid(light, better)))
    assert chosen(found) == {"best": 2, "balanced": 2, "smallest": 1}


def test_a_coarser_cache_is_chosen_by_the_figure_of_its_own_model():
    elastic = {"training": "elastic", "elastic_tokens": (4, 16)}
    coarse = levelled(tokens(16, **elastic, cache_dtype="int8"), 0.39, stored=100.0)
    coarse["model"]["validation"] = None
    found = answer(configured(grid(levelled(tokens(16, **elastic), 0.39), coarse)))
    assert found.by_validation
    [choice] = found.choices
    assert choice.beside.configuration.cell.cache_dtype == "int8"  # the same figure, fewer bytes


def test_costs_are_held_against_full_attention_served_the_same_way():
    ours = levelled(tokens(4), 0.39)
    records = grid(ours)
    [choice] = answer(configured(records)).choices
    flops = [record["metrics"]["serve_flops"]["value"] for record in records]
    stored = [record["metrics"]["cache_bytes"]["value"] for record in records]
    assert choice.beside.compute == pytest.approx(flops[3] / flops[0])
    assert choice.beside.compute_anew == pytest.approx(flops[3] / flops[1])
    assert choice.beside.size == pytest.approx(stored[3] / stored[0])
    assert choice.beside.time.value is not None
    ours["cost"]["processes"] = 1
    [choice] = answer(configured(records)).choices
    assert choice.beside.time.value is None


def test_what_is_kept_is_paired():
    records = grid(levelled(tokens(4), 0.39))
    among = configured(records)
    [choice] = answer(among).choices
    full = next(one for one in among if one.cell == dataclasses.replace(FULL, seed=0))
    expected = retention(choice.beside.configuration.quality("ndcg@10"), full.quality("ndcg@10"))
    assert (choice.beside.kept.value, choice.beside.kept.low, choice.beside.kept.high) == (expected.value, expected.low, expected.high)


def test_models_that_had_not_converged_stand_back():
    stopped = levelled(tokens(16), 0.399, converged=False)
    assert chosen(answer(configured(grid(stopped, levelled(tokens(4), 0.37)))))["best"] == 4
    [choice] = answer(configured(grid(stopped))).choices
    assert choice.unequal == ("not converged",)


def test_a_ledger_that_disagrees_wins_nothing():
    wrong = fabricate(tokens(16), agrees=False)
    assert 16 not in chosen(answer(configured(grid(wrong, levelled(tokens(4), 0.2))))).values()


def test_levels_are_of_the_lower_of_full_attention_and_the_best():
    # full attention is far above: nothing keeps 95% of it, so the levels are of the best that there is
    found = answer(configured(grid(levelled(tokens(16), 0.2), levelled(tokens(8), 0.198), levelled(tokens(1), 0.15))))
    assert chosen(found) == {"best": 16, "balanced": 8, "smallest": 8}
    assert set(KEEPS) == {Role.BALANCED, Role.SMALLEST}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([fabricate(tokens(4), status="crash")], Standstill.NOTHING_MEASURED),
        ([fabricate(FLOOR)], Standstill.NOTHING_TRAINED),
        ([levelled(FULL, 0.4), levelled(CONTROL, 0.1)], Standstill.NOTHING_COMPRESSED),
        ([levelled(CONTROL, 0.1), levelled(tokens(4), 0.3)], Standstill.NO_FULL),
        ([levelled(FULL, 0.2), levelled(CONTROL, 0.2), levelled(tokens(4), 0.2)], Standstill.WORTH_NOTHING),
        ([levelled(FULL, 0.2), levelled(CONTROL, 0.1), levelled(tokens(4), 0.15), levelled(FLOOR, 0.3)], Standstill.FLOOR_ABOVE),
    ],
)
def test_where_there_is_no_choice_the_reason_is_told(records, expected):
    if expected in (Standstill.WORTH_NOTHING, Standstill.FLOOR_ABOVE):  # draws that differ from the others'
        for record in records[:1] if expected is Standstill.WORTH_NOTHING else records[:3]:
            level = record["metrics"]["ndcg@10"]["value"]
            record["replicates"]["means"]["ndcg@10"] = [level + 0.004 * (-1) ** draw for draw in range(501)]
    found = answer(configured(records))
    assert (found.standstill, found.choices) == (expected, ())


def test_a_backbone_whose_history_was_not_judged_stays_a_candidate():
    """HSTU's history is worth nothing, of SASRec's nothing is known."""
    records = [levelled(FULL, 0.2), levelled(CONTROL, 0.2), levelled(tokens(4), 0.2)]
    records[0]["replicates"]["means"]["ndcg@10"] = [0.2 + 0.004 * (-1) ** draw for draw in range(501)]
    assert answer(configured(records)).standstill is Standstill.WORTH_NOTHING
    alone = levelled(dataclasses.replace(FULL, backbone="sasrec"), 0.3)
    assert answer(configured([*records, alone])).standstill is Standstill.WORTH_NOTHING  # which offers nothing to choose
    tokens_of_sasrec = levelled(dataclasses.replace(tokens(4), backbone="sasrec"), 0.25)
    found = answer(configured([*records, alone, tokens_of_sasrec]))
    offered = {choice.beside.configuration.cell.backbone for choice in found.choices}
    assert (found.standstill, "sasrec" in offered) == (None, True)
    other = [levelled(dataclasses.replace(cell, backbone="sasrec"), 0.3) for cell in (FULL, tokens(4))]
    found = answer(configured([*records, *other]))
    assert found.standstill is None
    assert {choice.beside.configuration.cell.backbone for choice in found.choices} == {"sasrec"}


def test_a_peer_is_never_the_answer():
    of_grid = next(cell for cell in load_grid("peers", device="cpu").cells if cell.is_peer)
    peer = dataclasses.replace(of_grid, history=224, recent=32, dataset="synthetic", dataset_size="small")
    assert answer(configured(grid(levelled(peer, 0.9)))).standstill is Standstill.NOTHING_COMPRESSED
    assert chosen(answer(configured(grid(levelled(peer, 0.9), levelled(tokens(4), 0.39))))) == dict.fromkeys(Role, 4)
    assert answer(configured([levelled(peer, 0.9)])).standstill is Standstill.NOTHING_TRAINED


def test_a_floor_that_may_lie_below_the_best_model_ends_no_answer():
    records = grid(levelled(tokens(4), 0.39), levelled(FLOOR, 0.41), full=0.4)
    for record in records[:2]:
        record["replicates"]["means"]["ndcg@10"] = [0.4 + 0.03 * (draw / 250 - 1) for draw in range(501)]
    assert answer(configured(records)).standstill is None


def test_what_takes_more_than_full_attention_is_not_balanced():
    """However few bytes it keeps; it may be the smallest."""
    tiny, few = levelled(tokens(2), 0.39, stored=16), levelled(tokens(8), 0.392, stored=4_000)
    full = fabricate(FULL)["metrics"]["serve_flops"]["value"]
    for record, share in ((tiny, 1.16), (few, 0.8)):
        record["metrics"]["serve_flops"]["value"] = share * full
    found = chosen(answer(configured(grid(tiny, few))))
    assert (found["balanced"], found["smallest"]) == (8, 2)
    assert chosen(answer(configured(grid(tiny))))["balanced"] == 2


def test_what_recomputes_has_no_part_in_how_the_others_are_weighed():
    """It keeps as much as full attention that recomputes too: the items alone."""
    few, many = levelled(tokens(4), 0.39, stored=4_000), levelled(tokens(16), 0.395, stored=64_000)
    many["metrics"]["serve_flops"]["value"] = 0.99 * few["metrics"]["serve_flops"]["value"]
    searching = levelled(Cell(**BASE, compression="retrieval", tokens=4, serving="recompute"), 0.1)
    for records in ([few, many], [few, many, searching]):
        assert chosen(answer(configured(grid(*records))))["balanced"] == 4


def test_costs_alone_are_answered_at_the_longest_window_with_the_most_tokens():
    cells = [dataclasses.replace(cell, training="none") for cell in (FULL, ANEW, tokens(4), tokens(16))]
    cells += [dataclasses.replace(cell, history=2048) for cell in cells]
    records = [fabricate(cell, replicates=None) for cell in cells]
    for record in records:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if "@" not in name and name != "mrr"}
    found = answer(configured(records))
    assert found.standstill is Standstill.COSTS_ALONE
    [beside] = found.costs
    assert (beside.configuration.window, beside.configuration.cell.tokens) == (2048 + 32, 16)
    assert beside.compute_anew < beside.compute < 1
