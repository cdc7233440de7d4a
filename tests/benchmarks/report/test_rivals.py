import dataclasses

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.estimates import difference, recovered
from benchmarks.analysis.rivals import rival_pairs, rivals_of
from benchmarks.cell import Cell
from benchmarks.report.names import name_all
from benchmarks.report.rivals import rivals_in_words
from benchmarks.report.tables.rivals import rivals_table

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
    assert sorted(one.cell.compression for one in rivals_of(of(PERSREC, found), found)) == ["pooling", "recent"]


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


SEEDS = (1, 2, 3)
MINUS = "\N{MINUS SIGN}"
UNSURE = "+0.0101 (+0.0081 to +0.0121), no verdict, as training is not equal (not converged)."


def of_seeds(lift: float, seeds=SEEDS, **model):
    """PerSRec, and pooling whose quality is PerSRec's less ``lift`` for each user."""
    ours, theirs = ([fabricate(dataclasses.replace(cell, seed=seed)) for seed in seeds] for cell in (PERSREC, POOLED))
    for place, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        own = lift + 0.0001 * place
        its["metrics"]["ndcg@10"] |= {"value": mine["metrics"]["ndcg@10"]["value"] - own}
        means = mine["replicates"]["means"]["ndcg@10"]
        its["replicates"]["means"]["ndcg@10"] = [mean - own + 0.002 * (-1) ** at for at, mean in enumerate(means)]
        its["model"] |= model
    found = configured([*ours, *theirs])
    return rivals_in_words(found, name_all(found))


@pytest.mark.parametrize(
    ("lift", "seeds", "model", "said"),
    [
        (0.01, SEEDS, {}, "is better than pooling: +0.0101 (+0.0081 to +0.0121), 3 seeds."),
        (-0.01, SEEDS, {}, f"is worse than pooling: {MINUS}0.0099 ({MINUS}0.0119 to {MINUS}0.0079), 3 seeds."),
        (0.001, SEEDS, {}, f"cannot be distinguished from pooling: +0.0011 ({MINUS}0.0009 to +0.0031), 3 seeds."),
        (0.01, (1,), {}, "scores above pooling: +0.0100 (+0.0080 to +0.0120), one seed, no verdict."),
        (-0.01, (1,), {}, f"scores below pooling: {MINUS}0.0100 ({MINUS}0.0120 to {MINUS}0.0080), one seed, no verdict."),
        (0.01, SEEDS, {"converged": False}, f"scores above pooling: {UNSURE}"),
    ],
)  # fmt: skip
def test_a_sentence_says_whether_persrec_is_better_by_how_much_and_how_sure(lift, seeds, model, said):
    [line] = of_seeds(lift, seeds, **model)
    assert line == f"HSTU · PerSRec, 4 tokens in 4 segments {said}"


def test_each_side_of_a_pair_is_the_best_on_validation_at_the_longest_window_and_the_most_tokens():
    short = {"backbone": "hstu", "history": 48, "recent": 8}
    plain = dataclasses.replace(PERSREC, segments=1)
    cells = [PERSREC, plain, POOLED, LONGER, dataclasses.replace(plain, tokens=2), dataclasses.replace(POOLED, tokens=2)]
    cells += [Cell(compression="experts", tokens=8, **short), Cell(compression="pooling", tokens=8, **short)]
    records = [fabricate(cell) for cell in cells]
    for record, figure in zip(records, (0.2, 0.3, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9), strict=True):
        record["model"]["validation"] = figure
    pairs = rival_pairs(configured(records), "ndcg@10")
    assert [(pair.persrec.cell.segments, pair.persrec.cell.tokens, pair.persrec.window) for pair in pairs] == [(1, 4, 104)] * 2
    assert [pair.rival.cell.compression for pair in pairs] == ["pooling", "recent"]
    assert all(pair.gap.value == difference(pair.persrec.quality("ndcg@10"), pair.rival.quality("ndcg@10")).value for pair in pairs)


def test_a_pair_of_several_seeds_goes_before_a_better_one_of_one_seed():
    plain = dataclasses.replace(PERSREC, segments=1)
    cells = [PERSREC, *(dataclasses.replace(cell, seed=seed) for cell in (plain, POOLED) for seed in SEEDS)]
    records = [fabricate(cell) for cell in cells]
    for record, cell in zip(records, cells, strict=True):
        record["model"]["validation"] = 0.9 if cell.segments == 4 else 0.1
    [pair] = rival_pairs(configured(records), "ndcg@10")
    assert (pair.persrec.cell.segments, len(pair.gap.by_seed)) == (1, len(SEEDS))


def test_a_backbone_without_a_rival_is_named_and_so_is_a_run_without_any():
    sasrec = dataclasses.replace(PERSREC, backbone="sasrec")
    found = among(PERSREC, POOLED, sasrec)
    first, last = rivals_in_words(found, name_all(found))
    assert first.startswith("HSTU · PerSRec, 4 tokens in 4 segments ")
    assert last == "SASRec: no rival that keeps as many vectors was measured beside PerSRec."
    alone = among(PERSREC, CONTROL, FULL)
    assert rivals_in_words(alone, name_all(alone))[0].startswith(
        "This run does not show whether PerSRec is better than pooling, memory or the like: no rival "
    )
    assert rivals_in_words(among(CONTROL, FULL), name_all(alone)) == ()
