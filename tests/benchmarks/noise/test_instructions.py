"""How far qualities move by other instructions, on records that are made up."""

from dataclasses import replace

import pytest
from fabricated_records import fabricate

from benchmarks.cell import Cell
from benchmarks.measures import MEASURES
from benchmarks.noise import instructions
from benchmarks.records import record_of

CELL = Cell(backbone="hstu", compression="experts", tokens=4)


def test_the_widest_moves_and_what_lies_beyond_the_margin():
    record = record_of(fabricate(CELL))
    number = record.metrics["ndcg@10"].value
    margin = MEASURES["ndcg@10"].margin(number)
    moves = iter((0.0, 0.4 * margin, -1.5 * margin))

    def measured(variables, out):
        metric = replace(record.metrics["ndcg@10"], value=number + next(moves), low=None, high=None)
        return [replace(record, metrics={**record.metrics, "ndcg@10": metric})]

    found = {one.metric: one for one in instructions.quality_spreads(measured)}
    one = found["ndcg@10"]
    assert (one.numbers, one.moved, one.beyond_margin) == (2, 2, 1)
    assert one.widest == pytest.approx(1.5 * margin)
    assert one.widest_share == pytest.approx(1.5 * margin / number)
    assert all(MEASURES[name].group == "quality" for name in found)
    assert found["recall@10"].moved == 0


def test_a_grid_that_fails_is_no_spread(monkeypatch, tmp_path):
    monkeypatch.setattr(instructions, "GRID", "no such grid")
    with pytest.raises(ValueError, match="exit code 2: benchmarks.run: --grid: unknown grid"):
        instructions._run_grid({}, tmp_path / "own")
