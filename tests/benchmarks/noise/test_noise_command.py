"""The gates' proof of themselves, on processes that are made up: no clock is looked at."""

import json

import pytest
from fake_machine import Machine

from benchmarks.compare.judge import comparisons_of, timed_cells
from benchmarks.environment import PROJECT
from benchmarks.grids import load_grid
from benchmarks.grids.selection import select
from benchmarks.noise import command as noise
from benchmarks.noise.rates import upper_bound
from benchmarks.noise.record import load_proof

PASS, REGRESSION, BAD_INPUT, INCOMPLETE = 0, 1, 2, 3
BASELINE = PROJECT / "results" / "baselines" / "smoke-cpu.json"


def proven(tmp_path, machine, *options):
    out = tmp_path / "noise" / "aa.json"
    arguments = ["--pairs", "13", "--out", str(out), "--baseline", str(BASELINE), "--quiet"]
    arguments += ["--device", "cpu", *options]
    return noise.main(arguments, start=machine, measure=lambda variables, out: []), load_proof(out)


def test_the_gates_prove_themselves(tmp_path, capsys):
    code, record = proven(tmp_path, Machine(spread=0.015))
    assert code == PASS
    assert record.false_alarms.alarms == 0
    assert record.false_alarms.comparisons >= 300
    assert record.false_alarms.upper_bound == upper_bound(0, record.false_alarms.comparisons) < 0.01
    assert (record.slow_down.found, record.slow_down.trials) == (20, 20)
    assert record.flops.found == record.flops.trials > 100
    assert all(one.found == one.trials > 0 for one in record.plants)
    assert record.processes == record.runs * 13 * 2
    assert "0 false alarms in" in capsys.readouterr().out


def test_a_record_holds_no_absolute_path(tmp_path):
    _, record = proven(tmp_path, Machine(), "--comparisons", "1", "--planted", "1")
    assert (record.grid, record.flops.baseline) == ("cheap", BASELINE.name)
    assert all(str(PROJECT) not in text for text in (json.dumps(record.comparisons), json.dumps(record.cells), record.method))


def test_a_gate_that_sees_nothing_is_not_proved(tmp_path):
    code, record = proven(tmp_path, Machine(spread=0.5), "--comparisons", "50", "--planted", "5")
    assert code == REGRESSION
    assert record.slow_down.found < 5


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--out", "."], "--out: . is a folder"),
        (["--out", str(BASELINE)], "is also the file of --baseline"),
        (["--baseline", "nothing.json"], "nothing.json: No such file"),
    ],
)
def test_what_would_fail_behind_the_measuring_is_refused_before(tmp_path, options, part, capsys):
    machine = Machine()
    assert proven(tmp_path, machine, *options) == (BAD_INPUT, None)
    assert (machine.started, part in capsys.readouterr().err) == ([], True)


def test_a_baseline_without_flops_is_refused_before_anything_is_measured(tmp_path, capsys):
    content = json.loads(BASELINE.read_text())
    for entry in content["entries"].values():
        entry["metrics"] = {name: value for name, value in entry["metrics"].items() if not name.endswith("_flops")}
    (tmp_path / "quality.json").write_text(json.dumps(content))
    machine = Machine()
    assert proven(tmp_path, machine, "--baseline", str(tmp_path / "quality.json")) == (BAD_INPUT, None)
    assert (machine.started, "holds no FLOPs to raise" in capsys.readouterr().err) == ([], True)


def test_a_process_that_dies_leaves_no_proof(tmp_path, capsys):
    machine = Machine(fails={"head": "process"})
    code, content = proven(tmp_path, machine)
    assert (code, content) == (INCOMPLETE, None)
    assert "no torch" in capsys.readouterr().err


def test_plants_are_drawn_before_anything_is_measured_and_fit():
    plants = noise.drawn_plants(["a", "b", "c"], runs=3, count=7, seed=1)
    assert [len(cells) for cells in plants] == [3, 2, 2]
    assert all(len(set(cells)) == len(cells) for cells in plants)
    assert plants == noise.drawn_plants(["a", "b", "c"], runs=3, count=7, seed=1)
    with pytest.raises(ValueError, match="--planted: 10"):
        noise.drawn_plants(["a", "b", "c"], runs=3, count=10, seed=1)


def test_the_cheap_grid_holds_fifty_comparisons():
    cells = timed_cells(select(load_grid("cheap", device="cpu").cells, "", grid="cheap"))
    assert sum(map(comparisons_of, cells.values())) == 50
