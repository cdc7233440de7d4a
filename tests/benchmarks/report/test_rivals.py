import dataclasses

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.estimates import difference, recovered
from benchmarks.cell import Cell
from benchmarks.report.names import name_all
from benchmarks.report.tables.rivals import rivals_of, rivals_table

SHARED = {"backbone": "hstu", "history": 96, "recent": 8}
PERSREC = Cell(compression="experts", tokens=4, segments=4, **SHARED)
CONTROL = Cell(compression="experts", tokens=0, segments=4, **SHARED)
FULL = Cell(compression="full", serving="recompute", **SHARED)
POOLED = Cell(compression="pooling", tokens=4, **SHARED)
LONGER = Cell(compression="recent", backbone="hstu", history=92, recent=12)
NO_RIVALS = [
    CONTROL,
    FULL,
    Cell(compression="pooling", tokens=8, **SHARED),
    Cell(compression="pooling", tokens=4, ablation="other_user", **SHARED),
    Cell(compression="strided", tokens=4, **{**SHARED, "backbone": "sasrec"}),
    Cell(compression="strided", tokens=4, backbone="hstu", history=48, recent=8),
    Cell(compression="recent", backbone="hstu", history=96, recent=8),
    Cell(backbone="frequency", compression="none", training="none"),
]


def among(*cells: Cell):
    return configured([fabricate(cell) for cell in cells])


def of(cell: Cell, found):
    return next(one for one in found if one.cell == dataclasses.replace(cell, seed=0))


def test_rivals_keep_as_many_vectors_of_the_same_window_with_the_same_model():
    found = among(PERSREC, POOLED, LONGER, *NO_RIVALS)
    assert [one.cell.compression for one in rivals_of(of(PERSREC, found), found)] == ["recent", "pooling"]


def test_other_data_are_no_rival():
    found = configured([fabricate(PERSREC), fabricate(POOLED, dataset_digest="e" * 64)])
    assert rivals_of(of(PERSREC, found), found) == []


def test_a_rival_without_quality_is_none():
    found = configured([fabricate(PERSREC), fabricate(POOLED, status="oom", metrics={}, replicates=None)])
    assert rivals_of(of(PERSREC, found), found) == []


@pytest.mark.parametrize("metric", [0, 1])
def test_all_are_held_against_persrecs_own_references(metric):
    # pooling takes the history in one segment, so alone it would find no control of four
    found = among(PERSREC, POOLED, CONTROL, FULL)
    table = rivals_table(found, name_all(found), key="rivals", caption="at equal tokens")
    assert [row.family for row in table.rows] == ["PerSRec", "pooling"]
    name = ("ndcg@10", "recall@10")[metric]
    ours, theirs, none, full = (of(cell, found).quality(name) for cell in (PERSREC, POOLED, CONTROL, FULL))
    quality, share, behind = table.rows[1].entries[2 + 3 * metric : 5 + 3 * metric]
    assert quality.order == theirs.value
    assert share.order == recovered(theirs, none, full).value
    assert behind.order == difference(ours, theirs).value
    assert table.rows[0].entries[4 + 3 * metric].text == "the reference"


@pytest.mark.parametrize(
    ("model", "said"),
    [({"steps": 50, "converged": None}, "half the steps: 100 against 50 steps"), ({"converged": False}, "not converged")],
)
def test_a_rival_that_was_trained_otherwise_is_marked_with_its_steps(model, said):
    records = [fabricate(dataclasses.replace(cell, seed=seed)) for cell in (PERSREC, CONTROL, FULL, POOLED) for seed in (1, 2, 3)]
    for record in records:
        if record["cell"]["compression"] == "pooling":
            record["model"] |= model
    found = configured(records)
    table = rivals_table(found, name_all(found), key="rivals", caption="at equal tokens")
    behind = table.rows[1].entries[4]
    assert behind.text.endswith(" \N{DOUBLE DAGGER}")
    assert said in behind.detail
    assert behind.tone == "warn"
    assert any(text.startswith("\N{DOUBLE DAGGER} unequal training") for text in table.legend)


def test_steps_that_differ_a_little_are_printed_and_not_marked():
    records = [fabricate(PERSREC), fabricate(CONTROL), fabricate(FULL), fabricate(POOLED)]
    records[3]["model"]["steps"] = 90
    found = configured(records)
    behind = rivals_table(found, name_all(found), key="rivals", caption="at equal tokens").rows[1].entries[4]
    assert behind.detail.endswith("; 100 against 90 steps")
    assert "\N{DOUBLE DAGGER}" not in behind.text


def test_without_a_rival_there_is_no_table():
    found = among(PERSREC, CONTROL, FULL)
    assert rivals_table(found, name_all(found), key="rivals", caption="at equal tokens") is None
