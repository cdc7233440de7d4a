"""The report's table of what a configuration takes of full attention."""

import dataclasses

from fabricated_records import configured, fabricate, metric, records_of

from benchmarks import text
from benchmarks.analysis.origins import sources
from benchmarks.cell import Cell
from benchmarks.report.content import report_of
from benchmarks.report.limits import limits
from benchmarks.report.names import name_all
from benchmarks.report.tables.shares import shares_table

CELL = Cell(backbone="llama", compression="experts", tokens=4, training="none", control=True)
PASSES = ("serve", "compress", "compress_serve", "train")


def shared(cell, *, time=0.12, flops=0.1, reason="counted"):
    record = fabricate(cell, replicates=None)
    for name in PASSES:
        low, high = (None, None) if time is None else (0.9 * time, 1.1 * time)
        record["metrics"][f"{name}_time_over_full"] = metric(time, "ratio", method=reason, low=low, high=high, n=9)
        record["metrics"][f"{name}_flops_over_full"] = metric(flops, "ratio")
    record["metrics"]["serve_time_over_alike"] = metric(0.6, "ratio", low=0.5, high=0.7, n=9)
    record["metrics"]["serve_flops_over_alike"] = metric(0.4, "ratio")
    return record


def table_of(records):
    found = configured(records)
    return shares_table(found, name_all(found), key="shares", caption="")


def test_time_over_time_stands_beside_flops_over_flops():
    plain = dataclasses.replace(CELL, compression="full", tokens=0, serving="recompute", control=False)
    table = table_of([shared(CELL), fabricate(plain, replicates=None)])
    (row,) = table.rows  # what has no control has no share
    shown = dict(zip((column.name for column in table.columns), row.entries, strict=True))
    assert (shown["request, recomputed: time"].text, shown["request, recomputed: time"].detail) == ("12.0%", "10.8% to 13.2%")
    assert (shown["request, recomputed: FLOPs"].text, shown["training step: FLOPs"].text) == ("10.0%", "10.0%")
    beyond = shown["request, recomputed: time over FLOPs"]
    assert (beyond.text, beyond.tone) == ("1.20", "warn")
    assert [column.name for column in table.columns][1] == "request, served alike: time"  # like with like first, recomputing last
    assert (shown["request, served alike: time"].text, shown["request, served alike: FLOPs"].text) == ("60.0%", "40.0%")
    assert shown["request, served alike: time over FLOPs"].text == "1.50"
    assert table_of([fabricate(plain, replicates=None)]) is None


def test_what_was_not_run_has_shares_of_flops_and_the_reason():
    counted = dataclasses.replace(CELL, counted_only=True)
    records = [shared(counted, time=None, reason="the model was not run")]
    table = table_of(records)
    (row,) = table.rows
    at = [column.name for column in table.columns].index("request, recomputed: time")
    assert (row.entries[at].text, row.entries[at].detail, row.entries[at + 1].text) == (text.MISSING, "the model was not run", "10.0%")
    found = configured(records)
    read = records_of(*records)
    said = limits(read, sources(read), found, name_all(found))
    assert any(line.startswith("Counted on shapes alone and never run") for line in said)
    assert any("on a CPU alone" in line for line in said)


def test_the_section_is_there_where_a_cell_has_a_control():
    keys = [
        [section.key for section in report_of(records_of(record), name="a").sections]
        for record in (shared(CELL), fabricate(CELL, replicates=None))
    ]
    assert [("shares" in found, "feasibility" in found) for found in keys] == [(True, True), (False, True)]
