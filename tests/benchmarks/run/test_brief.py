"""Timings of a few calls are none where full ones are asked for."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.cell import Cell
from benchmarks.digests import cost_digests
from benchmarks.keys import Catalogue, cost_key, cost_shape
from benchmarks.records import Cost, Environment, Process, Status
from benchmarks.run import command
from benchmarks.run.plan import Planner
from benchmarks.store import write_cost

GRID = """
[dataset.synthetic]
dataset_size = "tiny"
[limits]
costs_alone = {alone}
[[sweep]]
backbone = "sasrec"
compression = "recent"
"""
CELL = Cell(backbone="sasrec", compression="recent")


@pytest.mark.parametrize(
    ("was_brief", "briefly", "known"), [(True, True, True), (False, True, True), (False, False, True), (True, False, False)]
)
def test_brief_timings_are_kept_where_brief_ones_are_enough(tmp_path: Path, was_brief: bool, briefly: bool, known: bool) -> None:
    planner = Planner(
        out=tmp_path,
        resume="missing",
        only="cost",
        digests={CELL.data: "d"},
        catalogues={CELL.data: Catalogue(items=9)},
        fingerprint="f",
        processes=1,
        briefly=briefly,
    )
    shape = cost_shape(CELL, Catalogue(items=9))
    process = Process(metrics={}, environment=Environment(fingerprint="f"), brief=was_brief)
    cost = Cost(
        cost_key=cost_key(shape),
        status=Status.OK,
        shape=shape,
        processes=(process,),
        code=cost_digests(CELL),
        environment=Environment(fingerprint="f"),
    )
    write_cost(tmp_path, cost)
    (planned,) = planner.plan([CELL]).costs.values()
    assert (planned.known is not None, planned.reason == "done", not planned.jobs) == (known,) * 3
    assert planned.briefly is briefly


@pytest.mark.parametrize("alone", [True, False])
def test_a_grid_that_needs_no_timings_is_planned_with_brief_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    asked = []

    def planner(**settings: Any) -> None:
        asked.append(settings["briefly"])
        raise ValueError("enough is known")

    monkeypatch.setattr(command, "Planner", planner)
    (tmp_path / "own.toml").write_text(GRID.format(alone=str(alone).lower()))
    options = ["--grid", str(tmp_path / "own.toml"), "--quiet", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert command.main([*options, "--cache-dir", str(tmp_path / "cache")]) == 2
    assert asked == [not alone]
