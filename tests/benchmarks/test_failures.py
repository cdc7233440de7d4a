"""Failures that are results, with the real work: memory that is not there, time that runs out, and what cannot be."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import store

ROOT = Path(__file__).parent.parent.parent
GRID = """
[defaults]
history = 12
recent = 4
negatives = 16
dataset_size = "tiny"
[limits]
address_space_bytes = 4294967296
[[sweep]]                  # one projection of a layer alone is 6.4 GB
backbone = "hstu"
compression = "recent"
width = 20000
training = ["separate", "none"]
[[sweep]]
backbone = "sasrec"
compression = "full"
width = 8
training = "elastic"
elastic_tokens = [0]
[[sweep]]
backbone = "popularity"
compression = "none"
training = "none"
"""


ENDLESS = """
[defaults]
training = "none"
dataset_size = "tiny"
[limits]
cell_seconds = 4
[[sweep]]                  # counting and timing it takes minutes
backbone = "hstu"
compression = "full"
history = 8000
recent = 192
layers = 16
batch_size = 64
[[sweep]]
backbone = "popularity"
compression = "none"
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The grid in the folder's ``own.toml``, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.run", "--grid", "own.toml", "--out", "out", "--cache-dir", "cache", "--device", "cpu"]
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *options], cwd=folder, env=surroundings, capture_output=True, text=True, check=False)


def test_a_cell_that_works_on_past_its_time_is_killed_and_recorded_and_the_sweep_goes_on(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(ENDLESS)
    done = run(tmp_path, "--no-report")
    assert done.returncode == 3  # a measurement is missing
    assert "1 of 2 cells have no measurement" in done.stderr
    found = {record["cell"]["backbone"]: record for record in store.load_records(tmp_path / "out")}
    assert {backbone: record["status"] for backbone, record in found.items()} == {"hstu": "timeout", "popularity": "ok"}
    error = found["hstu"]["error"]
    assert (error["type"], error["message"]) == ("TimeoutError", "not finished after 4 s")
    assert error["phase"] in ("start", "load", "flops")  # where 4 seconds end on this machine; not behind counting
    assert found["hstu"]["metrics"] == {}
    assert found["hstu"]["ledger"] == []
    assert done.stdout.count("timeout") == 1  # more time would not have come, so it was not tried again


def test_out_of_memory_and_unsupported_are_findings_that_the_sweep_survives_and_the_report_maps(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(GRID)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = {(record["cell"]["backbone"], record["cell"]["training"]): record for record in store.load_records(tmp_path / "out")}
    assert {cell: record["status"] for cell, record in found.items()} == {
        ("hstu", "separate"): "oom",
        ("hstu", "none"): "oom",
        ("sasrec", "elastic"): "unsupported",
        ("popularity", "none"): "ok",
    }
    in_training, in_measuring = found["hstu", "separate"]["error"], found["hstu", "none"]["error"]
    assert (in_training["phase"], in_measuring["phase"]) == ("training", "load")
    for error in (in_training, in_measuring):
        assert error["type"] == "RuntimeError"
        assert "can't allocate memory: you tried to allocate 6400000000 bytes" in error["message"]
        assert error["log_tail"].count("Traceback") == 1  # it was not tried again
    assert "elastic goes with the experts compression alone" in found["sasrec", "elastic"]["error"]["message"]
    page = (tmp_path / "out" / "report.html").read_text()
    feasibility = page[page.index('id="feasibility"') :]
    for sign in ("\N{BLACK UP-POINTING TRIANGLE} oom", "\N{WHITE CIRCLE} unsupported", "\N{BLACK CIRCLE} ok"):
        assert sign in feasibility
