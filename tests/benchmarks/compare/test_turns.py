"""The turns of a pair: who measures when, and what a disturbance does to a ratio. No clock is looked at."""

import dataclasses
from pathlib import Path

import pytest
from fake_machine import FakeProcess, Machine, one_pair

from benchmarks.cell import Cell
from benchmarks.compare import turns, worker
from benchmarks.compare.judge import compare_timings, order_of
from benchmarks.compare.turns import BASE, HEAD, TURNS, WorkOrder, run_pairs
from benchmarks.environment import PROJECT
from benchmarks.grids import load_grid


def test_processes_take_turns_in_an_order_that_the_seed_draws():
    cells = {name: {"backbone": "hstu", "compression": "recent"} for name in "abc"}
    order = WorkOrder(cells=cells, payload={}, threads=1, affinity=[0], timeout_s=1)
    runs = []
    for seed in (1, 1, 2):
        machine = Machine()
        pairs = run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, count=10, seed=seed, on_pair=lambda number: None, start=machine)
        runs.append(machine.asked)
        assert len(machine.started) == 20  # every pair has fresh processes
        assert all([pair.firsts[key] for pair in pairs].count("base") == 5 for key in "abc")
        for (first, one), (second, other) in zip(machine.asked[::2], machine.asked[1::2], strict=True):
            assert (one, {first, second}) == (other, {"base", "head"})  # the same cell, one right after the other
        for start in range(0, len(machine.turns), len(TURNS)):
            sides, keys, names = zip(*machine.turns[start : start + len(TURNS)], strict=True)
            assert sides == sides[::-1]  # so a steady drift slows both sides alike
            assert sides.count("base") == sides.count("head")
            assert (len(set(keys)), len(set(names))) == (1, 1)
    assert runs[0] == runs[1] != runs[2]


def ratios(pair):
    """What comes of a pair, by timing."""
    found, _ = compare_timings([pair, pair], {"a": Cell(backbone="hstu", compression="recent")}, margin=0.05)
    return {one.metric: one.effect.value for one in found}


def test_every_turn_of_a_timing_is_kept():
    pair = one_pair(FakeProcess)
    assert {name: len(turns) for name, turns in pair.base["a"]["turns"].items()} == dict.fromkeys((worker.SERVE, worker.TRAIN), 8)
    assert pair.base["a"]["readings"] == {"foreign_cpu_share": 0.0}


def test_a_moment_of_trouble_is_outvoted():
    class Troubled(FakeProcess):
        def ask(self, key, timing=None, size=None):
            answer = super().ask(key, timing, size)
            return answer if timing is None else {"seconds": 9.0 if len(self.machine.turns) in (1, 5, 6) else 2.0}

    assert ratios(one_pair(Troubled)) == {worker.SERVE: 0.0, worker.TRAIN: 0.0}


def test_a_machine_that_changes_its_speed_at_any_moment_changes_both_sides_of_a_ratio():
    for change in range(1, len(TURNS) + 1):

        class Slowing(FakeProcess):
            def ask(self, key, timing=None, size=None, change=change):
                answer = super().ask(key, timing, size)
                slow = 1.0 if len(self.machine.turns) < change else 2.0
                return answer if timing is None else {"seconds": slow * (1.1 if self.side == "head" else 1.0)}

        assert ratios(one_pair(Slowing))[worker.SERVE] == pytest.approx(0.1)


def test_a_machine_that_slows_down_steadily_slows_both_sides_alike():
    class Drifting(FakeProcess):
        def ask(self, key, timing=None, size=None):
            answer = super().ask(key, timing, size)
            return answer if timing is None else {"seconds": 1.05 ** len(self.machine.turns)}

    assert ratios(one_pair(Drifting)) == pytest.approx({worker.SERVE: 0.0, worker.TRAIN: 0.0})


def test_what_is_planted_shares_the_turns_of_what_it_is_held_against():
    machine = Machine()
    order = WorkOrder(
        cells={"a": {"backbone": "hstu", "compression": "recent"}}, payload={}, threads=1, affinity=[0], timeout_s=1, planted=["a"]
    )
    run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, count=1, seed=1, on_pair=lambda number: None, start=machine)
    names = [name for _, _, name in machine.turns]
    assert names[: 2 * len(TURNS)] == [worker.SERVE, worker.PLANTED] * len(TURNS)
    assert names[2 * len(TURNS) :] == [worker.TRAIN] * len(TURNS)


@pytest.mark.parametrize("turn", [1, 20])
def test_a_turn_that_fails_fails_its_side_and_leaves_the_other_timed(turn):
    class Failing(FakeProcess):
        failed = None

        def ask(self, key, timing=None, size=None):
            assert Failing.failed != self.side  # it is asked no more
            answer = super().ask(key, timing, size)
            if timing and len(self.machine.turns) == turn:
                Failing.failed = self.side
                return {"error": "ValueError: at times"}
            return answer

    pair = one_pair(Failing)
    other = HEAD if Failing.failed == BASE else BASE
    assert pair.answer(Failing.failed, "a") == {"error": "ValueError: at times"}
    assert {name: len(turns) for name, turns in pair.answer(other, "a")["turns"].items()} == {worker.SERVE: 8, worker.TRAIN: 8}


def test_both_sides_take_turns_of_one_size_that_of_the_slower():
    machine = Machine()
    machine.own_sizes = {("head", worker.SERVE): (1, 3), ("base", worker.TRAIN): (1, 1)}
    order = WorkOrder(
        cells={"a": {"backbone": "hstu", "compression": "recent"}}, payload={}, threads=1, affinity=[0], timeout_s=1, planted=["a"]
    )
    run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, count=1, seed=1, on_pair=lambda number: None, start=machine)
    assert set(machine.sizes) == {(worker.SERVE, (1, 3)), (worker.PLANTED, (1, 3)), (worker.TRAIN, (1, 1))}


def test_what_one_side_alone_times_is_timed_of_it_alone():
    class Compressing(FakeProcess):
        def ask(self, key, timing=None, size=None):
            if timing == worker.COMPRESS:
                return {"seconds": 1.0}
            answer = super().ask(key, timing, size)
            if timing is not None or self.side != "head":
                return answer
            return {**answer, "timings": [*answer["timings"], worker.COMPRESS], "sizes": answer["sizes"] | {worker.COMPRESS: (1, 3)}}

    pair = one_pair(Compressing)
    assert set(pair.head["a"]["turns"]) - set(pair.base["a"]["turns"]) == {worker.COMPRESS}


def test_an_order_names_places_in_full_and_settings_as_they_are(monkeypatch, tmp_path):
    """Each process works in its own checkout, whose defaults may be others."""
    monkeypatch.chdir(tmp_path)
    grid = load_grid("cheap", device="cpu")
    cell = grid.cells[0]
    order = order_of({"key": cell}, grid, data_dir="data", cache_dir=None).to_dict(tmp_path / "base", "base")
    assert order["payload"] == {"data_dir": str(tmp_path / "data"), "cache_dir": None}
    assert order["cells"]["key"] == cell.to_dict()
    own = order_of({"key": dataclasses.replace(cell, dataset="events.toml")}, grid, data_dir=None, cache_dir=None)
    assert own.cells["key"]["dataset"] == str(tmp_path / "events.toml")
    assert order["cells"]["key"]["width"] == cell.width
    monkeypatch.setenv("PERSREC_DATA", "data")
    assert turns._environment(tmp_path, 1)["PERSREC_DATA"] == str(tmp_path / "data")
