import datetime

import numpy as np
import pytest

from persrec.data import splits
from persrec.data.interactions import InteractionLog
from persrec.data.plots import plot
from persrec.data.statistics import statistics

START = int(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC).timestamp())
# user, item, seconds behind the start; None is unknown
ROWS = [(1, 5, 0), (1, 5, 10), (1, 6, 10), (2, 5, 3), (2, 7, 9), (3, 5, None), (4, 6, None), (4, 6, None)]


@pytest.fixture
def log():
    users, items, times = zip(*ROWS, strict=True)
    return InteractionLog.from_rows(
        name="x",
        users=np.array(users),
        items=np.array(items),
        times=np.array([0 if time is None else START + time for time in times]),
        order=np.arange(len(ROWS)),
        digest="d",
    )


def test_every_figure_is_what_the_rows_say(log):
    figures = statistics(log)
    assert (figures["interactions"], figures["users"], figures["items"]) == (8, 4, 3)
    assert figures["length"] == {"median": 2.0, "p90": pytest.approx(2.7), "most": 3}
    assert figures["users_by_length"] == {"1": 4, "2": 3, "3": 1}
    assert figures["popularity"] == {"1%": 4 / 8, "10%": 4 / 8, "50%": 7 / 8, "median": 3.0}  # items of 4, 3 and 1 events
    assert figures["repeat_share"] == 2 / 8
    assert (figures["first_time"], figures["last_time"]) == (START, START + 10)
    assert figures["unknown_time_share"] == 3 / 8
    assert figures["tied_last_share"] == 1 / 2  # of users 1 and 2


@pytest.mark.parametrize("rows", [1, 3])
def test_reading_in_blocks_changes_no_figure(log, monkeypatch, rows):
    whole = statistics(log)
    monkeypatch.setattr(splits, "ROWS_AT_ONCE", rows)
    assert statistics(log) == whole


def test_without_times_there_are_no_days(log):
    bare = InteractionLog.from_rows(name="x", users=log.users, items=log.items, times=np.zeros(8, dtype=int), digest="d")
    figures = statistics(bare)
    assert (figures["first_time"], figures["last_time"], figures["tied_last_share"]) == (None, None, None)


def test_three_plots_are_drawn_the_same_each_time(log, tmp_path):
    for name in ("a.svg", "b.svg"):
        plot(log, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert all(f"axes_{number}" in text for number in (1, 2, 3))
    with pytest.raises(ValueError, match=r"plot: .*c\.txt; expected an ending of"):
        plot(log, tmp_path / "c.txt")
