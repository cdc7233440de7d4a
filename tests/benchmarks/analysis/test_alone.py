"""One setting at a time: which model is plain, what stands beside it, and that a difference is the changed one's minus the plain one's."""

import dataclasses

import numpy as np
import pytest
from fabricated_records import configured, fabricate, user_values

from benchmarks.analysis.alone import alone
from benchmarks.analysis.trained import own_validation
from benchmarks.cell import Cell
from benchmarks.report.names import UNEQUAL
from benchmarks.report.tables.alone import alone_table

PLAIN = Cell(backbone="hstu", compression="experts", tokens=4)
IDEAS = [
    {"expert_start": "pooled"}, {"expert_weight": 1.0}, {"negatives": 0}, {"segments": 2}, {"expert_learning_rate": 0.01},
    {"segments": 2, "random_cuts": True},
]  # fmt: skip


def cells(*, seeds=(1,)):
    every = [PLAIN, *(dataclasses.replace(PLAIN, **changes) for changes in IDEAS)]
    return [dataclasses.replace(cell, seed=seed) for cell in every for seed in seeds]


def test_the_plain_model_is_the_one_that_most_stand_one_setting_away_from_wherever_it_lies():
    for order in (cells(), cells()[::-1]):
        (around,) = alone(configured(map(fabricate, order)))
        assert {found.plain.cell for found in around} == {dataclasses.replace(PLAIN, seed=0)}
        settings = [found.setting for found in around]
        assert settings == ["expert_learning_rate", "negatives", "expert_weight", "expert_start", "random_cuts", "segments"]  # as declared


@pytest.mark.parametrize(
    "changes",
    [{"history": 100}, {"tokens": 8}, {"compression": "pooling"}, {"backbone": "sasrec"}, {"counts": "all"}, {"cache_dtype": "int8"},
     {"negatives": 0, "segments": 4}, {"negatives": 0, "segments": 4, "random_cuts": True},
     {"training": "none"}, {"expert_learning_rate": PLAIN.learning_rate}],
)  # fmt: skip
def test_what_differs_in_more_or_in_other_things_does_not_stand_beside_it(changes):
    other = dataclasses.replace(PLAIN, **changes)
    (around,) = alone(configured(map(fabricate, [*cells(), other])))
    assert dataclasses.replace(other, seed=0) not in {found.changed.cell for found in around}


def test_of_two_models_the_plain_one_is_that_of_the_recipe_that_is_plain_elsewhere():
    controls = [dataclasses.replace(PLAIN, compression="full", tokens=0, negatives=negatives) for negatives in (0, PLAIN.negatives)]
    of_tokens, of_full = sorted(alone(configured(map(fabricate, [*controls, *cells()]))), key=len, reverse=True)
    assert len(of_tokens) == len(IDEAS)
    assert [(found.plain.cell.negatives, found.changed.cell.negatives) for found in of_full] == [(PLAIN.negatives, 0)]
    assert alone(configured(map(fabricate, controls))) == []


def test_two_models_have_no_plain_one_and_there_is_no_table():
    among = configured(map(fabricate, cells()[:2]))
    assert alone(among) == []
    assert alone_table(among, key="k") is None


def test_the_difference_is_the_changed_models_minus_the_plain_ones_over_the_same_users_and_seeds():
    among = configured(map(fabricate, cells(seeds=(1, 2, 3))))
    table = alone_table(among, key="k")
    plain, *rows = table.rows
    assert plain.entries[1].text == "the plain recipe"
    assert [row.entries[1].text for row in rows] == [
        "expert learning rate 0.01 in place of expert learning rate by default",
        "full cross-entropy in place of negatives 256",
        "expert weight 1.0 in place of expert weight 0.0",
        "pooled start in place of learnt start",
        "2 segments, random cuts in place of 1 segment, planned cuts",
        "2 segments in place of 1 segment",
    ]
    changed = dataclasses.replace(PLAIN, segments=2)
    each = [user_values(dataclasses.replace(cell, seed=seed))["ndcg@10"].mean() for cell in (changed, PLAIN) for seed in (1, 2, 3)]
    assert rows[-1].entries[4].order == pytest.approx(np.mean(each[:3]) - np.mean(each[3:]))


def test_validation_is_the_mean_over_seeds_and_nothing_where_one_has_none():
    elastic = dataclasses.replace(PLAIN, training="elastic", elastic_tokens=(0, 4))
    records = [fabricate(dataclasses.replace(elastic, seed=seed)) for seed in (1, 2)]
    for record, value in zip(records, (0.2, 0.4), strict=True):
        record["model"]["validation"] = value
    (one,) = configured(records)
    assert own_validation(one) == pytest.approx(0.3)
    records[0]["model"]["validation"] = None
    (one,) = configured(records)
    assert own_validation(one) is None


def test_a_model_of_other_bounds_is_marked_and_no_verdict_rests_on_it():
    longer = dataclasses.replace(PLAIN, patience=9)
    among = configured(fabricate(dataclasses.replace(cell, seed=seed)) for cell in [*cells(), longer] for seed in (1, 2, 3))
    marked = {row.entries[1].text: row.entries[4] for row in alone_table(among, key="k").rows}
    assert marked["patience 9 in place of patience 1"].text.endswith(UNEQUAL)
    assert not marked["2 segments in place of 1 segment"].text.endswith(UNEQUAL)
