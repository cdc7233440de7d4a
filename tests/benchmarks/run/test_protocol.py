"""``benchmarks.run --protocol``: trained and ranked on the events of a published protocol, and refused where the data do not carry it."""

import shlex
from pathlib import Path

import pytest

from benchmarks.records import load_records
from benchmarks.run.command import main

GRID = '[[sweep]]\nbackbone = "popularity"\ncompression = "none"\ntraining = "none"\n'
TABLE = """
file = "events.csv"
[columns]
user = "user"
item = "item"
time = "time"
[time]
unit = "s"
relative = true
[protocol]
seen_items = "excluded"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six users take items 1 to 6 in turn, and one of them item 7."""
    rows = [f"{user},{(user + turn) % 6 + 1},{turn + 2}" for user in range(6) for turn in range(6)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", "0,7,1", *rows]) + "\n")
    (tmp_path / "shop.toml").write_text(TABLE)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def run(place: Path, *more: str, dataset: str | None = None) -> int:
    words = ["--grid", str(place / "grid.toml"), "--dataset", dataset or str(place / "shop.toml"), "--cache-dir", str(place / "cache")]
    return main([*words, "--out", str(place / "out"), "--no-report", "--quiet", *more])


def test_a_run_under_a_protocol_ranks_among_its_items_and_its_record_says_so(data: Path) -> None:
    assert run(data) == run(data, "--protocol", "5-core") == 0
    own, five = sorted(load_records(data / "out"), key=lambda record: record.cell.protocol, reverse=True)
    assert (own.cell.protocol, five.cell.protocol) == ("own", "5-core")
    assert own.dataset is not None
    assert five.dataset is not None
    assert (own.dataset.items, own.dataset.interactions) == (7, 37)
    assert (five.dataset.items, five.dataset.interactions) == (6, 36)
    assert five.dataset.notes["protocol"] == "5-core"
    words = shlex.split(five.provenance.rerun)
    assert words[words.index("--protocol") + 1] == "5-core"


def test_data_that_a_protocol_cannot_take_are_refused_and_nothing_is_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "--protocol", "5-core", dataset="synthetic") == 2
    assert "whose seen items stay in the ranking" in capsys.readouterr().err
    assert not (data / "out").exists()
