import dataclasses

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.references import compare
from benchmarks.analysis.worth import floors_above, worths
from benchmarks.cell import Cell

FULL = Cell(backbone="hstu", compression="full")
TOKENS = Cell(backbone="hstu", compression="experts", tokens=4)
CONTROL = Cell(backbone="hstu", compression="experts", tokens=0)
FLOOR = Cell(backbone="frequency", compression="none", training="none")


def valued(cell: Cell, quality: float, *, spread: float = 0.01) -> dict:
    """A record of this NDCG@10 whose replicates lie evenly around it."""
    record = fabricate(cell)
    record["metrics"]["ndcg@10"]["value"] = quality
    record["replicates"]["means"]["ndcg@10"] = [quality + spread * (place / 50 - 1) for place in range(101)]
    if record["model"]:
        record["model"]["validation"] = quality
    return record


@pytest.mark.parametrize(("full", "nothing"), [(0.2, False), (0.101, True), (0.05, True)])
def test_what_the_long_history_is_worth(full, nothing):
    (worth,) = worths(configured([valued(FULL, full, spread=0.02), valued(CONTROL, 0.1)]), "ndcg@10")
    assert (worth.backbone, worth.nothing) == ("hstu", nothing)
    assert worth.gap.value == pytest.approx(full - 0.1)


@pytest.mark.parametrize(
    ("seeds", "nothing", "decided"),
    [
        ((0.14, 0.18), False, False),  # both above 0: Student's interval of two holds 0, and nothing is decided
        ((0.14, 0.09), True, False),
        ((0.14, 0.15, 0.16), False, True),
        ((0.101, 0.14, 0.19), True, False),
    ],
)
def test_two_seeds_that_agree_leave_it_open(seeds, nothing, decided):
    records = []
    for seed, quality in enumerate(seeds, start=1):
        of_seed = ((FULL, quality, 0.02), (CONTROL, 0.1, 0.01))
        records += [valued(dataclasses.replace(cell, seed=seed), value, spread=spread) for cell, value, spread in of_seed]
    (worth,) = worths(configured(records), "ndcg@10")
    assert (worth.nothing, worth.gap.sign > 0, worth.gap.of_one_seed) == (nothing, decided, False)


@pytest.mark.parametrize("steps", [100, 40])
def test_after_unequal_training_nothing_is_said_of_the_history(steps):
    full, control = valued(FULL, 0.05, spread=0.02), valued(CONTROL, 0.1)
    full["model"]["steps"], control["model"]["steps"] = steps, 100
    full["model"]["converged"] = steps == 100
    among = configured([full, control, valued(TOKENS, 0.2)])
    (worth,) = worths(among, "ndcg@10")
    assert (worth.nothing, bool(worth.unequal)) == (steps == 100, steps != 100)
    contrast = compare(next(one for one in among if one.is_tokens), among, "ndcg@10")
    assert (contrast.retention.value is None) == (steps == 100)  # what is said there, and here


def test_it_is_asked_at_the_longest_window():
    short = [Cell(backbone="hstu", compression=kind, tokens=0, history=64) for kind in ("full", "experts")]
    records = [valued(FULL, 0.2), valued(CONTROL, 0.1), valued(short[0], 0.3), valued(short[1], 0.3)]
    (worth,) = worths(configured(records), "ndcg@10")
    assert worth.full.window == 256


def test_without_both_nothing_is_asked():
    assert worths(configured([valued(FULL, 0.2), valued(FLOOR, 0.3)]), "ndcg@10") == []


def test_a_floor_above_every_model():
    (above,) = floors_above(configured([valued(FULL, 0.16), valued(CONTROL, 0.15), valued(FLOOR, 0.188)]), "ndcg@10")
    assert above.beats_all
    assert above.best.cell.compression == "full"
    assert above.gap.value == pytest.approx(0.16 - 0.188)


def test_a_floor_lies_surely_above_all_models_where_every_difference_says_so():
    """The best on validation may be far below a model whose interval reaches the floor."""
    sure, near, floor = valued(FULL, 0.08, spread=0.02), valued(CONTROL, 0.0995, spread=0.02), valued(FLOOR, 0.1)
    near["model"]["validation"] = 0.01
    (above,) = floors_above(configured([sure, near, floor]), "ndcg@10")
    assert (above.best.cell.compression, above.gap.high < 0, above.beats_all) == ("full", True, True)
    assert not above.surely_beats_all
    (above,) = floors_above(configured([sure, valued(CONTROL, 0.07, spread=0.02), floor]), "ndcg@10")
    assert (above.surely_beats_all, above.is_verdict) == (True, False)  # of one seed
    levels = ((FULL, 0.08, 0.02), (FLOOR, 0.1, 0.01))
    records = [
        valued(dataclasses.replace(cell, seed=seed), level + seed / 1e4, spread=spread)
        for seed in (1, 2, 3)
        for cell, level, spread in levels
    ]
    (above,) = floors_above(configured(records), "ndcg@10")
    assert above.is_verdict
    (above,) = floors_above(configured([*records, valued(CONTROL, 0.05, spread=0.02)]), "ndcg@10")
    assert (above.surely_beats_all, above.is_verdict) == (True, False)  # one of the models has one seed


def test_a_floor_above_some_models_and_one_above_none():
    low = Cell(backbone="popularity", compression="none", training="none")
    records = [valued(FULL, 0.16), valued(CONTROL, 0.1), valued(FLOOR, 0.12), valued(low, 0.05)]
    (above,) = floors_above(configured(records), "ndcg@10")
    assert (above.floor.cell.backbone, above.beats_all, [one.cell.compression for one in above.below]) == ("frequency", False, ["experts"])
