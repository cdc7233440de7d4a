import datetime
import gzip
import json
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persrec.data import load_dataset
from persrec.data.__main__ import main

START = 1_500_000_000


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def said(capsys, name):
    assert main(["init", name]) == 0
    capsys.readouterr()
    return tomllib.loads(Path(name.split(".")[0] + ".toml").read_text(encoding="utf-8"))


PLAIN = {"user": "user", "item": "item", "time": "time"}
DATED = PLAIN | {"time": "date"}


FILES = {
    "names that tell": (
        "a.csv", f"rating,movieId,userId,timestamp\n4,7,1,{START}\n",
        {"user": "userId", "item": "movieId", "time": "timestamp", "rating": "rating"}, {"unit": "s"},
    ),
    "semicolons and milliseconds": (
        "a.csv", f"ts;sku;customer\n{START}000;x;1\n", {"user": "customer", "item": "sku", "time": "ts"}, {"unit": "ms"},
    ),
    "written times": ("a.csv", "user,item,date\n1,2,2024-03-01 09:12:44\n", DATED, {"format": "%Y-%m-%d %H:%M:%S"}),
    "days first": ("a.csv", "user,item,date\n1,2,25/12/2024 09:12\n", DATED, {"format": "%d/%m/%Y %H:%M"}),
    "ISO 8601": ("a.csv", "user,item,at\n1,2,2024-03-01T09:12:44Z\n", PLAIN | {"time": "at"}, {"format": "iso"}),
    "names that do not tell": (
        "a.csv", f"who,what,when\nann,x,{START}\n", {"user": "who", "item": "what", "time": "when"}, {"unit": "s"},
    ),
    "no header, from a start of its own": ("a.txt.gz", "5 7 0\n5 8 12\n", PLAIN, {"unit": "s", "relative": True}),
    "JSON lines": (
        "a.jsonl", json.dumps({"uid": 1, "asin": "x", "title": "T", "ts": START}) + "\n",
        {"user": "uid", "item": "asin", "time": "ts", "text": ["title"]}, {"unit": "s"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "columns", "time"), FILES.values(), ids=FILES.keys())
def test_a_file_is_guessed_and_its_toml_reads_it(tmp_path, capsys, name, content, columns, time):
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    values = said(capsys, name)
    assert values["file"] == name
    assert values["columns"] == columns
    assert values["time"] == time
    assert len(load_dataset("a.toml")) == content.count("\n") - (name.endswith(".csv"))


def test_dates_of_parquet_need_no_unit(tmp_path, capsys):
    at = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    pq.write_table(pa.table({"CustomerID": [1.0], "StockCode": ["x"], "InvoiceDate": [at]}), tmp_path / "a.parquet")
    values = said(capsys, "a.parquet")
    assert "time" not in values
    assert load_dataset("a.toml").times.tolist() == [1_577_836_800]


def test_an_earlier_description_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(f"user,item,time\n1,2,{START}\n")
    (tmp_path / "a.toml").write_text("corrected")
    assert main(["init", "a.csv"]) == 2
    assert "a.toml: is there already" in capsys.readouterr().err
    assert (tmp_path / "a.toml").read_text() == "corrected"


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("a,b\n1,2\n", "no column looks like the times"), ("user,item,time\n", "holds no row")]
)
def test_a_file_that_tells_nothing_is_one_line(tmp_path, capsys, content, message):
    (tmp_path / "a.csv").write_text(content)
    assert main(["init", "a.csv"]) == 2
    error = capsys.readouterr().err
    assert (message in error, error.count("\n")) == (True, 1)
    assert not (tmp_path / "a.toml").exists()


DAMAGED = bytearray(gzip.compress(b"user,item,time\n" + b"".join(b"%d,%d,%d\n" % (n, n * n, START + n) for n in range(3000))))
DAMAGED[60:90] = bytes(30)
QUOTED = 'user,item,time\n1,"' + "x" * 140_000 + f"\n2,y,{START}\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", bytes(DAMAGED), "a.csv.gz: cannot be read (Error -3"),
        ("a.jsonl.gz", bytes(DAMAGED), "a.jsonl.gz: cannot be read as JSON lines (Error -3"),
        ("a.csv", QUOTED.encode(), "a.csv: cannot be read as CSV (field larger than field limit"),
    ],
)
def test_a_file_that_is_damaged_is_one_line(tmp_path, capsys, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert main(["init", name]) == 2
    error = capsys.readouterr().err
    assert (message in error, error.count("\n")) == (True, 1), error


def test_what_is_described_is_of_this_name_and_not_of_one_that_begins_alike(tmp_path, capsys):
    for name, items in (("shop", "abc"), ("shop-eu", "abcdefg")):
        rows = "".join(f"{user},{item},{START + place}\n" for user in range(4) for place, item in enumerate(items))
        (tmp_path / f"{name}.csv").write_text("user,item,time\n" + rows)
        assert main(["init", f"{name}.csv"]) == 0
    assert main(["prepare", "shop-eu.toml"]) == 0
    capsys.readouterr()
    assert main(["describe", "shop.toml"]) == 2
    assert "describe shop: nothing prepared" in capsys.readouterr().err
    assert main(["prepare", "shop.toml"]) == main(["describe", "shop.toml"]) == 0
    said = capsys.readouterr().out
    assert "items              3" in said
    assert "items              7" not in said


def test_a_column_without_a_name_has_one_by_its_place(tmp_path, capsys):
    """As pandas writes a table with its index."""
    (tmp_path / "a.csv").write_text(f",user,item,time\n0,u,x,{START}\n1,u,y,{START + 1}\n2,u,z,{START + 2}\n")
    assert said(capsys, "a.csv")["columns"]["user"] == "user"
    toml = (tmp_path / "a.toml").read_text()
    (tmp_path / "a.toml").write_text(toml.replace('item = "item"', 'item = "column1"'))
    assert main(["prepare", "a.toml"]) == 0
    assert "items              3" in capsys.readouterr().out


def test_names_that_differ_in_their_letters_size_alone_are_refused(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(f"User,user,item,time\nu,v,x,{START}\n")
    (tmp_path / "a.toml").write_text('name="a"\nfile="a.csv"\n[columns]\nuser="user"\nitem="item"\ntime="time"\n[time]\nunit="s"\n')
    assert main(["prepare", "a.toml"]) == 2
    error = capsys.readouterr().err
    assert ("two columns are named 'User', in small letters or large" in error, error.count("\n")) == (True, 1)
