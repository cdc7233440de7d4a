"""The page and the table of a run: where they cannot be written nothing is measured, and what a kill left behind is mended."""

from pathlib import Path

import pytest
from drive_run import FAKE
from places import Call

from benchmarks.run import command as run


@pytest.mark.parametrize("taken", ["reports", "reports/own-synthetic-cpu"])
def test_a_report_that_could_not_be_written_is_refused_before_anything_is_measured(
    place: Path, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    (place / taken).parent.mkdir(exist_ok=True)
    (place / taken).touch()
    before = sorted(place.rglob("*"))
    assert run.main(["--grid", "own.toml", "--cache-dir", ".", "--quiet"], work=FAKE) == 2
    assert f"{taken} is no folder that can be written to" in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before
    assert run.main(["--grid", "own.toml", "--cache-dir", ".", "--quiet", "--no-report"], work=FAKE) == 0


def test_a_table_that_a_kill_left_behind_its_records_is_written_anew(place: Path, call: Call) -> None:
    assert call() == 0
    table = place / "out" / "results.csv"
    whole = table.read_bytes()
    table.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert call() == 0
    assert table.read_bytes() == whole
