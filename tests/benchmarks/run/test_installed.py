"""A run with parts of an installed package, and what is done with its records where that package is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.records import load_records
from tests.tiny_package import write_tiny_package

ROOT = Path(__file__).parents[3]
GRID = """
[defaults]
dataset_size = "tiny"
history = 12
recent = 4
width = 8
layers = 1
negatives = 16
[[sweep]]
backbone = "residual"
compression = "latest"
tokens = 2
"""


def python(place: Path, *arguments: str, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [ROOT, *([packages] if packages else [])]))
    surroundings = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    return subprocess.run([sys.executable, *arguments], cwd=place, env=surroundings, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of both installed parts in ``out``."""
    place = tmp_path_factory.mktemp("installed")
    (place / "own.toml").write_text(GRID)
    packages = write_tiny_package(place / "packages")
    arguments = ["-m", "benchmarks.run", "--grid", "own.toml", "--out", "out", "--cache-dir", "cache", "--no-report"]
    result = python(place, *arguments, packages=packages)
    assert result.returncode == 0, result.stdout + result.stderr
    return place


@pytest.mark.slow
def test_a_record_carries_the_declarations_with_package_and_version(place: Path) -> None:
    (record,) = load_records(place / "out")
    assert record.status == "ok", record.error
    parts = record.parts.backbone, record.parts.compression
    assert [(part.name, part.package, part.version) for part in parts] == [
        ("residual", "tiny-parts", "1.2"),
        ("latest", "tiny-parts", "1.2"),
    ]
    assert record.parts.compression.glyph == "\N{BLACK DIAMOND}"
    assert record.value("ndcg@10") is not None
    assert record.value("serve_flops") > 0


@pytest.mark.slow
def test_a_report_draws_parts_that_are_not_installed(place: Path) -> None:
    result = python(place, "-m", "benchmarks.report", "out", "--out", "page.html")
    assert result.returncode == 0, result.stderr
    assert "latest items" in (place / "page.html").read_text()


@pytest.mark.slow
def test_a_gate_compares_parts_that_are_not_installed(place: Path) -> None:
    gate = ["-m", "benchmarks.gate", "out", "--baseline", "baseline.json"]
    updated = python(place, *gate, "--update")
    assert updated.returncode == 0, updated.stderr
    passed = python(place, *gate)
    assert passed.returncode == 0, passed.stdout + passed.stderr
