"""No command writes what it is asked for over a run's own records; it says so before it reads one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from gated_run import BAD_INPUT, PASS, GatedRun, record

from benchmarks.advise.command import main as advise
from benchmarks.gate.command import main as gate
from benchmarks.report.command import main as report


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (report, ["{run}", "--out", "{taken}"]),
        (report, ["{run}", "{run}", "--out", "{taken}"]),
        (advise, ["{run}", "--json", "{taken}"]),
        (gate, ["{run}", "--baseline", "{baseline}", "--json", "{taken}"]),
        (gate, ["{run}", "--baseline", "{baseline}", "--junit", "{taken}"]),
        (gate, ["{run}", "--baseline", "{taken}", "--update"]),
    ],
)
def test_a_record_is_not_written_over(
    command: Callable[[Sequence[str]], int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = GatedRun(folder=tmp_path / "run", baseline=tmp_path / "run.json")
    place.add(record(4))
    assert place.gate("--update") == PASS
    capsys.readouterr()
    [taken] = (place.folder / "cells").iterdir()
    before = taken.read_bytes()
    given = [one.format(run=place.folder, baseline=place.baseline, taken=taken) for one in arguments]
    assert command(given) == BAD_INPUT
    told = capsys.readouterr()
    assert "keeps its own files" in told.err
    assert told.out == ""
    assert taken.read_bytes() == before
