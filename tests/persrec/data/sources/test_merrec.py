"""MerRec: every event of a user on a product, over sessions and shards, whatever the types that a release has."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

START = 1_682_899_200  # 2023-05-01
PRODUCTS = {900: ("Acme", "Toys", "Dolls", "Rag dolls"), 77: (None, "Toys", "Cars", None), 5: ("Bolt", "Tools", "", "Saws")}
TEXTS = {900: "Acme, Toys, Dolls, Rag dolls", 77: "Toys, Cars", 5: "Bolt, Tools, Saws"}
# By folder: user, session, product, event, seconds after START.
SHARDS = {
    "20230501/000.parquet": [(12, 1, 900, 0, 50), (9, 1, 77, 5, 10), (12, 1, 900, 1, 50)],
    "20230501/001.parquet": [(12, 2, 5, 0, 50)],
    "20230601/000.parquet": [(9, 8, 900, 2, 5), (9, 8, 77, 0, 70)],
}
EVENTS = [(9, 900, 5), (9, 77, 10), (9, 77, 70), (12, 900, 50), (12, 900, 50), (12, 5, 50)]


def of_time(seconds, kind):
    moment = datetime.datetime.fromtimestamp(START + seconds, datetime.UTC)
    match kind:
        case "timestamp":
            return pa.scalar(moment.replace(tzinfo=None), pa.timestamp("us"))
        case "zoned":
            return pa.scalar(moment, pa.timestamp("us", tz="Asia/Tokyo"))
        case "text":
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        case "text with a zone":
            return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    raise AssertionError(kind)


def write(folder, *, of_id=int, kind="timestamp", named=True):
    for name, rows in SHARDS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        columns = {
            "user_id": [of_id(row[0]) for row in rows],
            "sequence_id": [of_id(row[1]) for row in rows],
            "session_id": [of_id(row[1]) for row in rows],
            "item_id": [of_id(1_000_000 + place) for place in range(len(rows))],
            "product_id": [of_id(row[2]) for row in rows],
            "event_id": [row[3] for row in rows],
            "stime": pa.array([of_time(row[4], kind) for row in rows]),
            "price": [9.5] * len(rows),
        }
        if named:
            for place, column in enumerate(("brand_name", "c0_name", "c1_name", "c2_name")):
                columns[column] = pa.array([PRODUCTS[row[2]][place] for row in rows], pa.string())
        pq.write_table(pa.table(columns), folder / name)
    return folder


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "merrec")


@pytest.mark.parametrize("of_id", [int, str], ids=["whole numbers", "texts of numbers"])
@pytest.mark.parametrize("kind", ["timestamp", "zoned", "text", "text with a zone"])
def test_all_events_of_a_user_are_one_stream_of_products_whatever_the_types(tmp_path, load, events, described, of_id, kind):
    write(tmp_path / "merrec", of_id=of_id, kind=kind)
    log = load("merrec")
    assert [(user, product, time - START) for user, product, time in events(log)] == EVENTS
    assert described(log) == {product: (text, PRODUCTS[product][1]) for product, text in TEXTS.items()}
    assert log.notes["ledger"] == {"rows_in": 6, "rows_kept": 6, "dropped": {}}
    assert (list(log.notes["files"]), log.exclude_seen) == (list(SHARDS), False)


def test_ids_that_are_no_numbers_stay_texts(tmp_path, load, events):
    write(tmp_path / "merrec", of_id=lambda number: f"x{number}")
    found = [(user, product, time - START) for user, product, time in events(load("merrec"))]
    # As texts x12 comes before x9.
    assert found == [(f"x{user}", f"x{product}", time) for user, product, time in EVENTS[3:] + EVENTS[:3]]


def test_without_names_there_are_no_texts(tmp_path, load):
    write(tmp_path / "merrec", named=False)
    log = load("merrec")
    assert (log.item_texts, log.item_categories) == (None, None)


def test_the_folder_of_the_days_may_itself_be_named(tmp_path, load, events):
    write(tmp_path)
    assert len(events(load("merrec"))) == 6


def test_a_folder_without_shards_is_refused(tmp_path, refusal):
    (tmp_path / "merrec" / "20230501").mkdir(parents=True)
    assert "merrec: holds no file of Parquet" in refusal("merrec")


@pytest.mark.parametrize("column", ["user_id", "product_id", "event_id", "stime"])
def test_a_missing_column_is_named(source, refusal, column):
    for name in SHARDS:
        pq.write_table(pq.read_table(source / name).drop_columns([column]), source / name)
    assert f"no column '{column}', which merrec names; it has " in refusal("merrec")


def change(source, column, values):
    for name in SHARDS:
        table = pq.read_table(source / name)
        pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values[: len(table)])), source / name)


def test_times_that_are_numbers_are_not_guessed(source, refusal):
    change(source, "stime", [START] * 3)
    assert "column 'stime' is of type BIGINT; say the unit" in refusal("merrec")


def test_a_time_that_cannot_be_read_is_named_by_its_shard(source, refusal):
    change(source, "stime", ["2023-05-01 00:00:00", "2023-05-01 00:00:00", "soon"])
    assert "20230501/000.parquet: row 3, column 'stime': 'soon' is no time in ISO 8601" in refusal("merrec")
