"""Laws of preparation: rows in are rows kept and rows dropped, ties keep the files' order, ids come back, threads change nothing."""

import datetime
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persrec.data.base import Bounds
from persrec.data.errors import SourceError
from persrec.data.prepared import ITEMS, MANIFEST, USERS, open_prepared, raw_ids
from persrec.data.tables.preparation import write_table
from persrec.data.tables.scan import Scan
from persrec.data.tables.table import EventTable, Filters, Time

START = 1_500_000_000
COLUMNS = ("user", "item", "time")


def table_of(path, *, filters=None, **changes):
    scan = Scan(files=(path,), format="csv")
    return EventTable(name="x", scans={"events": scan}, times=Time(unit="s"), filters=filters or Filters(), **changes)


def written(path, rows, header=COLUMNS):
    path.write_text("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def prepare(table, cache, **bounds):
    return open_prepared(cache, "x", table.digest(), lambda folder: write_table(table, folder, Bounds(**bounds)))


def by_hand(rows, filters):
    """What `Filters` keeps, in the plainest form: rows as (place, user, item, time), and how many were dropped."""
    kept = [(place, *row) for place, row in enumerate(rows) if all(str(value) not in filters.missing for value in row)]
    if filters.duplicates == "drop":
        first = {}
        for row in kept:
            first.setdefault(row[1:], row)
        kept = list(first.values())
    if filters.maximum_length is not None:
        lengths = Counter(row[1] for row in kept)
        kept = [row for row in kept if lengths[row[1]] <= filters.maximum_length]
    while True:
        before = len(kept)
        items = Counter(row[2] for row in kept)
        kept = [row for row in kept if items[row[2]] >= filters.core]
        users = Counter(row[1] for row in kept)
        kept = [row for row in kept if users[row[1]] >= filters.fewest]
        if len(kept) == before or filters.core == 1:
            return sorted(kept, key=lambda row: (row[1], row[3], row[0]))


ids = st.one_of(st.integers(0, 6), st.just(""))
events = st.lists(st.tuples(ids, ids, st.integers(START, START + 5)), min_size=1, max_size=40)
rules = st.builds(
    Filters,
    duplicates=st.sampled_from(["keep", "drop"]),
    maximum_length=st.sampled_from([None, 12]),
    minimum_length=st.integers(1, 3),
    core=st.integers(1, 3),
)


@settings(max_examples=20, deadline=None)
@given(rows=events, filters=rules)
def test_rows_are_kept_or_counted_ties_keep_file_order_and_ids_come_back(tmp_path_factory, rows, filters):
    folder = tmp_path_factory.mktemp("drawn")
    table = table_of(written(folder / "rows.csv", rows), filters=filters)
    kept = by_hand(rows, filters)
    if not kept:
        with pytest.raises(SourceError, match=rf"rows\.csv: no row of {len(rows)} is left"):
            prepare(table, folder / "cache")
        assert not (folder / "cache").exists()
        return
    log = prepare(table, folder / "cache")
    ledger = log.notes["ledger"]
    assert ledger["rows_in"] == len(rows) == ledger["rows_kept"] + sum(ledger["dropped"].values())
    assert ledger["rows_kept"] == len(kept) == len(log)
    [place] = (folder / "cache").iterdir()
    users, items = raw_ids(place, USERS), raw_ids(place, ITEMS)
    assert (users, items) == (sorted({row[1] for row in kept}), sorted({row[2] for row in kept}))
    found = [(users[user], items[item - 1], time) for user, item, time in zip(log.users, log.items, log.times, strict=True)]
    assert found == [row[1:] for row in kept]


def content(cache):
    [folder] = cache.iterdir()
    return json.loads((folder / MANIFEST).read_text())["content"]


def test_two_preparations_agree_on_any_number_of_threads(tmp_path):
    random = np.random.default_rng(0)
    rows = zip(random.integers(0, 300, 60_000), random.integers(0, 500, 60_000), START + random.integers(0, 50, 60_000), strict=True)
    table = table_of(written(tmp_path / "rows.csv", rows), filters=Filters(core=3))
    for number, threads in enumerate((1, 2, 5)):
        prepare(table, tmp_path / str(number), threads=threads)
    assert content(tmp_path / "0") == content(tmp_path / "1") == content(tmp_path / "2")


def test_little_memory_changes_nothing(tmp_path):
    random = np.random.default_rng(1)
    rows = zip(random.integers(0, 3000, 200_000), random.integers(0, 900, 200_000), START + random.integers(0, 9000, 200_000), strict=True)
    table = table_of(written(tmp_path / "rows.csv", rows))
    prepare(table, tmp_path / "much")
    prepare(table, tmp_path / "little", memory="64MB", threads=1)
    assert content(tmp_path / "much") == content(tmp_path / "little")


def test_whole_numbers_sort_as_numbers_and_texts_as_texts(tmp_path):
    prepare(table_of(written(tmp_path / "rows.csv", [(10, "10", START), (9, "x9", START), (10, "007", START)])), tmp_path / "cache")
    [folder] = (tmp_path / "cache").iterdir()
    assert raw_ids(folder, USERS) == [9, 10]
    assert raw_ids(folder, ITEMS) == ["007", "10", "x9"]


def test_ids_with_leading_zeros_are_texts_and_no_two_become_one(tmp_path):
    prepare(table_of(written(tmp_path / "rows.csv", [("07", 1, START), ("7", 1, START)])), tmp_path / "cache")
    [folder] = (tmp_path / "cache").iterdir()
    assert raw_ids(folder, USERS) == ["07", "7"]


@pytest.mark.parametrize(
    ("unit", "times"),
    [("s", [START, START + 1]), ("ms", [START * 1000, START * 1000 + 1500]), ("us", [START * 10**6, START * 10**6 + 1_000_001]),
     ("ns", [START * 10**9, START * 10**9 + 1_000_000_001]), ("s", [f"{START}.25", f"{START + 1}.75"])],
)  # fmt: skip
def test_units_become_seconds_and_finer_parts_sort(tmp_path, unit, times):
    scan = Scan(files=(written(tmp_path / "rows.csv", [("u", "b", times[1]), ("u", "a", times[0])]),), format="csv")
    log = prepare(EventTable(name="x", scans={"events": scan}, times=Time(unit=unit)), tmp_path / "cache")
    assert log.times.tolist() == [START, START + 1]
    assert log.items.tolist() == [1, 2]


@pytest.mark.parametrize(("unit", "parts"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_whole_numbers_are_the_times_that_their_texts_are(tmp_path, unit, parts, kind):
    times = [START * parts, (START + 1) * parts, START * parts + (parts + 1) // 2]
    pq.write_table(pa.table({"user": [1] * 3, "item": list("acb"), "time": pa.array(times, kind)}), tmp_path / "rows.parquet")
    scan = Scan(files=(tmp_path / "rows.parquet",), format="parquet")
    numbers = prepare(EventTable(name="x", scans={"events": scan}, times=Time(unit=unit)), tmp_path / "cache")
    scan = Scan(files=(written(tmp_path / "rows.csv", [(1, *row) for row in zip("acb", times, strict=True)]),), format="csv")
    texts = prepare(EventTable(name="x", scans={"events": scan}, times=Time(unit=unit)), tmp_path / "cache")
    assert numbers.items.tolist() == texts.items.tolist() == ([1, 3, 2] if unit == "s" else [1, 2, 3])
    assert numbers.times.tolist() == texts.times.tolist() == ([START, START + 1, START + 1] if unit == "s" else [START, START, START + 1])


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63), 253_402_300_800])
def test_whole_numbers_beyond_all_times_are_refused_and_never_moved(tmp_path, time):
    pq.write_table(pa.table({"user": [1, 1], "item": [1, 2], "time": [START, time]}), tmp_path / "rows.parquet")
    times = Time(unit="s", earliest=datetime.date(1970, 1, 1), latest=datetime.date(2262, 1, 1))
    table = EventTable(name="x", scans={"events": Scan(files=(tmp_path / "rows.parquet",), format="parquet")}, times=times)
    with pytest.raises(SourceError, match=f"row 2, column 'time': '{time}' is (not )?before"):
        prepare(table, tmp_path / "cache")


@pytest.mark.parametrize(("bound", "day"), [("earliest", datetime.date(1969, 12, 31)), ("latest", datetime.date(2262, 1, 2))])
def test_a_bound_beyond_the_times_that_can_be_kept_is_refused(bound, day):
    with pytest.raises(ValueError, match=rf"^time\.{bound}: {day}; expected "):
        Time(unit="s", **{bound: day})


def test_files_at_relative_and_absolute_places_may_be_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv"):
        written(tmp_path / name, [("u", name, START)])
    scan = Scan(files=(Path("a.csv"), tmp_path / "b.csv"), format="csv")
    assert list(EventTable(name="x", scans={"events": scan}, times=Time(unit="s")).files) == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("iso", "2017-07-14T04:40:00+02:00"),
        ("iso", "2017-07-14 02:40:00"),
        ("%d/%m/%Y %H:%M", "14/07/2017 02:40"),
        ("iso", "2017-07-14T02:40:00Z"),
    ],
)
def test_written_times_become_seconds(tmp_path, form, text):
    scan = Scan(files=(written(tmp_path / "rows.csv", [("u", "a", text)]),), format="csv")
    log = prepare(EventTable(name="x", scans={"events": scan}, times=Time(format=form)), tmp_path / "cache")
    assert log.times.tolist() == [START]


def test_times_from_an_unknown_start_are_kept_apart_from_the_unknown(tmp_path):
    scan = Scan(files=(written(tmp_path / "rows.csv", [("u", "a", 0), ("u", "b", 9)]),), format="csv")
    log = prepare(EventTable(name="x", scans={"events": scan}, times=Time(unit="s", relative=True)), tmp_path / "cache")
    assert log.times.tolist() == [86_400, 86_409]
    scan = Scan(files=(written(tmp_path / "late.csv", [("u", "a", 0), ("u", "b", 9_300_000_000)]),), format="csv")
    with pytest.raises(SourceError, match="'9300000000' is too large; is the time of some rows in another unit"):
        prepare(EventTable(name="y", scans={"events": scan}, times=Time(unit="s", relative=True)), tmp_path / "cache")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet", "folder", "partitions"])
def test_every_form_gives_the_same_data(tmp_path, kind):
    import gzip

    rows = [(2, "b", START), (1, 'a "q", x', START + 1), (1, "b", START), (2, "b", START)]
    quoted = (("2", "b"), ("1", '"a ""q"", x"'), ("1", "b"), ("2", "b"))
    lines = [f"{user},{item},{row[2]}" for (user, item), row in zip(quoted, rows, strict=True)]
    csv = "\r\n".join(["user,item,time", *lines, ""])
    jsonl = "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows)
    path = tmp_path / ("events" if kind in ("folder", "partitions") else f"events.{kind}")
    data = pa.table({name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)})
    match kind:
        case "csv" | "csv.gz" | "jsonl" | "jsonl.gz":
            text = (("\ufeff" + csv) if "csv" in kind else jsonl).encode()
            path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
        case "parquet":
            pq.write_table(data, path)
        case "folder":
            path.mkdir()
            pq.write_table(data.slice(0, 2), path / "part-0.parquet")
            pq.write_table(data.slice(2), path / "part-1.parquet")
            (path / "_SUCCESS").write_bytes(b"")
        case "partitions":
            for day, part in (("a", data.slice(0, 2)), ("b", data.slice(2))):
                (path / f"day={day}").mkdir(parents=True)
                pq.write_table(part, path / f"day={day}" / "0.parquet")
    from persrec.data.tables.scan import files_of, format_of

    form = format_of(path)
    scan = Scan(files=files_of(path, form), format=form, columns=COLUMNS if form == "jsonl" else ())
    table = EventTable(name="x", scans={"events": scan}, times=Time(unit="s"))
    log = prepare(table, tmp_path / "cache")
    [folder] = (tmp_path / "cache").iterdir()
    assert (raw_ids(folder, USERS), raw_ids(folder, ITEMS)) == ([1, 2], ['a "q", x', "b"])
    assert (log.items.tolist(), log.times.tolist()) == ([2, 1, 2, 2], [START, START + 1, START, START])


def test_the_digest_is_of_contents_and_settings_and_not_of_the_place(tmp_path):
    (tmp_path / "there").mkdir()
    rows = [(1, 2, START)]
    here, there = written(tmp_path / "rows.csv", rows), written(tmp_path / "there" / "rows.csv", rows)
    assert table_of(here).digest() == table_of(there).digest()
    assert table_of(here, filters=Filters(core=2)).digest() != table_of(here).digest()
    written(here, [(1, 3, START)])
    assert table_of(here).digest() != table_of(there).digest()


def test_no_file_of_the_publisher_is_touched(tmp_path):
    path = written(tmp_path / "rows.csv", [(1, 2, START)])
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    prepare(table_of(path), tmp_path / "cache")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert sorted(Path(tmp_path).iterdir()) == [tmp_path / "cache", path]
