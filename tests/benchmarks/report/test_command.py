"""The command line of the report: what it writes, what it refuses, and that no record makes it fall over."""

import contextlib
import copy
import json
import os
import subprocess
import sys

import pytest
from fabricated_records import fabricate, slim, write
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.cell import Cell
from benchmarks.report.command import main

FLOOR = fabricate(Cell(backbone="popularity", compression="none", training="none"))


def test_the_command_line(tmp_path, monkeypatch, capsys):
    results = write(tmp_path / "results" / "grid", [fabricate(Cell(backbone="popularity", compression="none", training="none"))])
    monkeypatch.chdir(tmp_path)
    assert main(["results/grid"]) == 0
    assert capsys.readouterr().out == "reports/grid.html\n"
    assert main([str(results), "--out", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").exists()


def test_a_run_outside_results_keeps_its_report(tmp_path):
    out = write(tmp_path / "mine", [fabricate(Cell(backbone="popularity", compression="none", training="none"))])
    assert main([str(out)]) == 0
    assert (out / "report.html").exists()
    assert not (out / "report" / "tables.csv").exists()
    assert main([str(out), "--tables", "--pictures"]) == 0
    assert (out / "report" / "tables.csv").exists()


@pytest.mark.parametrize(
    ("prepare", "arguments", "expected"),
    [
        ("nothing", ["nowhere"], (2, "nowhere: no such folder of results")),
        ("broken", ["results"], (2, "not a whole JSON file")),
        ("empty", ["results"], (3, "no record, so there is nothing to report")),
        ("folder", ["results", "--out", "results"], (2, "a folder")),
        ("folder", ["results", "--out", "page"], (2, "has no suffix")),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, prepare, arguments, expected):
    code, said = expected
    if prepare != "nothing":
        (tmp_path / "results" / "cells").mkdir(parents=True)
    if prepare == "broken":
        (tmp_path / "results" / "cells" / "x.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    with contextlib.chdir(tmp_path):
        assert main(arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_measured_is_rendered_and_incomplete(tmp_path):
    out = write(tmp_path / "mine", [fabricate(Cell(backbone="hstu", compression="full"), status="crash")])
    assert main([str(out)]) == 3
    assert "Nothing measured" in (out / "report.html").read_text()


def test_wrong_usage_is_exit_code_two(capsys):
    with pytest.raises(SystemExit) as error:
        main([])
    assert error.value.code == 2


@pytest.mark.parametrize("results", ["x" * 300, "loop", "file", "\0", "", "loop/in/it"])
def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path, capsys, results):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    with contextlib.chdir(tmp_path):
        assert main([results]) in (2, 3)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("out", ["x" * 300 + ".html", "loop/page.html", "file/page.html", "\0.html", ""])
def test_a_page_that_cannot_be_written_is_refused_in_one_line(tmp_path, capsys, out):
    write(tmp_path / "run", [FLOOR])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    with contextlib.chdir(tmp_path):
        assert main(["run", "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    results = write(tmp_path / "run", [FLOOR])
    read, written = os.pipe()
    os.close(read)
    program = "import sys; from benchmarks.report.command import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, str(results)], stdout=written, stderr=subprocess.PIPE, text=True, check=False)
    os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_record_that_cannot_be_read_is_named(tmp_path, capsys):
    results = write(tmp_path / "run", [FLOOR])
    (tmp_path / "run" / "cells" / "folder.json").mkdir()
    assert main([str(results)]) == 2
    error = capsys.readouterr().err
    assert "folder.json" in error
    assert error.count("\n") == 1


TRAINED = slim(fabricate(Cell(backbone="hstu", compression="experts", tokens=4, epochs=3)))
TRAINED["replicates"]["means"] = {name: means[:20] for name, means in TRAINED["replicates"]["means"].items()}
FULL = slim(fabricate(Cell(backbone="hstu", compression="full", serving="recompute")))
FULL["replicates"]["means"] = {name: means[:20] for name, means in FULL["replicates"]["means"].items()}
ODD = st.one_of(
    st.sampled_from(["", "x", "<b>", "#12345z", "none", "1e999"]),
    st.sampled_from([None, True, -1, 0, 1.7, -0.5, 10**40, 1e308, 5e-324, float("nan"), float("inf"), [], {}, [1], {"a": {"b": []}}]),
)


def places(value, path=()):
    """The path of every value in nested tables and lists, of a long list the first two."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, inner in entries:
        yield from places(inner, (*path, name))


PLACES = sorted((place for place in places(TRAINED) if place), key=str)


def mutate(record, place, kind, value):
    *outer, last = place
    holder = record
    for name in outer:
        holder = holder[name]
    if kind == "drop":
        del holder[last]
    elif kind == "nest":
        holder[last] = [holder[last]] if value is None else {"in": holder[last]}
    elif kind == "negate" and isinstance(holder[last], int | float):
        holder[last] = -holder[last]
    else:
        holder[last] = value


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example(place=("metrics", "ndcg@10", "value"), kind="replace", value=1.7)
@example(place=("metrics", "serve_flops", "value"), kind="negate", value=None)
@given(place=st.sampled_from(PLACES), kind=st.sampled_from(["drop", "nest", "negate", "replace", "replace"]), value=ODD)
def test_no_record_makes_it_fall_over(tmp_path_factory, place, kind, value):
    record = copy.deepcopy(TRAINED)
    mutate(record, place, kind, value)
    folder = tmp_path_factory.mktemp("fuzz")
    write(folder, [FULL, TRAINED])
    (folder / "cells" / f"{TRAINED['cell_key']}.json").write_text(json.dumps(record))
    assert main([str(folder), "--out", str(folder / "page.html")]) in (0, 2, 3)
