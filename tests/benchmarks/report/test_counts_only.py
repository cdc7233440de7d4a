"""What tokens are worth beside counts of the same items: a column of the paired differences where the run has counts alone, else none."""

import dataclasses

import pytest
from fabricated_records import configured, fabricate

from benchmarks.analysis.references import compare, find_references
from benchmarks.cell import Cell
from benchmarks.report.names import UNEQUAL, name_all
from benchmarks.report.tables.contrasts import comparison_table

COUNTING = Cell(backbone="hstu", compression="experts", counts="all", tokens=4)
CELLS = [COUNTING, *(dataclasses.replace(COUNTING, tokens=0, counts=counts) for counts in ("all", "recent"))]


def table_of(cells):
    among = configured(map(fabricate, cells))
    return comparison_table([compare(one, among, "ndcg@10") for one in among], name_all(among), key="c", metric="ndcg@10")


def test_tokens_are_held_against_counts_alone_beside_no_token():
    table = table_of(CELLS)
    names = [column.name for column in table.columns]
    of = {row.entries[0].text: dict(zip(names, row.entries, strict=True)) for row in table.rows}
    by_kind = {kind: next(row for name, row in of.items() if kind in name) for kind in ("4 tokens", "counts only", "no token")}
    tokens, counts, nothing = (by_kind[kind]["NDCG@10"].order for kind in ("4 tokens", "counts only", "no token"))
    assert by_kind["4 tokens"]["minus counts only"].order == pytest.approx(tokens - counts)
    assert by_kind["4 tokens"]["minus no token"].order == pytest.approx(tokens - nothing)
    assert by_kind["counts only"]["minus counts only"].text == "the reference"


def test_a_run_without_counts_has_no_such_column():
    plain = [dataclasses.replace(cell, counts="none") for cell in CELLS[:2]]
    assert "minus counts only" not in [column.name for column in table_of(plain).columns]


def test_an_elastic_point_of_counts_alone_is_marked_where_no_model_of_counts_alone_was_trained():
    elastic = [dataclasses.replace(cell, training="elastic", elastic_tokens=(0, 4)) for cell in CELLS[:2]]
    no_token = CELLS[2]
    for trained_alone, reason in (([], "no model was trained for this reference alone"), ([CELLS[1]], "")):
        cells = [*elastic, *trained_alone, no_token]
        table = table_of(cells)
        column = [column.name for column in table.columns].index("minus counts only")
        entry = next(row.entries[column] for row in table.rows if "4 tokens" in row.entries[0].text)
        assert (UNEQUAL in entry.text) == bool(reason)
        assert reason in entry.detail
    among = configured(map(fabricate, [*elastic, no_token]))
    references = find_references(next(one for one in among if one.is_tokens), among)
    assert references.weak == (references.counts_only,)
    assert "counts only (separate)" in references.not_trained
