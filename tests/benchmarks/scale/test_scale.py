"""Every engine makes the same columns of the same rows, and the command says what each took."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.environment import PROJECT
from benchmarks.scale import steps
from benchmarks.scale.command import ENGINES, main
from benchmarks.scale.engines import LEAST, prepare
from benchmarks.scale.rows import write_rows
from benchmarks.text import nbytes
from persrec.commandline import duration

ROWS = 20_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows") / "rows"
    write_rows(folder, ROWS)
    return folder


def columns(folder):
    return {name: np.load(next(folder.rglob(f"{name}.npy"))) for name in ("offsets", "items", "times")}


def test_the_rows_are_the_same_each_time_and_in_no_order(rows, tmp_path):
    write_rows(tmp_path / "again", ROWS)
    assert pq.read_table(rows).equals(pq.read_table(tmp_path / "again"))
    users = pq.read_table(rows)["user"].to_numpy()
    assert len(users) == ROWS
    assert np.count_nonzero(np.diff(users) < 0) > ROWS / 3


def test_the_engines_agree(rows, tmp_path):
    prepare("duckdb", rows, tmp_path / "ours", memory="1GB", threads=2)
    prepare("pyarrow", rows, tmp_path / "other", memory="1GB", threads=2)
    ours, other = columns(tmp_path / "ours"), columns(tmp_path / "other")
    assert np.diff(ours["offsets"]).min() >= LEAST
    for name, values in ours.items():
        assert np.array_equal(values, other[name]), name


def test_the_command_writes_what_an_engine_took(tmp_path, capsys):
    ballast = np.ones(60_000_000)  # what this process holds is no part of an engine's peak
    assert main(["--rows", "3000", "--out", str(tmp_path), "--work", str(tmp_path)]) == 0
    assert "duckdb" in capsys.readouterr().out
    record = json.loads((tmp_path / "scale" / "prepare.json").read_text())
    [entry] = record["entries"]
    assert (entry["engine"], entry["reason"]) == ("duckdb", "")
    assert min(entry["seconds"], entry["peak_bytes"], entry["out_bytes"]) > 0
    assert entry["peak_bytes"] < ballast.nbytes
    assert [path.name for path in tmp_path.iterdir()] == ["scale"]


def test_the_page_says_what_the_committed_record_says():
    record = json.loads((PROJECT / "results" / "scale" / "prepare.json").read_text())
    page = (PROJECT / "docs" / "scaling.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and any(name in line for name in ENGINES)]
    assert f"{record['rows']:,} rows" in page
    assert len(rows) == len(record["entries"]) == len(ENGINES)
    for row, entry in zip(rows, record["entries"], strict=True):
        engine, seconds, peak = (part.strip() for part in row.strip("|").split("|"))
        assert engine.startswith(f"{entry['engine']} {entry['version']}")
        assert (seconds, peak) == (duration(entry["seconds"]), nbytes(entry["peak_bytes"]))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--memory", "much"], "memory: 'much'"),
        (["--threads", "9" * 11], "threads: 9"),
        (["--csv", "--memory", "1GB"], "--csv: times our own commands as they are, so there is no --memory beside it"),
        (["--csv", "--threads", "2"], "--csv: times our own commands as they are, so there is no --threads beside it"),
    ],
)
def test_a_bad_call_is_one_line(capsys, argv, message):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert (message in error, error.count("\n")) == (True, 1)


def test_the_commands_from_a_csv_are_timed_each(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(steps, "COMMANDS", steps.COMMANDS[:2])
    assert main(["--csv", "--rows", "3000", "--out", str(tmp_path), "--work", str(tmp_path)]) == 0
    assert "s: python -m persrec.data prepare events.toml" in capsys.readouterr().out
    record = json.loads((tmp_path / "scale" / "csv.json").read_text())
    assert [step["command"].split()[3] for step in record["steps"]] == ["init", "prepare"]
    assert 0 < min(step["seconds"] for step in record["steps"]) < record["seconds"]
    assert [path.name for path in tmp_path.iterdir()] == ["scale"]


def test_a_command_that_fails_is_named_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(steps, "COMMANDS", (("persrec.data", "prepare", "nothing.toml"),))
    assert main(["--csv", "--rows", "100", "--out", str(tmp_path), "--work", str(tmp_path)]) == 2
    assert "python -m persrec.data prepare nothing.toml: exit code 2: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_page_on_own_data_says_what_the_commands_took():
    record = json.loads((PROJECT / "results" / "scale" / "csv.json").read_text())
    page = (PROJECT / "docs" / "your_own_data.md").read_text().replace("\n", " ")
    times = [f"{step['seconds']:.1f}" for step in record["steps"]]
    told = "`init` takes {} s, `prepare` {} s, `audit` {} s and the floors with their report {} s".format(*times)
    assert f"Of a CSV of {record['rows']:,} rows ({nbytes(record['bytes'])})" in page
    assert told in page
