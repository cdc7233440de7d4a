"""The command that compares two checkouts, on processes that are made up: no clock is looked at."""

import dataclasses
import json
import shutil
import xml.etree.ElementTree as ET

import pytest
from fake_machine import MADE_UP, Machine

from benchmarks.cell import Cell
from benchmarks.compare import command as compare
from benchmarks.compare import worker
from benchmarks.compare.judge import timed_cells
from benchmarks.environment import PROJECT
from benchmarks.grids import load_grid, preset_names

PASS, REGRESSION, BAD_INPUT, INCOMPLETE, NOT_COMPARABLE = 0, 1, 2, 3, 4


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


def peaks_of(content):
    """The findings on memory."""
    return [one for one in content["findings"] if one["base_bytes"] is not None]


def test_a_against_a_passes(base, capsys):
    code, content = compared(base, Machine())
    assert code == PASS
    assert len(peaks_of(content)) == content["rule"]["comparisons"]
    assert content["counts"] == {"PASS": 2 * content["rule"]["comparisons"]}
    assert content["confirmation"] == {"pairs": [], "findings": []}
    out = capsys.readouterr().out
    assert "pair 16 of 16" in out
    assert "corrected over" in out
    assert f"PASS: this checkout beside {base.name}, 16 pairs of processes: " in " ".join(out.split())


def test_a_fifth_slower_serving_is_a_regression_of_serving_alone(base):
    code, content = compared(base, Machine(slower={("head", worker.SERVE): 1.2}))
    assert code == REGRESSION
    found = verdicts(content)
    assert (worker.SERVE, "PASS") not in found
    assert (worker.SERVE, "REGRESSION") in found
    assert not any(metric != worker.SERVE and verdict == "REGRESSION" for metric, verdict in found)


class Once(Machine):
    """A machine that is slow while its first processes run, and never again."""

    def __call__(self, root, order):
        if len(self.started) == 2 * 16:  # the first round's
            self.slower = {}
        return super().__call__(root, order)


def test_a_slow_down_that_a_second_round_does_not_find_fails_nobody(base):
    code, content = compared(base, Once(slower={("head", worker.TRAIN): 1.5}))
    assert (code, verdicts(content)[worker.TRAIN, "AMBIGUOUS"] > 0) == (PASS, True)
    found = next(one for one in content["findings"] if one["verdict"] == "AMBIGUOUS")
    assert "; not confirmed: a second, independent round found " in found["reason"]
    assert len(content["confirmation"]["pairs"]) == 16


class Breaking(Machine):
    """A machine whose head fails in the second round."""

    def __call__(self, root, order):
        if len(self.started) == 2 * 16:
            self.fails = {"head": ("TimeoutError: no answer", None)}
        return super().__call__(root, order)


def test_a_gain_that_a_second_round_does_not_find_fails_nobody_under_strict_either(base):
    code, content = compared(base, Once(slower={("base", worker.TRAIN): 1.5}), "--strict")
    assert (code, verdicts(content)[worker.TRAIN, "AMBIGUOUS"] > 0) == (PASS, True)


def test_a_slow_down_whose_second_round_fails_is_invalid(base):
    code, content = compared(base, Breaking(slower={("head", worker.TRAIN): 1.5}))
    assert code == INCOMPLETE
    found = [one for one in content["findings"] if one["metric"] == worker.TRAIN]
    assert {one["verdict"] for one in found} == {"INVALID"}
    assert found[0]["reason"].endswith("; the second round, which was to confirm it, has no timing: head: TimeoutError: no answer")


def test_the_second_round_is_of_what_looks_slower_alone(base):
    machine = Machine(slower={("head", worker.COMPRESS): 10.0})
    code, content = compared(base, machine)
    assert (code, len(machine.started)) == (REGRESSION, 2 * 2 * 16)
    slower = [one for one in content["findings"] if one["verdict"] == "REGRESSION"]
    assert {one["metric"] for one in slower} == {worker.COMPRESS}
    assert all("; a second, independent round found +" in one["reason"] for one in slower)
    assert {one["cell_key"] for one in content["confirmation"]["findings"]} == {one["cell_key"] for one in slower}


@pytest.mark.parametrize(("times", "verdict"), [(1.3, "PASS"), (2.0, "REGRESSION"), (10.0, "REGRESSION"), (0.4, "IMPROVED")])
def test_a_peak_of_memory_has_a_wide_margin(base, times, verdict):
    code, content = compared(base, Machine(larger={("head", worker.TRAIN): times}))
    assert code == (REGRESSION if verdict == "REGRESSION" else PASS)
    assert {one["verdict"] for one in peaks_of(content) if one["metric"] == "train_peak"} == {verdict}
    assert {one["verdict"] for one in content["findings"] if one["metric"] != "train_peak"} == {"PASS"}
    if verdict == "REGRESSION":
        assert peaks_of(content)[0]["reason"].startswith("larger by ")


@pytest.mark.parametrize(
    ("silent", "sides"),
    [
        ({"head": {"error": "RuntimeError: no memory"}}, "head: RuntimeError: no memory"),
        ({"base": {"peaks": {}}}, "base"),
        ({"base": {"peaks": {}}, "head": {"peaks": {}}}, None),
    ],
)
def test_a_peak_that_one_side_does_not_tell_is_no_pass(base, silent, sides):
    machine = Machine()
    machine.silent = silent
    code, content = compared(base, machine)
    found = {(one["verdict"], one["reason"]) for one in content["findings"] if (one["metric"] or "").endswith("_peak")}
    assert found == ({("INVALID", f"its peak was not told in every process of {sides}")} if sides else set())
    assert code == (INCOMPLETE if sides else PASS)


def test_a_faster_head_is_improved_and_strict_says_so(base):
    machine = {("base", worker.TRAIN): 1.3}
    code, content = compared(base, Machine(slower=machine))
    assert (code, verdicts(content)[worker.TRAIN, "IMPROVED"] > 0) == (PASS, True)
    assert compared(base, Machine(slower=machine), "--strict")[0] == REGRESSION


def test_a_slow_machine_in_both_is_no_effect(base):
    slower = {(side, name): 3.0 for side in ("base", "head") for name in MADE_UP}
    assert compared(base, Machine(slower=slower))[0] == PASS


def test_much_noise_is_ambiguous_and_says_how_many_pairs_it_takes(base, capsys):
    code, content = compared(base, Machine(spread=0.4))
    timings = [one for one in content["findings"] if one["base_ms"] is not None]
    assert (code, {one["verdict"] for one in timings}) == (PASS, {"AMBIGUOUS"})
    assert all(one["needed"] is None or one["needed"] > 16 for one in timings)
    assert "at the widest takes" in capsys.readouterr().out


def test_too_few_pairs_are_refused_with_the_number_it_takes(base, capsys):
    assert compare.main([str(base), "--grid", "smoke", "--pairs", "6"], start=Machine()) == BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "6 cannot carry" in err
    assert "takes at least" in err


@pytest.mark.parametrize(("pairs", "part"), [("1", "1 cannot carry"), ("201", "expected at most 200")])
def test_numbers_of_pairs_that_carry_no_verdict_are_refused(base, pairs, part, capsys):
    assert compare.main([str(base), "--grid", "smoke", "--pairs", pairs], start=Machine()) == BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), part in err) == ("", 1, True)


def test_an_output_that_cannot_be_meant_is_refused_before_anything_is_timed(base, capsys):
    machine = Machine()
    assert compare.main([str(base), "--grid", "smoke", "--json", str(base)], start=machine) == BAD_INPUT
    assert (machine.started, capsys.readouterr().err.count("\n")) == ([], 1)


def test_without_a_number_the_power_calculation_says_it(base, capsys):
    machine = Machine()
    assert compare.main([str(base), "--grid", "smoke", "--select", "compression=recent"], start=machine) == PASS
    assert machine.started.count("base") == machine.started.count("head") >= 9
    assert "with power 95% at an assumed spread of 5%" in capsys.readouterr().out


def test_a_head_that_cannot_time_a_cell_is_invalid_and_named_and_the_base_is_timed_all_the_same(base):
    code, content = compared(base, Machine(fails={"head": ("ValueError: no such kernel", None)}, spread=0.0))
    assert (code, set(content["counts"])) == (INCOMPLETE, {"INVALID"})
    for finding in content["findings"]:
        assert finding["reason"] == "head: ValueError: no such kernel"
        assert finding["head_ms"] is None
        assert finding["base_ms"] == pytest.approx(1e3 * MADE_UP[finding["metric"]])


def test_a_base_that_does_not_know_a_cell_is_named_and_the_head_is_timed_all_the_same(base):
    code, content = compared(base, Machine(fails={"base": ("ValueError: backbone: unknown 'new'", None)}, spread=0.0))
    assert (code, set(content["counts"])) == (NOT_COMPARABLE, {"NEW"})
    for finding in content["findings"]:
        assert finding["reason"] == "the base does not measure it: ValueError: backbone: unknown 'new'"
        assert finding["base_ms"] is None
        assert finding["head_ms"] == pytest.approx(1e3 * MADE_UP[finding["metric"]])


def test_a_cell_that_neither_supports_is_a_finding_of_both(base):
    fault = ("UnsupportedError: no texts", None)
    code, content = compared(base, Machine(fails={"base": fault, "head": fault}))
    assert (code, set(content["counts"])) == (PASS, {"PASS"})
    assert {finding["metric"] for finding in content["findings"]} == {None}
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
    assert "head: ended with exit code 1: ImportError: no torch" in markdown.read_text()


def test_markdown_holds_every_number(base):
    markdown = base.parent / "compare.md"
    _, content = compared(base, Machine(), "--markdown", str(markdown))
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("| PASS")]
    assert len(rows) == 2 * content["rule"]["comparisons"]
    assert all(" ms |" in row or " MiB |" in row for row in rows)


def test_where_a_comparison_comes_from_is_kept(base):
    _, content = compared(base, Machine(foreign=0.4))
    assert content["base"]["checkout"] == "base"  # the name of an absolute path, and no more of it
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


def test_equal_shapes_are_timed_once():
    """Three keys of one shape would take three times as long, and their bounds would be three times as strict."""
    cells = [
        dataclasses.replace(Cell(backbone="hstu", compression="experts", tokens=4), **change)
        for change in ({}, {"seed": 2}, {"learning_rate": 0.1}, {"patience": 9}, {"ablation": "random_tokens"}, {"staleness": 3})
    ]
    assert len(timed_cells(cells)) == 1
    assert len(timed_cells([*cells, dataclasses.replace(cells[0], tokens=8)])) == 2
