"""Prepared data written as partitioned Parquet are read again as they were."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from persrec.data import export, load_dataset
from persrec.data.__main__ import main

CSV = "who,what,when\n" + "".join(f"u{user},{item:03d},{150 + min(item, 3)}\n" for user in (3, 1, 2) for item in (7, 1, 5, 3, 2))
TABLE = """
file = "{file}"
[columns]
user = "{user}"
item = "{item}"
time = "{time}"
[time]
unit = "s"
relative = true
"""


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "events.csv").write_text(CSV)
    (tmp_path / "events.toml").write_text(TABLE.format(file="events.csv", user="who", item="what", time="when"))
    return tmp_path


def test_what_is_written_is_read_again_in_the_same_order(place, monkeypatch, capsys):
    monkeypatch.setattr(export, "USERS_A_FILE", 2)
    assert main(["prepare", "events.toml", "--parquet", "out"]) == 0
    assert "parquet            out, 2 folders of 15 rows" in capsys.readouterr().out
    assert sorted(path.name for path in (place / "out").iterdir()) == ["users=00000000", "users=00000002"]
    (place / "again.toml").write_text(TABLE.format(file="out", user="user", item="item", time="time").replace("relative = true", ""))
    again = (place / "again.toml").read_text() + 'earliest = "1970-01-01"\n'
    (place / "again.toml").write_text(again)
    before, after = load_dataset("events.toml"), load_dataset("again.toml")
    for name in ("offsets", "items", "times"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name
    first = pq.ParquetFile(place / "out" / "users=00000000" / "part-0.parquet").read().to_pylist()
    assert first[0] == {"user": "u1", "item": "001", "time": 86_400 + 151}


def test_a_place_that_is_taken_is_refused_and_left(place, capsys):
    (place / "out").mkdir()
    assert main(["prepare", "events.toml", "--parquet", "out"]) == 2
    assert "out: is there already" in capsys.readouterr().err
    assert list((place / "out").iterdir()) == []


def test_generated_data_and_unknown_times_are_written_too(place):
    assert main(["prepare", "synthetic", "--size", "tiny", "--parquet", "out"]) == 0
    rows = pq.ParquetFile(place / "out" / "users=00000000" / "part-0.parquet").read()
    log = load_dataset("synthetic", size="tiny")
    assert rows["item"].to_pylist() == log.items.tolist()
    assert rows["user"].to_pylist() == np.repeat(np.arange(log.num_users), log.lengths).tolist()
    assert rows["time"].null_count == int((log.times == 0).sum())
