"""The comparison of two checkouts and the gates' proof, on processes that are made up: no clock is looked at."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cell import Cell
from benchmarks.compare import command as compare
from benchmarks.compare import judge as comparison
from benchmarks.compare import turns as interleave
from benchmarks.compare import worker as timings
from benchmarks.compare.judge import comparisons_of, timed_cells
from benchmarks.compare.turns import BASE, HEAD, TURNS, Order, ProcessError, run_pairs
from benchmarks.environment import PROJECT
from benchmarks.gate.baseline import load_baseline
from benchmarks.grids import load_grid, preset_names, select
from benchmarks.noise import command as noise
from benchmarks.noise.record import load_proof
from benchmarks.records import RecordError
from benchmarks.store import proof_path

PASS, REGRESSION, BAD_INPUT, INCOMPLETE, NOT_COMPARABLE = 0, 1, 2, 3, 4
SPREAD = 0.01
MADE_UP = {timings.SERVE: 1e-3, timings.COMPRESS: 2e-3, timings.TRAIN: 8e-3}


class Machine:
    """Starts processes that answer as real ones would: times around a thousandth, with noise."""

    def __init__(self, *, slower=None, fails=None, spread=SPREAD, foreign=0.0):
        self.random = np.random.default_rng(3)
        self.slower, self.fails, self.spread, self.foreign = slower or {}, fails or {}, spread, foreign
        self.started, self.asked, self.turns = [], [], []

    def __call__(self, root, order):
        assert order["root"] == str(root)
        self.started.append("head" if len(self.started) % 2 else "base")  # the base's process is started first
        return Process(self, self.started[-1], order)

    def noise(self):
        return float(np.exp(self.random.normal(0, self.spread / np.sqrt(2))))


class Process:
    """One of a machine's processes."""

    def __init__(self, machine, side, order):
        self.machine, self.side, self.order = machine, side, order

    def ready(self):
        if self.machine.fails.get(self.side) == "process":
            raise ProcessError(f"{self.side}: ended with exit code 1: ImportError: no torch")

    def ask(self, key, timing=None):
        if timing is not None:
            self.machine.turns.append((self.side, key, timing))
            return {"seconds": self.medians[timing]}
        self.machine.asked.append((self.side, key))
        fault = self.machine.fails.get(self.side)
        if fault is not None and (fault[1] is None or len(self.machine.started) in fault[1]):
            return {"error": fault[0]}
        names = [timings.SERVE, timings.TRAIN, timings.COMPRESS][: comparisons_of(Cell.from_dict(self.order["cells"][key]))]
        noise, slower = self.machine.noise, self.machine.slower
        self.medians = {name: MADE_UP[name] * noise() * slower.get((self.side, name), 1.0) for name in names}
        if key in self.order["planted"]:
            self.medians[timings.PLANTED] = MADE_UP[timings.SERVE] * noise() * 1.2
        return {"timings": list(self.medians), "readings": {"foreign_cpu_share": self.machine.foreign}}

    def close(self):
        pass


@pytest.fixture
def base(tmp_path):
    """A folder that looks like another checkout."""
    root = tmp_path / "base"
    (root / "persrec").mkdir(parents=True)
    (root / "benchmarks").mkdir()
    shutil.copy(PROJECT / "benchmarks" / "execute.py", root / "benchmarks" / "execute.py")
    return root


def compared(base, machine, *options, pairs=16):
    out = base.parent / "compare.json"
    arguments = [str(base), "--grid", "smoke", "--device", "cpu", "--pairs", str(pairs), "--json", str(out), *options]
    code = compare.main(arguments, start=machine)
    content = json.loads(out.read_text())
    assert content["exit_code"] == code
    return code, content


def verdicts(content):
    found = {}
    for one in content["findings"]:
        found.setdefault((one["metric"], one["verdict"]), []).append(one["cell"])
    return {key: len(cells) for key, cells in found.items()}


def test_a_against_a_passes(base, capsys):
    code, content = compared(base, Machine())
    assert code == PASS
    assert content["counts"] == {"PASS": content["rule"]["comparisons"]}
    out = capsys.readouterr().out
    assert "pair 16 of 16" in out
    assert "corrected over" in out
    assert f"PASS: {PROJECT} beside {base}" in " ".join(out.split())


def test_a_fifth_slower_serving_is_a_regression_of_serving_alone(base):
    code, content = compared(base, Machine(slower={("head", timings.SERVE): 1.2}))
    assert code == REGRESSION
    found = verdicts(content)
    assert (timings.SERVE, "PASS") not in found
    assert (timings.SERVE, "REGRESSION") in found
    assert not any(metric != timings.SERVE and verdict == "REGRESSION" for metric, verdict in found)


def test_a_faster_head_is_improved_and_strict_says_so(base):
    machine = {("base", timings.TRAIN): 1.3}
    code, content = compared(base, Machine(slower=machine))
    assert (code, verdicts(content)[timings.TRAIN, "IMPROVED"] > 0) == (PASS, True)
    assert compared(base, Machine(slower=machine), "--strict")[0] == REGRESSION


def test_a_slow_machine_in_both_is_no_effect(base):
    slower = {(side, name): 3.0 for side in ("base", "head") for name in MADE_UP}
    assert compared(base, Machine(slower=slower))[0] == PASS


def test_much_noise_is_ambiguous_and_says_how_many_pairs_it_takes(base, capsys):
    code, content = compared(base, Machine(spread=0.4))
    assert (code, set(content["counts"])) == (PASS, {"AMBIGUOUS"})
    assert all(one["needed"] is None or one["needed"] > 16 for one in content["findings"])
    assert "at the widest takes" in capsys.readouterr().out


def test_too_few_pairs_are_refused_with_the_number_it_takes(base, capsys):
    assert compare.main([str(base), "--grid", "smoke", "--pairs", "6"], start=Machine()) == BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "6 cannot carry" in err
    assert "takes at least" in err


def test_without_a_number_the_power_calculation_says_it(base, capsys):
    machine = Machine()
    assert compare.main([str(base), "--grid", "smoke", "--select", "compression=recent"], start=machine) == PASS
    assert machine.started.count("base") == machine.started.count("head") >= 9
    assert "with power 95% at an assumed spread of 5%" in capsys.readouterr().out


def test_processes_take_turns_in_an_order_that_the_seed_draws():
    cells = {name: {"backbone": "hstu", "compression": "recent"} for name in "abc"}
    order = Order(cells=cells, payload={}, threads=1, affinity=[0], timeout_s=1)
    runs = []
    for seed in (1, 1, 2):
        machine = Machine()
        pairs = run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, pairs=10, seed=seed, told=lambda number: None, start=machine)
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


def one_pair(process):
    """A pair of a cell that serves and trains, with a process class of the test's own."""
    machine = Machine()

    def start(root, order):
        machine(root, order)
        return process(machine, machine.started[-1], order)

    order = Order(cells={"a": {"backbone": "hstu", "compression": "recent"}}, payload={}, threads=1, affinity=[0], timeout_s=1)
    return run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, pairs=1, seed=1, told=lambda number: None, start=start)[0]


def ratios(pair):
    """What comes of a pair, by timing."""
    found, _ = comparison.compared([pair, pair], {"a": Cell(backbone="hstu", compression="recent")}, margin=0.05)
    return {one.metric: one.effect.value for one in found}


def test_every_turn_of_a_timing_is_kept():
    pair = one_pair(Process)
    assert {name: len(turns) for name, turns in pair.base["a"]["turns"].items()} == dict.fromkeys((timings.SERVE, timings.TRAIN), 8)
    assert pair.base["a"]["readings"] == {"foreign_cpu_share": 0.0}


def test_a_moment_of_trouble_is_outvoted():
    class Troubled(Process):
        def ask(self, key, timing=None):
            answer = super().ask(key, timing)
            return answer if timing is None else {"seconds": 9.0 if len(self.machine.turns) in (1, 5, 6) else 2.0}

    assert ratios(one_pair(Troubled)) == {timings.SERVE: 0.0, timings.TRAIN: 0.0}


def test_a_machine_that_changes_its_speed_at_any_moment_changes_both_sides_of_a_ratio():
    for change in range(1, len(TURNS) + 1):

        class Slowing(Process):
            def ask(self, key, timing=None, change=change):
                answer = super().ask(key, timing)
                slow = 1.0 if len(self.machine.turns) < change else 2.0
                return answer if timing is None else {"seconds": slow * (1.1 if self.side == "head" else 1.0)}

        assert ratios(one_pair(Slowing))[timings.SERVE] == pytest.approx(0.1)


def test_a_machine_that_slows_down_steadily_slows_both_sides_alike():
    class Drifting(Process):
        def ask(self, key, timing=None):
            answer = super().ask(key, timing)
            return answer if timing is None else {"seconds": 1.05 ** len(self.machine.turns)}

    assert ratios(one_pair(Drifting)) == pytest.approx({timings.SERVE: 0.0, timings.TRAIN: 0.0})


def test_what_is_planted_shares_the_turns_of_what_it_is_held_against():
    machine = Machine()
    order = Order(
        cells={"a": {"backbone": "hstu", "compression": "recent"}}, payload={}, threads=1, affinity=[0], timeout_s=1, planted=["a"]
    )
    run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, pairs=1, seed=1, told=lambda number: None, start=machine)
    names = [name for _, _, name in machine.turns]
    assert names[: 2 * len(TURNS)] == [timings.SERVE, timings.PLANTED] * len(TURNS)
    assert names[2 * len(TURNS) :] == [timings.TRAIN] * len(TURNS)


@pytest.mark.parametrize("turn", [1, 20])
def test_a_turn_that_fails_fails_the_cell(turn):
    class Failing(Process):
        def ask(self, key, timing=None):
            assert len(self.machine.turns) < turn  # nothing is timed behind it
            answer = super().ask(key, timing)
            return {"error": "ValueError: at times"} if timing and len(self.machine.turns) == turn else answer

    pair = one_pair(Failing)
    assert sorted("error" in answers["a"] for answers in (pair.base, pair.head)) == [False, True]


def test_what_one_side_alone_times_is_timed_of_it_alone():
    class Compressing(Process):
        def ask(self, key, timing=None):
            if timing == timings.COMPRESS:
                return {"seconds": 1.0}
            answer = super().ask(key, timing)
            return {**answer, "timings": [*answer["timings"], timings.COMPRESS]} if timing is None and self.side == "head" else answer

    pair = one_pair(Compressing)
    assert set(pair.head["a"]["turns"]) - set(pair.base["a"]["turns"]) == {timings.COMPRESS}


def test_a_cell_that_the_head_cannot_time_is_invalid(base):
    code, content = compared(base, Machine(fails={"head": ("ValueError: no such kernel", None)}))
    assert (code, set(content["counts"])) == (INCOMPLETE, {"INVALID"})
    assert "head: ValueError: no such kernel" in content["findings"][0]["reason"]


def test_a_cell_that_the_base_does_not_know_is_new(base):
    code, content = compared(base, Machine(fails={"base": ("ValueError: backbone: unknown 'new'", None)}))
    assert (code, set(content["counts"])) == (NOT_COMPARABLE, {"NEW"})


def test_a_cell_that_neither_supports_is_a_finding_of_both(base):
    fault = ("UnsupportedError: no texts", None)
    code, content = compared(base, Machine(fails={"base": fault, "head": fault}))
    assert (code, set(content["counts"])) == (PASS, {"PASS"})
    assert compared(base, Machine(fails={"head": fault}))[0] == INCOMPLETE


def test_a_base_that_fails_once_is_invalid(base):
    assert compared(base, Machine(fails={"base": ("MemoryError: ", {2})}))[0] == INCOMPLETE


def test_a_process_that_dies_ends_it_with_every_output_written(base):
    junit, markdown = base.parent / "junit.xml", base.parent / "compare.md"
    machine = Machine(fails={"head": "process"})
    code, content = compared(base, machine, "--junit", str(junit), "--markdown", str(markdown))
    assert (code, len(machine.started), machine.asked) == (INCOMPLETE, 2, [])
    suite = ET.parse(junit).getroot().find("testsuite")  # noqa: S314 - our own file
    assert int(suite.get("errors")) == len(content["findings"]) > 0
    assert "no torch" in markdown.read_text()


def test_markdown_holds_every_number(base):
    markdown = base.parent / "compare.md"
    _, content = compared(base, Machine(), "--markdown", str(markdown))
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("| PASS")]
    assert len(rows) == content["rule"]["comparisons"]
    assert all(" ms |" in row for row in rows)


def test_where_a_comparison_comes_from_is_kept(base):
    _, content = compared(base, Machine(foreign=0.4))
    assert content["base"]["root"] == str(base)
    assert content["head"]["root"] == str(PROJECT)
    assert content["provenance"]["argv"][:3] == ["python", "-m", "benchmarks.compare"]
    assert content["environment"]["fingerprint"]
    assert len(content["pairs"]) == 16
    assert any("other processes used 40%" in note for note in content["notes"])


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda root: shutil.rmtree(root / "persrec"), "no checkout of this project"),
        (lambda root: (root / "benchmarks" / "execute.py").write_text("x = 1\n"), "older than timing comparisons"),
    ],
)
def test_a_base_that_cannot_be_compared_is_refused(base, spoil, part, capsys):
    spoil(base)
    assert compare.main([str(base), "--grid", "smoke", "--pairs", "20"], start=Machine()) == BAD_INPUT
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("options", [("--grid", "nothing"), ("--grid", "smoke", "--margin", "-1"), ("--grid", "smoke", "--margin", "0.3")])
def test_bad_options_are_refused(base, options, capsys):
    assert compare.main([str(base), *options], start=Machine()) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_floors_alone_leave_nothing_to_time(base, capsys):
    assert compare.main([str(base), "--grid", "smoke", "--select", "compression=none"], start=Machine()) == BAD_INPUT
    assert "nothing to time" in capsys.readouterr().err


@pytest.mark.parametrize("name", preset_names())
def test_every_grid_can_be_timed(name):
    cells = timed_cells(load_grid(name, device="cpu").cells)
    assert cells
    assert all(cell.training == "none" for cell in cells.values())


class Subject:
    """Counts its calls."""

    def __init__(self, cell):
        self.cell, self.calls, self.compresses = cell, {"serve": 0, "compress": 0, "train": 0}, bool(cell.tokens)
        self.model = self

    def train(self, mode):
        self.training = mode

    def request(self, users):
        return users

    def training_batch(self, users):
        return users

    def server(self, users):
        assert users == self.cell.batch_size
        return lambda: self.count("serve")

    def compress(self, users):
        assert users == self.cell.batch_size
        self.count("compress")

    def trainer(self):
        return self

    def step(self, users):
        assert users == self.cell.batch_size
        self.count("train")

    def count(self, name):
        assert self.training == (name == "train")
        self.calls[name] += 1


def test_the_planted_slow_down_is_a_fifth_more_real_work():
    done = {}

    def timed(call, *, device, count):
        before = dict(subject.calls)
        call()
        done[name] = {what: subject.calls[what] - before[what] for what in before if subject.calls[what] > before[what]}
        return [0.030] * count

    subject = Subject(Cell(backbone="hstu", compression="experts", tokens=4))
    of_cell = timings.Timings(subject, timed, planted=True)
    medians = {}
    for name in (*of_cell.names, timings.SERVE):  # serving again behind a training step
        medians[name] = of_cell.median(name)
    assert done == {
        timings.SERVE: {"serve": 5},
        timings.PLANTED: {"serve": 6},
        timings.COMPRESS: {"compress": 5},
        timings.TRAIN: {"train": 1},
    }
    assert medians == {timings.SERVE: 0.006, timings.PLANTED: 0.006, timings.COMPRESS: 0.006, timings.TRAIN: 0.030}
    assert timings.Timings(Subject(Cell(backbone="hstu", compression="recent")), timed, planted=False).names == [
        timings.SERVE,
        timings.TRAIN,
    ]


def test_a_real_process_times_a_cell_of_this_checkout(tmp_path):
    settings = {"dataset_size": "tiny", "history": 6, "recent": 2, "width": 8, "batch_size": 2, "negatives": 8, "layers": 1}
    good = Cell(backbone="hstu", compression="experts", tokens=2, training="none", **settings)
    cells = {"good": good.to_dict(), "bad": {"backbone": "nothing", "compression": "full"}}
    payload = {"data_dir": None, "cache_dir": str(tmp_path)}
    order = Order(cells=cells, payload=payload, threads=1, affinity=[0], timeout_s=300, planted=["good"])
    process = interleave.Process(PROJECT, order.of(PROJECT))
    try:
        process.ready()
        bad, answer = process.ask("bad"), process.ask("good")
        turns = [process.ask("good", name) for name in answer["timings"]]
        unknown = process.ask("good", "sleeping")
    finally:
        process.close()
    assert set(answer["timings"]) == {timings.SERVE, timings.PLANTED, timings.COMPRESS, timings.TRAIN}
    assert all(turn["seconds"] > 0 for turn in turns)
    assert len(answer["timings"]) - 1 == comparisons_of(good)
    assert "sleeping" in unknown["error"]
    assert set(answer["readings"]) == {"load_average_before", "load_average_after", "foreign_cpu_share"}
    assert "backbone: unknown 'nothing'" in bad["error"]


@pytest.mark.parametrize(("timeout_s", "part"), [(300, "exit code 1: RuntimeError: broken checkout"), (0.01, r"no answer after 0\.01 s")])
def test_a_process_that_does_not_run_says_why(tmp_path, timeout_s, part):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise RuntimeError('broken checkout')\n")
    order = Order(cells={}, payload={}, threads=1, affinity=[0], timeout_s=timeout_s)
    process = interleave.Process(tmp_path, order.of(tmp_path))
    try:
        with pytest.raises(ProcessError, match=part):
            process.ready()
    finally:
        process.close()
    assert [path.name for path in tmp_path.rglob("*")] == ["benchmarks", "__init__.py"]  # a checkout is only read


def proven(tmp_path, machine, *options):
    out = tmp_path / "noise" / "aa.json"
    arguments = ["--pairs", "13", "--out", str(out), "--baseline", str(PROJECT / "results" / "baselines" / "smoke-cpu.json"), "--quiet"]
    arguments += ["--device", "cpu", *options]
    code = noise.main(arguments, start=machine)
    return code, json.loads(out.read_text()) if load_proof(out) is not None else None


def test_the_gates_prove_themselves(tmp_path, capsys):
    code, content = proven(tmp_path, Machine(spread=0.015))
    assert code == PASS
    assert content["false_alarms"]["alarms"] == 0
    assert content["false_alarms"]["comparisons"] >= 300
    assert content["false_alarms"]["upper_bound"] < 0.01
    assert (content["slow_down"]["found"], content["slow_down"]["trials"]) == (20, 20)
    assert content["flops"]["found"] == content["flops"]["trials"] > 100
    assert content["processes"] == content["runs"] * 13 * 2
    assert "0 false alarms in" in capsys.readouterr().out


def test_a_gate_that_sees_nothing_is_not_proved(tmp_path):
    code, content = proven(tmp_path, Machine(spread=0.5), "--comparisons", "50", "--planted", "5")
    assert code == REGRESSION
    assert content["slow_down"]["found"] < 5


def test_a_process_that_dies_leaves_no_proof(tmp_path, capsys):
    machine = Machine(fails={"head": "process"})
    code, content = proven(tmp_path, machine)
    assert (code, content) == (INCOMPLETE, None)
    assert "no torch" in capsys.readouterr().err


def test_plants_are_drawn_before_anything_is_measured_and_fit():
    plants = noise.drawn_plants(["a", "b", "c"], runs=3, wanted=7, seed=1)
    assert [len(cells) for cells in plants] == [3, 2, 2]
    assert all(len(set(cells)) == len(cells) for cells in plants)
    assert plants == noise.drawn_plants(["a", "b", "c"], runs=3, wanted=7, seed=1)
    with pytest.raises(ValueError, match="--planted: 10"):
        noise.drawn_plants(["a", "b", "c"], runs=3, wanted=10, seed=1)


def test_five_percent_more_flops_are_always_found():
    found, trials = noise.raised_flops(load_baseline(PROJECT / "results" / "baselines" / "smoke-cpu.json"))
    assert found == trials > 100


def test_the_cheap_grid_holds_fifty_comparisons():
    cells = timed_cells(select(load_grid("cheap", device="cpu").cells, "", grid="cheap"))
    assert sum(map(comparisons_of, cells.values())) == 50


def test_a_proof_that_is_none_is_refused(tmp_path):
    path = proof_path(tmp_path / "run")
    assert load_proof(path) is None
    path.parent.mkdir()
    for content, part in (
        ("{", "not a whole JSON"),
        ('{"schema_version": 2}', "schema version 2"),
        ('{"schema_version": 1}', "is no record of benchmarks.noise"),
    ):
        path.write_text(content)
        with pytest.raises(RecordError, match=part):
            load_proof(path)
