"""Rows under published protocols stand beside those of models that knew as much: with the request's time, and without."""

import dataclasses

import pytest
from fabricated_records import configured, fabricate, records_of

from benchmarks.cell import Cell
from benchmarks.report.content import report_of
from benchmarks.report.names import name_all
from benchmarks.report.summary import summary_of
from benchmarks.report.tables.protocols import protocol_tables

CELL = Cell(backbone="hstu", compression="full", history=184, recent=16)
WITH_TIME, WITHOUT_TIME = "with the request's time as input", "without the request's time"
KNOWS = "the protocol's own rows know the time of the request, so it does not stand beside them"
NONE = "the protocol's own rows read no times, so it does not stand beside them"
ITS_OWN = "the protocol's own rows read no times, and it reads those of its items, so it does not stand beside them"


def under(told, **changes):
    """A record of a model that is ranked under both protocols; ``asks_request_time`` is the protocol's, as records have it."""
    record = fabricate(dataclasses.replace(CELL, **changes))
    metrics = {"ndcg@10": {"value": 0.1 + record["cell"]["seed"] / 100, "n": 6040}}
    row = {"items": 3706, "request_time": told, "metrics": metrics}
    record["protocols"] = [{**row, "name": name, "asks_request_time": asks} for name, asks in (("rectools", True), ("5-core", False))]
    return record


def shown(*records):
    configurations = configured(records)
    tables = protocol_tables(configurations, name_all(configurations), key="p")
    return {
        table.caption.rpartition(", ")[2].partition(";")[0]: [(row.entries[1].text, row.entries[1].detail) for row in table.rows]
        for table in tables
    }


@pytest.mark.parametrize(
    ("changes", "told", "table", "marks"),
    [
        ({}, True, WITH_TIME, ["", NONE]),
        ({"request_time": False}, False, WITHOUT_TIME, [KNOWS, ITS_OWN]),
        ({"time_bias": False}, False, WITHOUT_TIME, [KNOWS, ""]),
        # whose published rows read no times, whichever protocol's they are
        ({"backbone": "sasrec"}, False, WITHOUT_TIME, ["", ""]),
    ],
)
def test_a_row_is_marked_where_the_published_rows_of_such_a_model_know_more_or_less(changes, told, table, marks):
    assert shown(under(told, **changes)) == {table: list(zip(["rectools", "5-core"], marks, strict=True))}


def test_a_mean_says_of_how_many_seeds_and_how_far_they_lie_apart():
    configurations = configured([under(True, seed=seed) for seed in (1, 2, 3)])
    (table,) = protocol_tables(configurations, name_all(configurations), key="p")
    cell = table.rows[0].entries[5]
    assert (cell.text, cell.detail) == ("0.1200", "mean of 3 seeds: lowest 0.1100, highest 0.1300")


def test_a_protocol_under_which_a_small_log_has_no_target_has_no_row():
    record = under(True)
    record["protocols"][1]["metrics"] = {}
    assert shown(record) == {WITH_TIME: [("rectools", "")]}
    record["protocols"][0]["metrics"] = {}
    assert shown(record) == {}


def test_the_summary_holds_these_rows():
    text = summary_of(report_of(records_of(under(True)), name="a"), beside=())
    assert f"**The same models under published protocols, {WITH_TIME}" in text
    assert "| rectools | 3,706 | 6,040 |" in text
