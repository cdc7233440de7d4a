"""What `from_rows` takes, converts and refuses. Whatever is not clear is one line, never a guess."""

import numpy as np
import pandas as pd
import pytest

from persrec.data.interactions import InteractionLog

DAYS = ["2020-01-01", "2020-01-02", "2020-01-03"]
SECONDS = [1_577_836_800, 1_577_923_200, 1_578_009_600]


def log_of(**changes):
    rows = {"users": np.array([1, 1, 1]), "items": np.array([10, 20, 30]), "times": np.array([1, 2, 3])}
    return InteractionLog.from_rows(**({"name": "x", "exclude_seen": True, "digest": "d"} | rows | changes))


@pytest.mark.parametrize("unit", ["D", "h", "m", "s", "ms", "us", "ns"])
def test_dates_of_every_unit_are_the_same_seconds(unit):
    log = log_of(times=np.array(DAYS, f"datetime64[{unit}]"))
    assert log.times.tolist() == SECONDS
    assert log.notes["converted"] == {"times": f"datetime64[{unit}] to seconds"}


def test_months_and_years_are_seconds_too():
    assert log_of(times=np.array(["2020", "2021", "2022"], "datetime64[Y]")).times.tolist() == [1_577_836_800, 1_609_459_200, 1_640_995_200]
    assert log_of(times=pd.to_datetime(DAYS).to_numpy()).times.tolist() == SECONDS


def test_fractions_of_a_second_sort_and_are_then_dropped():
    log = log_of(times=np.array([2_900, 2_100, 2_500], "datetime64[ms]"))
    assert log.items.tolist() == [2, 3, 1]
    assert log.times.tolist() == [2, 2, 2]
    assert log.notes["converted"] == {"times": "datetime64[ms] to seconds, fractions of a second dropped behind the sorting"}


@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.int64, np.uint64, object])
def test_whole_numbers_are_seconds_whatever_their_size(kind):
    log = log_of(times=np.array([9, 10, 100], kind))
    assert log.times.tolist() == [9, 10, 100]
    assert "converted" not in log.notes


def test_floats_that_are_whole_numbers_are_those():
    log = log_of(users=np.array([1.0, 1.0, 2.0]), items=np.array([10.0, 20.0, 30.0]), times=np.array([9.0, 10.0, 100.0]), texts={20: "b"})
    assert (log.times.tolist(), log.item_texts) == ([9, 10, 100], ("", "", "b", ""))
    assert log.notes["converted"] == dict.fromkeys(("users", "items", "times"), "float64 to whole numbers")


BAD = {
    "times as text": ({"times": ["9", "10", "100"]}, "times: texts, such as 9; expected whole seconds or datetime64"),
    "times as objects of text": ({"times": np.array(["9", "10", "100"], object)}, "times: texts, such as 9; expected whole seconds"),
    "times as bytes": ({"times": np.array([b"9", b"10", b"11"])}, "times: bytes"),
    "no time": ({"times": np.array(["2020-01-01", "NaT", "2020-01-03"], "datetime64[s]")}, "times: NaT in row 1, 1 such rows"),
    "NaN": ({"times": [9.0, np.nan, 100.0]}, "times: nan in row 1, 1 such rows"),
    "infinity": ({"times": [9.0, np.inf, 100.0]}, "times: inf in row 1"),
    "fractions": ({"times": [9.0, 10.2, 100.7]}, r"times: 10\.2 in row 1, 2 such rows; expected .*, without fractions"),
    "floats that skip numbers": ({"users": [2.0**60, 1.0, 2.0]}, "users: 1.15.*e.18 in row 0"),
    "bool": ({"times": [True, False, True]}, "times: bool, such as True"),
    "durations": ({"times": np.array([1, 2, 3], "timedelta64[s]")}, "times: durations"),
    "milliseconds": ({"times": [1_600_000_000_000] * 3}, r"beyond the year 2262; .*divide by 1,000 if these are milliseconds$"),
    "microseconds": ({"times": [1_600_000_000_000_000] * 3}, r"divide by 1,000,000 if these are microseconds$"),
    "nanoseconds": ({"times": [1_600_000_000_000_000_000] * 3}, r"divide by 1,000,000,000 if these are nanoseconds$"),
    "more than 63 bits": ({"times": np.array([1, 2, 2**63 + 5], np.uint64)}, "times: 9223372036854775813 as seconds lies beyond"),
    "more than 64 bits": ({"users": np.array([1, 2, 2**70], object)}, "users: 1180591620717411303424 does not fit 64 bits"),
    "before 1970": ({"times": np.array(["1969-01-01", *DAYS[:2]], "datetime64[s]")}, "times: -31536000 is negative"),
    "dates far away": ({"times": np.array([1, 2, 2**60], "datetime64[Y]")}, "times: .* cannot be held in seconds"),
    "dates after 2262": ({"times": np.array([*DAYS[:2], "3000-01-01"], "datetime64[s]")}, "beyond the year 2262"),
    "stamps": ({"times": np.array(pd.to_datetime(DAYS, utc=True), object)}, "times: objects of Timestamp"),
    "users NaN": ({"users": [1, np.nan, np.nan]}, "users: nan in row 1, 2 such rows; expected whole numbers or texts"),
    "users None": ({"users": np.array(["a", None, "b"], object)}, "users: None in row 1"),
    "users NA": ({"users": pd.array([1, None, 3], dtype="Int64")}, "users: (of several kinds|nan in row 1)"),
    "users masked": ({"users": np.ma.masked_array([1, 2, 3], [False, True, False])}, "users: 1 masked values"),
    "users empty": ({"users": ["a", "", "b"]}, "users: '' in row 1, 1 such rows; expected an id in every row"),
    "users bool": ({"users": [True, False, True]}, "users: bool, such as True; expected whole numbers or texts"),
    "users dates": ({"users": np.array(DAYS, "datetime64[D]")}, "users: datetime64, such as 2020-01-01"),
    "items mixed": ({"items": np.array(["a", 1, "b"], object)}, r"items: of several kinds, such as 'a' \(str\) and 1 \(int\)"),
    "items mixed with bool": ({"items": np.array([1, True, 3], object)}, r"items: of several kinds, such as 1 \(int\) and True \(bool\)"),
    "order as text": ({"order": ["9", "10", "100"]}, "order: texts, such as 9; expected numbers or datetime64"),
    "order NaN": ({"order": [1.0, np.nan, 2.0]}, "order: nan in row 1"),
    "order bool": ({"order": [True, False, True]}, "order: bool"),
    "two dimensions": ({"users": [[1], [1], [1]]}, r"users: shape \(3, 1\); expected one dimension"),
    "no dimension": ({"times": np.array(5)}, r"times: shape \(\); expected one dimension"),
    "text of a number": ({"texts": {10: 5}}, "texts: 5 of item 10 is int; expected text"),
    "category of a number": ({"categories": {10: 5}}, "categories: 5 of item 10 is int; expected text"),
    "texts by text": (
        {"texts": {"10": "x"}},
        r"texts: none of the 3 items has one; its ids are like '10' \(str\), the items' like 10 \(int\)",
    ),
    "texts by number": ({"items": ["10", "20", "30"], "texts": {10: "x"}}, r"its ids are like 10 \(int\), the items' like '10' \(str\)"),
    "categories of others": ({"categories": {99: "x"}}, "categories: none of the 3 items has one; its ids are like 99"),
    "empty texts": ({"texts": {10: "", 20: " ", 30: None}}, "texts: none of the 3 items has one"),
    "no texts": ({"texts": {}}, "texts: none of the 3 items has one; the table is empty"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BAD)
def test_what_could_be_misread_is_refused_in_one_line(name):
    changes, says = BAD[name]
    changes = {key: np.asarray(value) if isinstance(value, list) else value for key, value in changes.items()}
    with pytest.raises(ValueError, match=says) as refused:
        log_of(**changes)
    assert "\n" not in str(refused.value)


def test_a_missing_text_or_category_is_none_and_counted():
    log = log_of(texts={10: float("nan"), 20: None, 30: "z"}, categories={10: float("nan"), 20: "b", np.int64(30): "a"})
    assert (log.item_texts, log.item_categories.tolist()) == (("", "", "", "z"), [0, 0, 2, 1])
    assert (log.notes["items_with_text"], log.notes["items_with_category"]) == (1, 2)
    assert log.notes["category_names"] == ["", "a", "b"]


def test_ids_may_be_texts_of_any_kind_and_large_numbers():
    for items in (np.array(["b", "a", "b"], object), np.array(["b", "a", "b"], np.dtypes.StringDType()), pd.Series(["b", "a", "b"])):
        assert log_of(items=items).items.tolist() == [2, 1, 2]
    assert log_of(items=np.array([2**64 - 1, 5, 6], np.uint64)).items.tolist() == [3, 1, 2]


def test_dates_may_give_the_order():
    assert log_of(order=np.array(DAYS[::-1], "datetime64[D]")).items.tolist() == [3, 2, 1]
