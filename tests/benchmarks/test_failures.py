"""Failures that are results, with the real work: memory that is not there, and time that runs out."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.records import load_records

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
backbone = "popularity"
compression = "none"
training = "none"
"""


ENDLESS = """
[defaults]
training = "none"
dataset_size = "tiny"
[limits]
cell_seconds = 1
[[sweep]]                  # counting and timing it takes minutes
backbone = "hstu"
compression = "full"
history = [8000, 8001]
recent = 192
layers = 16
batch_size = 64
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
    assert "2 of 2 cells have no measurement" in done.stderr
    both = load_records(tmp_path / "out")
    assert [(record.cell.history, record.status) for record in both] == [(8000, "timeout"), (8001, "timeout")]
    for record in both:
        assert record.error is not None
        assert (record.error.type, record.error.message) == ("TimeoutError", "not finished after 1 s")
        assert (record.metrics, record.ledger) == ({}, ())
    assert "trying again" not in done.stdout  # more time would not have come


def test_out_of_memory_is_a_finding_that_the_sweep_survives(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(GRID)
    done = run(tmp_path, "--no-report")
    assert (done.returncode, done.stderr) == (0, "")
    by_cell = {(record.cell.backbone, record.cell.training): record for record in load_records(tmp_path / "out")}
    assert {cell: record.status for cell, record in by_cell.items()} == {
        ("hstu", "separate"): "oom",
        ("hstu", "none"): "oom",
        ("popularity", "none"): "ok",
    }
    for training in ("separate", "none"):
        error = by_cell["hstu", training].error
        assert error is not None
        assert error.type == "RuntimeError"
        assert error.message is not None
        assert "can't allocate memory: you tried to allocate 6400000000 bytes" in error.message
        assert error.log_tail is not None
        assert error.log_tail.count("Traceback") == 1  # it was not tried again
        assert str(tmp_path) not in error.log_tail
