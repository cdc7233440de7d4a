"""Which runs make a new baseline: none that lacks cells of the one that is there."""

import json
from pathlib import Path

import pytest
from gated_run import BAD_INPUT, INCOMPLETE, PASS, GatedRun

from benchmarks import findings
from benchmarks.gate import command
from benchmarks.measures import versions
from persrec.files import WriteError


@pytest.fixture
def place(tmp_path: Path) -> GatedRun:
    return GatedRun.of(tmp_path)


def test_a_run_that_lacks_cells_of_the_baseline_makes_none_whatever_makes_them_incomparable(
    place: GatedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = place.baseline.read_bytes()
    place.replace_all(dataset="ml-1m")
    assert place.gate("--update") == INCOMPLETE
    assert "left as it is: 3 of its cells are not among these results" in capsys.readouterr().err
    assert place.baseline.read_bytes() == before


def test_an_output_that_fails_leaves_the_baseline(place: GatedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise WriteError(f"{path}: no space left")

    before = place.baseline.read_bytes()
    place.scale(4, serve_flops=0.9)
    monkeypatch.setattr(findings, "write_atomically", full)
    assert place.gate("--update", "--junit", str(place.folder / "gate.xml")) == BAD_INPUT
    assert place.baseline.read_bytes() == before


def test_a_baseline_that_cannot_be_written_is_not_said_to_be(place: GatedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise WriteError(f"{path}: no space left")

    monkeypatch.setattr(command, "write_atomically", full)
    assert place.gate("--update", "--json", str(place.folder / "gate.json")) == BAD_INPUT
    assert json.loads((place.folder / "gate.json").read_text())["exit_code"] == BAD_INPUT


def test_measures_of_another_version_make_a_baseline(place: GatedRun) -> None:
    place.replace_all(measures={name: version + 1 for name, version in versions().items()})
    assert place.gate("--update") == PASS
