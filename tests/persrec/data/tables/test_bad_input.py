"""Whatever is wrong with a table of one's own is exit 2 and one line with file, place and value, or a drop that the ledger counts."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persrec.data import load_dataset
from persrec.data.__main__ import main

START = 1_500_000_000
TOML = """
name = "shop"
file = "{file}"
[columns]
user = "user"
item = "item"
time = "time"
[time]
unit = "s"
"""
GOOD = f"user,item,time\n1,a,{START}\n1,b,{START + 1}\n2,a,{START + 2}\n"


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def prepare(capsys):
    code = main(["prepare", "shop.toml"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def described(tmp_path, content, *, file="events.csv", toml=TOML):
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    elif content is not None:
        pq.write_table(pa.table(content), tmp_path / file)
    (tmp_path / "shop.toml").write_text(toml.format(file=file))


BAD = {
    "an empty file": (b"", "events.csv: is empty"),
    "a header alone": ("user,item,time\n", "events.csv: holds no row"),
    "another column": (
        GOOD.replace("item", "product"),
        "events.csv: no column 'item', which columns.item names; it has user, product, time",
    ),
    "a name twice": ("user,item,user,time\n1,a,2,3\n", "two columns are named 'user'"),
    "a short line": (GOOD + "3,b\n", "events.csv: line 5, column 'time': fewer columns"),
    "a long line": (GOOD + f"3,b,{START},x\n", "events.csv: line 5: more columns"),
    "a quote that does not end": (GOOD + f'3,"b,{START}\n', "events.csv: line 5"),
    "text behind a quote": (GOOD + f'3,"b"x,{START}\n', "events.csv: line 5"),
    "latin-1 bytes": (
        GOOD.encode() + b"3,\xe9t\xe9,1500000009\n",
        "events.csv: line 5, column 'item': bytes that are not of the file's encoding",
    ),
    "a time of text": (GOOD + "3,b,yesterday\n", "events.csv: row 4, column 'time': 'yesterday' is no number of seconds"),
    "a time in milliseconds": (
        GOOD + f"3,b,{START * 1000}\n",
        f"events.csv: row 4, column 'time': '{START * 1000}' is not before 2100-01-01",
    ),
    "a time before all": (GOOD + "3,b,7\n", "events.csv: row 4, column 'time': '7' is before 1990-01-01"),
    "a negative time": (GOOD + "3,b,-7\n", "events.csv: row 4, column 'time': '-7' is before 1990-01-01"),
    "a negative user": (GOOD + f"-1,b,{START}\n", "events.csv: row 4, column 'user': '-1' is negative"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_csv_is_one_line_that_names_the_place(tmp_path, capsys, content, message):
    described(tmp_path, content)
    code, out, error = prepare(capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "cache").exists()


def test_a_file_of_another_encoding_is_read_as_it_is_described(tmp_path, capsys):
    described(tmp_path, GOOD.encode() + b"3,\xe9t\xe9,1500000009\n", toml=TOML + '[csv]\nencoding = "latin-1"\n')
    assert prepare(capsys)[0] == 0


PARQUET = {
    "no Parquet": (b"user,item", "events.parquet: is no Parquet file"),
    "a cut file": ("cut", "events.parquet: is no Parquet file"),
    "users with fractions": ({"user": [1.0, 2.5], "item": [1, 2], "time": [START] * 2}, "row 2, column 'user': '2.5' has a fraction"),
    "users that floats cannot hold": ({"user": [1.0, 2.0**60], "item": [1, 2], "time": [START] * 2}, "is too large for a float"),
    "users of 64 bits without a sign": (
        {"user": pa.array([1, 2**63 + 5], pa.uint64()), "item": [1, 2], "time": [START, START]},
        "row 2, column 'user': '9223372036854775813' does not fit 64 bits",
    ),
    "lists": ({"user": [[1], [2]], "item": [1, 2], "time": [START, START]}, "column 'user', the users, is of type BIGINT[]"),
    "flags": ({"user": [True, False], "item": [1, 2], "time": [START, START]}, "column 'user', the users, is of type BOOLEAN"),
    "dates with a unit": (
        {"user": [1], "item": [1], "time": pa.array([START], pa.timestamp("s"))}, "column 'time' holds dates (TIMESTAMP); expected neither",
    ),
    "fractions of ids": ({"user": [1], "item": [float("inf")], "time": [START]}, "row 1, column 'item': 'inf'"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), PARQUET.values(), ids=PARQUET.keys())
def test_a_bad_parquet_is_one_line_that_names_the_place(tmp_path, capsys, content, message):
    if content == "cut":
        pq.write_table(pa.table({"user": [1], "item": [1], "time": [START]}), tmp_path / "events.parquet")
        content = (tmp_path / "events.parquet").read_bytes()[:-20]
    described(tmp_path, content, file="events.parquet")
    code, out, error = prepare(capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "cache").exists()


JSON = {
    "cut": ('{"user": 1, "item": 2, "time": 1500000000}\n{"user": 1, "it', "events.jsonl: line 2"),
    "no object": ("[1, 2]\n", "events.jsonl: line 1"),
    "a field that no row has": ('{"user": 1, "itm": 2, "time": 1500000000}\n', "no row of 1 is left (1: no item)"),
}


@pytest.mark.parametrize(("content", "message"), JSON.values(), ids=JSON.keys())
def test_bad_json_lines_are_one_line_that_names_the_place(tmp_path, capsys, content, message):
    described(tmp_path, content, file="events.jsonl")
    code, out, error = prepare(capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "cache").exists()


def test_a_cut_gzip_is_named(tmp_path, capsys):
    described(tmp_path, gzip.compress((GOOD * 2000).encode())[: -2000 + 1980], file="events.csv.gz")
    code, out, error = prepare(capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "events.csv.gz" in error


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("name = ", "shop.toml: "),
        ('file = "events.csv"\n', "shop.toml: no table [columns]"),
        ("[columns]\nuser='a'\nitem='b'\ntime='c'\n", "shop.toml: expected either file"),
        (TOML + "[filtrs]\n", "shop.toml: Object contains unknown field `filtrs`"),
        (TOML + "[filters]\nmin_length = 4\n", "shop.toml: filters: unknown 'min_length' (did you mean 'minimum_length'?); known: missing"),
        (TOML + "[protocol]\nseen_item = 'kept'\n", "shop.toml: protocol: unknown 'seen_item'"),
        (TOML + "zone = 'CET'\n", "shop.toml: time: unknown 'zone'; known: unit, format"),
        (TOML + "[filters]\ncore = 'x'\n", "shop.toml: filters.core: Expected `int`, got `str`"),
        (TOML + "[filters]\ncore = 0\n", "shop.toml: filters: filters.core: 0; expected at least 1"),
        (TOML + "[filters]\nevents = ['click']\n", "shop.toml: filters.events: no column of events"),
        (TOML + "[filters]\nminimum_rating = inf\n", "shop.toml: filters: filters.minimum_rating: inf; expected a finite number"),
        (TOML + "[csv]\ndelimiter = '\"'\n", "shop.toml: csv.delimiter: '\"' is the quote, too"),
        ("name = 'shop'\nsource = 'ml-1m'\n[time]\nunit = 's'\n", "shop.toml: time: beside source, whose files have their own form"),
        ("name = 'shop'\nsource = 'ml-1m'\nformat = 'csv'\n", "shop.toml: format: beside source"),
        (TOML + "[csv]\nquote = '--'\n", "shop.toml: csv.quote: '--'; expected a character, or '' for none"),
        (TOML.replace('"s"', '"h"'), "shop.toml: time: time.unit: 'h'; expected one of s, ms, us, ns"),
        (TOML.replace('"shop"', '"ml-1m"'), "shop.toml: name: 'ml-1m' is that of a publisher's data set"),
        (TOML.replace('"shop"', '"../x"'), "shop.toml: name: '../x'"),
        (TOML.replace("events.csv", "{file}").replace("{file}", "nowhere.csv"), "nowhere.csv: no such file or folder"),
        (TOML.replace("{file}", "events.xyz"), "events.xyz: its name does not say what it is"),
        (TOML + "[protocol]\nseen_items = 'x'\n", "shop.toml: protocol.seen_items: Invalid enum value 'x'"),
    ],
)
def test_a_bad_description_is_one_line(tmp_path, capsys, toml, message):
    (tmp_path / "events.csv").write_text(GOOD)
    (tmp_path / "shop.toml").write_text(toml.replace("{file}", "events.csv"))
    code, out, error = prepare(capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "cache").exists()


def test_rows_without_a_user_an_item_or_a_time_are_counted(tmp_path, capsys):
    described(tmp_path, GOOD + f",b,{START}\n3,,{START}\n3,b,\nNaN,b,{START}\nNULL,,\n")
    assert prepare(capsys)[0] == 0
    log = load_dataset("shop.toml")
    assert log.notes["ledger"] == {"rows_in": 8, "rows_kept": 3, "dropped": {"no user": 3, "no item": 1, "no time": 1}}


def test_events_and_ratings_are_filtered_and_counted(tmp_path, capsys):
    of_users = (("1,a", "buy,5"), ("1,b", "view,5"), ("1,c", "buy,2"), ("2,c", "buy,"), ("2,c", ",4"), ("2,c", "buy,4"))
    rows = "user,item,time,kind,stars\n" + "".join(f"{who},{START},{what}\n" for who, what in of_users)
    toml = TOML.replace('time = "time"', 'time = "time"\nevent = "kind"\nrating = "stars"')
    described(tmp_path, rows, toml=toml + '[filters]\nevents = ["buy"]\nminimum_rating = 4\n')
    assert prepare(capsys)[0] == 0
    dropped = load_dataset("shop.toml").notes["ledger"]["dropped"]
    assert dropped == {"kind: another than buy": 2, "no rating": 1, "stars: below 4": 1}
    described(tmp_path, rows.replace(",2\n", ",two\n"), toml=toml + "[filters]\nminimum_rating = 4\n")
    code, _, error = prepare(capsys)
    assert code == 2
    assert "events.csv: row 3, column 'stars': 'two' is no number" in error


def test_a_row_is_named_by_its_own_file_of_several(tmp_path, capsys):
    (tmp_path / "events").mkdir()
    for number, users in enumerate(([1, 2, 3], [4, -5])):
        part = pa.table({"user": users, "item": ["a"] * len(users), "time": [START] * len(users)})
        pq.write_table(part, tmp_path / "events" / f"part-{number}.parquet")
    described(tmp_path, None, file="events")
    code, _, error = prepare(capsys)
    assert code == 2
    assert "events/part-1.parquet: row 2, column 'user': '-5' is negative" in error


def test_texts_and_categories_come_from_the_rows_or_from_a_second_table(tmp_path, capsys):
    toml = TOML.replace('time = "time"', 'time = "time"\ntext = ["title", "brand"]\ncategory = "kind"')
    described(tmp_path, f"user,item,time,title,brand,kind\n1,a,{START},,,\n1,b,{START},Tea,,drink\n2,a,{START},Cup,Acme,\n", toml=toml)
    assert prepare(capsys)[0] == 0
    log = load_dataset("shop.toml")
    assert log.item_texts == ("", "Cup. Acme", "Tea")
    assert (log.item_categories.tolist(), log.notes["category_names"]) == ([0, 0, 1], ["", "drink"])
    (tmp_path / "items.csv").write_text("sku,name\nb,Bread\nzz,Z\n")
    described(tmp_path, GOOD, toml=TOML + '[items]\nfile = "items.csv"\nitem = "sku"\ntext = ["name"]\n')
    assert prepare(capsys)[0] == 0
    assert load_dataset("shop.toml").item_texts == ("", "", "Bread")
    (tmp_path / "items.csv").write_text("sku,name\n1,Bread\n")
    code, _, error = prepare(capsys)
    assert code == 2
    assert "items.csv: gives no text for any of the items of " in error
