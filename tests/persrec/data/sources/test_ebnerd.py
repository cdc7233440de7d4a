"""EB-NeRD: a history and then its later clicks, of the validation part where a user has one, and each click once."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

START = 1_684_000_000
HISTORY = pa.schema(
    [
        ("user_id", pa.uint32()), ("impression_time_fixed", pa.large_list(pa.timestamp("us"))),
        ("scroll_percentage_fixed", pa.large_list(pa.float32())), ("article_id_fixed", pa.large_list(pa.int32())),
        ("read_time_fixed", pa.large_list(pa.float32())),
    ]
)  # fmt: skip
BEHAVIORS = pa.schema(
    [
        ("impression_id", pa.uint32()), ("article_id", pa.int32()), ("impression_time", pa.timestamp("us")), ("read_time", pa.float32()),
        ("article_ids_inview", pa.large_list(pa.int32())), ("article_ids_clicked", pa.large_list(pa.int32())), ("user_id", pa.uint32()),
        ("session_id", pa.uint32()),
    ]
)  # fmt: skip
ARTICLES = pa.schema(
    [("article_id", pa.int32()), ("title", pa.string()), ("subtitle", pa.string()), ("topics", pa.list_(pa.string())),
     ("category", pa.int16()), ("category_str", pa.string())]
)  # fmt: skip
FRONT = None  # a front page is no article
# Histories by user: (article, seconds after START). Behaviors: impression, page, user, seconds after START, articles clicked.
TRAIN = (
    {1: [(100, 10), (101, 20)], 2: [(102, 15), (100, 25)]},
    [
        (5, FRONT, 1, 30, [104]),  # user 1 has a validation history
        (6, FRONT, 2, 25, [105]),  # at the last entry
        (7, 102, 2, 26, [107, 106]),
        (8, FRONT, 2, 20, [108]),  # before the last entry
        (9, FRONT, 3, 5, [100]),  # a user without a history
        (10, 102, 2, 30, []),
    ],
)
VALIDATION = ({1: [(101, 21), (103, 40)]}, [(11, 103, 1, 40, [101]), (13, FRONT, 1, 42, [109]), (12, FRONT, 1, 41, [101])])
EVENTS = {1: [(101, 21), (103, 40), (101, 41), (109, 42)], 2: [(102, 15), (100, 25), (107, 26), (106, 26)], 3: [(100, 5)]}


def at(seconds):
    return datetime.datetime.fromtimestamp(START + seconds, datetime.UTC).replace(tzinfo=None)


def write_part(folder, histories, behaviors):
    folder.mkdir(parents=True)
    history = [
        {
            "user_id": user, "article_id_fixed": [article for article, _ in entries],
            "impression_time_fixed": [at(seconds) for _, seconds in entries], "scroll_percentage_fixed": [None] * len(entries),
            "read_time_fixed": [1.0] * len(entries),
        }
        for user, entries in histories.items()
    ]  # fmt: skip
    seen = [
        {
            "impression_id": impression, "article_id": page, "impression_time": at(seconds), "article_ids_inview": [100, *clicked],
            "article_ids_clicked": clicked, "user_id": user, "session_id": impression,
        }
        for impression, page, user, seconds, clicked in behaviors
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(history, HISTORY), folder / "history.parquet")
    pq.write_table(pa.Table.from_pylist(seen, BEHAVIORS), folder / "behaviors.parquet")


def write(folder, train=TRAIN, validation=VALIDATION):
    write_part(folder / "train", *train)
    write_part(folder / "validation", *validation)
    return folder


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "ebnerd")


def by_user(rows):
    found = {}
    for user, article, time in rows:
        found.setdefault(user, []).append((article, time - START))
    return found


def test_a_user_takes_the_validation_history_or_else_the_train_history_and_then_the_later_clicks(source, load, events):
    log = load("ebnerd")
    assert by_user(events(log)) == EVENTS
    # Of 15 rows: two of the train history and a click are replaced; two train clicks and a validation click are not later.
    assert log.notes["ledger"] == {
        "rows_in": 15,
        "rows_kept": 9,
        "dropped": {"of the train part, of a user who has a validation history": 3, "a click at or before the history's last entry": 3},
    }
    assert (log.item_texts, log.item_categories, log.exclude_seen) == (None, None, False)


def test_articles_clicked_in_one_impression_have_one_time_and_stand_as_they_are_listed(tmp_path, load, events):
    write(tmp_path / "ebnerd", ({1: [(100, 0)]}, [(4, FRONT, 1, 9, [7]), (3, 5, 1, 9, [9, 8])]), ({}, []))
    assert by_user(events(load("ebnerd"))) == {1: [(100, 0), (9, 9), (8, 9), (7, 9)]}


def test_a_user_of_the_validation_clicks_alone_goes_on_from_the_train_part(tmp_path, load, events):
    write(tmp_path / "ebnerd", ({1: [(100, 0)]}, [(1, FRONT, 1, 5, [101])]), ({2: [(100, 0)]}, [(2, FRONT, 1, 9, [102])]))
    assert by_user(events(load("ebnerd"))) == {1: [(100, 0), (101, 5), (102, 9)], 2: [(100, 0)]}


def test_an_articles_text_is_title_subtitle_and_topics(source, load, described):
    rows = [
        (100, "Storm", "It blows", ["Weather", "Sea"], "news"),
        (101, " Cup ", "", [], "sport"),
        (102, None, "Only this", None, "news"),
        (999, "Unread", "", [], "auto"),
    ]
    names = ("article_id", "title", "subtitle", "topics", "category_str")
    pq.write_table(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], ARTICLES), source / "articles.parquet")
    log = load("ebnerd")
    assert described(log) == {
        100: ("Storm. It blows. Weather, Sea", "news"),
        101: ("Cup", "sport"),
        102: ("Only this", "news"),
        **dict.fromkeys((103, 106, 107, 109), ("", "")),
    }
    assert log.notes["category_names"] == ["", "news", "sport"]


def test_a_size_is_read_from_its_own_folder_and_without_one_what_is_there_is_read(tmp_path, load, events):
    write(tmp_path / "ebnerd_demo")
    write(tmp_path / "ebnerd_small", ({5: [(100, 0)]}, []), ({}, []))
    assert load("ebnerd").num_users == 3
    assert load("ebnerd", size="demo").num_users == 3
    assert load("ebnerd", size="small").num_users == 1
    assert sorted(path.name.rsplit("-", 2)[0] for path in (tmp_path / "cache").iterdir()) == ["ebnerd", "ebnerd-demo", "ebnerd-small"]


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("name", ["history", "behaviors"])
def test_a_missing_file_is_named(source, refusal, part, name):
    (source / part / f"{name}.parquet").unlink()
    assert f"ebnerd/{part}/{name}.parquet: no such file; 'ebnerd' is read from" in refusal("ebnerd")


@pytest.mark.parametrize(
    ("file", "column"),
    [("train/history", "article_id_fixed"), ("validation/history", "impression_time_fixed"), ("train/behaviors", "article_ids_clicked"),
     ("validation/behaviors", "impression_id")],
)  # fmt: skip
def test_a_missing_column_is_named_with_its_file(source, refusal, file, column):
    path = source / f"{file}.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    assert f"{file}.parquet: no column '{column}', which ebnerd names; it has " in refusal("ebnerd")


def test_articles_without_topics_are_another_table(source, refusal):
    pq.write_table(pa.table({"article_id": [100], "title": ["Storm"]}), source / "articles.parquet")
    assert "articles.parquet: no column 'subtitle', which ebnerd names; it has article_id, title" in refusal("ebnerd")


def test_a_file_that_is_no_parquet_is_named(source, refusal):
    (source / "train" / "history.parquet").write_bytes(b"user_id")
    assert "train/history.parquet: is no Parquet file" in refusal("ebnerd")
