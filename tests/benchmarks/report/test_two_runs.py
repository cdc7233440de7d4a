"""``python -m benchmarks.report A B``: the Markdown of what moved."""

import copy
from pathlib import Path

import pytest
from fabricated_records import fabricate, write

from benchmarks.cell import Cell
from benchmarks.measures import MEASURES
from benchmarks.report.command import main
from benchmarks.text import MINUS

TOKENS = Cell(backbone="hstu", compression="experts", tokens=4)
FULL = Cell(backbone="hstu", compression="full")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = copy.deepcopy(fabricate(TOKENS))
    moved["metrics"]["ndcg@10"]["value"] -= 0.01
    moved["metrics"]["serve_flops"]["value"] *= 2
    moved["quality"]["code"]["training"] = "f" * 64
    write(Path("A"), [fabricate(TOKENS), fabricate(FULL)])
    write(Path("B"), [moved])


def test_what_moved_stands_with_its_cause(runs, capsys):
    assert main(["A", "B"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# A to B\n")
    (quality,) = [line for line in said.splitlines() if line.startswith("| HSTU") and "NDCG@10" in line]
    assert f"{MINUS}0.0100" in quality
    assert "code of training" in quality
    (count,) = [line for line in said.splitlines() if "serve\\_flops" in line]
    assert "+100.0%" in count
    assert "nothing that is recorded differs" in count  # the cost's code and machine are the same: somebody must look
    assert "1 configuration is in A alone: HSTU · full history" in said
    assert "no verdict" in said


def test_it_is_written_to_a_file_too_and_the_same_every_time(runs, capsys):
    assert main(["A", "B", "--out", "deep/moved.md"]) == 0
    assert Path("deep/moved.md").read_text() == capsys.readouterr().out
    first = Path("deep/moved.md").read_bytes()
    assert main(["A", "B", "--out", "deep/moved.md"]) == 0
    assert Path("deep/moved.md").read_bytes() == first


def test_names_of_data_are_taken_literally(runs, capsys):
    hostile = fabricate(TOKENS, status="ok")
    hostile["parts"]["backbone"]["title"] = "<b>|x|"
    hostile["parts"]["backbone"]["name"] = hostile["cell"]["backbone"] = "my|<script>"
    write(Path("C"), [hostile])
    assert main(["C", "A"]) == 0
    said = capsys.readouterr().out
    assert "<script>" not in said
    assert "\\|\\<script\\>" in said


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["A", "nowhere"], 2, "nowhere: no such folder"),
        (["A", "empty"], 3, "nothing to compare"),
        (["A", "B", "--compare", "tokens=0", "tokens=4"], 2, "--compare: compares two configurations of one run"),
        (["A", "B", "--out", "A"], 2, "--out: A is a folder"),
    ],
)
def test_bad_input_is_one_line(runs, capsys, arguments, code, expected):
    Path("empty").mkdir()
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_two_runs_of_one_grid_say_how_many_timed_values_lie_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ours, theirs = fabricate(FULL), fabricate(FULL)
    for record, factor in ((ours, 1.0), (theirs, 1.15)):
        for name in [
            name for name, metric in record["metrics"].items() if not MEASURES[name].deterministic and MEASURES[name].group == "cost"
        ]:
            record["metrics"][name] |= {"value": None, "low": None, "high": None}
        for name, share in (("serve_latency_p50_ms", factor**3), ("serve_users_per_second", factor), ("train_peak_bytes", 1.0)):
            record["metrics"][name] |= {"value": 100 * share, "low": 90 * share, "high": 110 * share}
    write(Path("A"), [ours])
    write(Path("B"), [theirs])
    assert main(["A", "B"]) == 0
    said = capsys.readouterr().out
    assert (
        "Of 3 timed values and peaks of one machine, 1 (33.3%) have intervals apart, and 2 (66.7%) lie outside each other's interval."
        in said
    )
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1:]
        for line in said.partition("Timed values and peaks")[2].splitlines()[3:]
        if line
    }
    assert [value.strip(" |") for value in rows["serve\\_latency\\_p50\\_ms"]] == ["1", "1", "1"]
    assert [value.strip(" |") for value in rows["serve\\_users\\_per\\_second"]] == ["1", "0", "1"]
    assert [value.strip(" |") for value in rows["train\\_peak\\_bytes"]] == ["1", "0", "0"]
