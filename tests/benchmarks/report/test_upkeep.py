"""What the report says of the harness itself: overhead, disturbance, and the gates' proof."""

import json

import pytest
from fabricated_records import fabricate, records_of, slim, write

from benchmarks.analysis.origins import sources
from benchmarks.cell import Cell
from benchmarks.report.command import main
from benchmarks.report.page import render_report
from benchmarks.report.tables import upkeep
from benchmarks.store import proof_path, records_digest

RECORD = slim(fabricate(Cell(backbone="hstu", compression="experts", tokens=4)))
PROOF = {
    "schema_version": 1,
    "provenance": {"commit": "c" * 40, "dirty": None, "utc": "2026-03-01T12:00:00+00:00"},
    "environment": {"cpu": "a <processor>"},
    "rule": {"pairs": 13, "comparisons": 50, "power": 0.95},
    "processes": 156,
    "seconds": 700.0,
    "false_alarms": {"comparisons": 300, "alarms": 0, "rate": 0.0, "upper_bound": 0.00994, "verdicts": {"PASS": 300}},
    "slow_down": {"trials": 20, "found": 20, "lower_bound": 0.861},
    "flops": {"trials": 144, "found": 144},
    "spread": {"median": 0.02, "widest": 0.05},
    "smallest_effect": 0.11,
    "foreign_cpu_share": {"median": 0.02, "highest": 0.3},
}


def with_seconds(key="q", **seconds):
    return RECORD | {"quality": RECORD["quality"] | {"key": key, "seconds": seconds}, "cost": None}


def sources_of(*records):
    return sources(records_of(*records))


def test_overhead_is_all_beyond_training_and_probes():
    records = [with_seconds(str(seconds), load=0.1, overhead=seconds, quality=9.0, training=99.0) for seconds in (0.2, 0.3, 2.5)]
    table = upkeep.overhead_table(sources_of(*records))
    assert table is not None
    assert [[entry.order for entry in row.entries[1:]] for row in table.rows] == [
        [3, 0.1, 0.1],
        [3, 0.3, 2.5],
        [3, pytest.approx(0.4), 2.6],
    ]
    assert table.rows[-1].entries[-1].tone == "warn"
    fine = upkeep.overhead_table(sources_of(*records[:2]))
    assert fine is not None
    assert fine.rows[-1].entries[-1].tone == "fine"


def test_cells_that_did_not_end_well_have_no_overhead():
    assert upkeep.overhead_table(sources_of(with_seconds(load=1.0))) is None


def test_who_was_disturbed_is_counted():
    def disturbed(*shares, memory=0.0):
        load = {kind: {"foreign_cpu_share": share} for kind, share in zip(("latency", "request"), shares, strict=False)}
        load["memory"] = {"foreign_cpu_share": memory}  # no load moves a peak
        environment = RECORD["environment"] | {"readings": {"load": load}}
        return RECORD | {"cost": RECORD["cost"] | {"key": str(shares), "environment": environment}}

    assert upkeep.disturbance(sources_of(RECORD, disturbed(0.05, 0.1, memory=0.9), disturbed(None))) == ""
    sentence = upkeep.disturbance(sources_of(disturbed(0.05, 0.4), disturbed(0.0), disturbed(None)))
    assert "and at most 40%, during the timing of 1 of 2 costs" in sentence


def test_the_report_shows_overhead_and_the_proof_that_lies_beside_the_runs(tmp_path):
    results, page = write(tmp_path / "run", [RECORD]), tmp_path / "page.html"
    without = records_digest(results)
    text = render_report(results, page).read_text()
    assert "not measured beside these records" in text
    assert "What the harness adds to a measurement" in text
    path = proof_path(results)
    path.parent.mkdir()
    path.write_text(json.dumps(PROOF))
    text = render_report(results, page).read_text()
    assert "0 false alarms in 300 comparisons, an exact 95% upper bound of 0.99%" in text
    assert "in 20 of 20" in text
    assert "a &lt;processor&gt;" in text
    assert records_digest(results) != without  # so that a run renders its page anew


def test_a_broken_proof_is_one_line(tmp_path, capsys):
    results = write(tmp_path / "run", [RECORD])
    path = proof_path(results)
    path.parent.mkdir()
    path.write_text("{")
    assert main([str(results), "--out", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
