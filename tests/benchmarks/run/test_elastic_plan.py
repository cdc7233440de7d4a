"""How many models and costs a sweep over token counts and history lengths takes: one model serves them all."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from benchmarks.cell import Cell
from benchmarks.grids import load_grid
from benchmarks.keys import Catalogue
from benchmarks.run.plan import Plan, Planner

GRID = """
[dataset.synthetic]
dataset_size = "tiny"
[[sweep]]
backbone = ["hstu", "sasrec"]
compression = "experts"
training = "elastic"
elastic_tokens = [0, 1, 4]
elastic_history = [16, 32, 64]
tokens = [0, 1, 4]
history = [16, 32, 64]
[[sweep]]
backbone = ["hstu", "sasrec"]
compression = "full"
training = "elastic"
elastic_history = [16, 32, 64]
history = [16, 32, 64]
serving = ["recompute", "cache"]
"""


def plan_of(cells: tuple[Cell, ...], out: Path) -> Plan:
    data = {cell.data: "d" for cell in cells}
    catalogues = dict.fromkeys(data, Catalogue(items=9))
    return Planner(out=out, resume="missing", only=None, digests=data, catalogues=catalogues, fingerprint="f").plan(cells)


@pytest.fixture
def cells(tmp_path: Path) -> tuple[Cell, ...]:
    (tmp_path / "own.toml").write_text(GRID)
    return load_grid(str(tmp_path / "own.toml"), device="cpu").cells


def test_one_model_per_backbone_and_compression_serves_every_point(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    plan = plan_of(cells, tmp_path / "out")
    assert len(plan.cells) == 2 * (3 * 3 + 3 * 2)
    assert len({planned.model_key for planned in plan.cells}) == 2 * 2
    for _, same in itertools.groupby(sorted(plan.cells, key=lambda planned: str(planned.model_key)), key=lambda planned: planned.model_key):
        assert len({(planned.cell.backbone, planned.cell.compression) for planned in same}) == 1
    assert len({planned.quality_key for planned in plan.cells}) == len(plan.cells)
    assert all(planned.quality_reason == "missing" for planned in plan.cells)


def test_its_costs_are_those_of_separate_models_of_the_same_history(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    full = tuple(cell for cell in cells if cell.compression == "full")
    separate = tuple(dataclasses.replace(cell, training="separate", elastic_history=()) for cell in full)
    plan = plan_of(full + separate, tmp_path / "out")
    assert len({planned.model_key for planned in plan.cells}) == 2 * (1 + 3)
    assert len(plan.costs) == len(full) == 2 * 3 * 2
    of_tokens = tuple(dataclasses.replace(cell, elastic_history=()) for cell in cells if cell.compression == "experts")
    experts = tuple(cell for cell in cells if cell.compression == "experts")
    assert plan_of(experts, tmp_path / "out").costs.keys() == plan_of(of_tokens, tmp_path / "out").costs.keys()
