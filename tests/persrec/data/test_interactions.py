import numpy as np
import pytest

from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol


def made(**changes):
    settings = {"name": "x", "exclude_seen": True, "digest": "d"}
    rows = {"users": np.array([7, 3, 7, 3, 7]), "items": np.array([50, 20, 20, 90, 50]), "times": np.array([30, 5, 10, 5, 10])}
    return InteractionLog.from_rows(**(settings | rows | changes))


def test_rows_are_grouped_by_user_in_time_order_and_ties_keep_file_order():
    log = made()
    assert log.users.tolist() == [0, 0, 1, 1, 1]  # raw 3, 7
    assert log.items.tolist() == [1, 3, 1, 2, 2]  # raw 20, 90; then 20 and 50 tied at 10, then 50 at 30
    assert log.times.tolist() == [5, 5, 10, 10, 30]
    assert (log.num_users, log.num_items) == (2, 4)
    assert log.lengths.tolist() == [2, 3]
    assert log.notes == {"rows": 5, "users": 2, "items": 3}


def test_many_tied_rows_keep_file_order():
    items = np.random.Generator(np.random.PCG64(0)).permutation(1000) + 1
    log = made(users=np.zeros(1000, dtype=int), items=items, times=np.full(1000, 9))
    assert log.items.tolist() == items.tolist()


def test_an_unknown_time_keeps_the_place_that_the_order_gives_it():
    log = made(order=np.array([30, 5, 10, 6, 20]), times=np.array([0, 5, 10, 0, 20]))
    assert log.items.tolist() == [1, 3, 1, 2, 2]
    assert log.times.tolist() == [5, 0, 10, 20, 0]


def test_without_an_order_an_unknown_time_stays_behind_the_row_before_it():
    users, items = np.array([1, 1, 2, 1, 1, 2]), np.array([10, 20, 50, 30, 40, 60])
    log = made(users=users, items=items, times=np.array([0, 200, 0, 0, 100, 7]))
    assert log.items.tolist() == [1, 4, 2, 3, 5, 6]  # of user 1: before all others, then by time, 30 behind 20; of user 2 as they came
    assert log.times.tolist() == [0, 100, 200, 0, 0, 7]
    days = np.array(["NaT", "2024-01-02", "2024-01-01"], dtype="datetime64[D]")
    with pytest.raises(ValueError, match="times"):  # a missing date is no unknown time
        made(users=np.array([1, 1, 1]), items=np.array([1, 2, 3]), times=days)


def test_texts_and_categories_follow_the_raw_ids():
    log = made(texts={20: "twenty", 90: "ninety"}, categories={20: "b", 50: "a", 1: "unused"})
    assert log.item_texts == ("", "twenty", "", "ninety")
    assert log.item_categories.tolist() == [0, 2, 1, 0]
    assert log.notes["category_names"] == ["", "a", "b"]


def test_ids_may_be_strings():
    log = made(items=np.array(["p2", "p10", "p2", "p1", "p10"]))
    assert log.items.tolist() == [2, 1, 3, 2, 3]  # p1, p10, p2 ascending


def test_all_fields_are_int64_whatever_came():
    log = made(users=np.array([7, 3, 7, 3, 7], dtype=np.int16), items=np.array([5, 2, 2, 9, 5], dtype=np.int32))
    assert {log.users.dtype, log.items.dtype, log.times.dtype} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": np.array([1])}, "1 items for 5 users"),
        ({"users": np.array([]), "items": np.array([]), "times": np.array([])}, "no interactions"),
        ({"times": np.array([1, 2, 3, 4, -5])}, "times: -5 is negative"),
    ],
)
def test_bad_rows_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("offsets", np.array([0, 2, 1]), "offsets: 3 numbers; expected them ascending from 0 to 2"),
        ("offsets", np.array([0, 3]), "offsets: 2 numbers; expected them ascending from 0 to 2"),
        ("offsets", np.array([], dtype=np.int64), "offsets: 0 numbers"),
        ("items", np.array([0, 1]), r"items: 0\.\.1 leaves 1\.\.2"),
        ("items", np.array([1, 3]), r"items: 1\.\.3 leaves 1\.\.2"),
        ("items", np.array([1, 2], dtype=np.int16), "items: int16"),
        ("times", np.array([1]), "times: int64 of shape"),
        ("item_texts", ("", "a"), "item_texts: 2 texts; expected 3"),
        ("item_texts", ("x", "a", "b"), "the first one empty"),
        ("item_categories", np.array([1, 1, 1]), "item_categories"),
    ],
)
def test_a_log_holds_what_it_promises(field, value, message):
    fields = {
        "offsets": np.array([0, 1, 2]),
        "items": np.array([1, 2]),
        "times": np.array([0, 0]),
        "item_texts": None,
        "item_categories": None,
    }
    fixed = {"name": "x", "num_items": 3, "protocol": Protocol(), "digest": "d"}
    with pytest.raises(ValueError, match=message):
        InteractionLog(**(fixed | fields | {field: value}))
