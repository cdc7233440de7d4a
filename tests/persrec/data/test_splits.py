import dataclasses
import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persrec.data import splits
from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out, split_of, temporal

HISTORIES = [[4, 5, 6, 7], [1, 2], [3, 3, 1], [2]]  # users of 4, 2, 3 and 1 events


@pytest.fixture
def split(request):
    lengths = [len(history) for history in HISTORIES]
    log = InteractionLog(
        name="x",
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.concatenate([np.array(history) for history in HISTORIES]),
        times=np.arange(10),
        num_items=8,
        protocol=Protocol(seen_items=getattr(request, "param", "excluded")),
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    return leave_one_out(log)


@pytest.mark.parametrize(("trained", "fits"), [([1, 1, 0], False), ([1, 2, 0], True), ([], False)])
def test_a_user_with_two_training_items_is_needed_to_train(split, trained, fits):
    data = dataclasses.replace(split, train_ends=np.array(trained, dtype=np.int64))
    if fits:
        data.check_trained()
    else:
        with pytest.raises(ValueError, match="data: no user has the 2 training items"):
            data.check_trained()


def test_sequences_are_views_of_each_users_events(split):
    assert len(split.sequences) == 4
    assert [items.tolist() for items, _ in split.sequences] == HISTORIES
    items, times = split.sequences[2]
    assert times.tolist() == [6, 7, 8]
    assert np.shares_memory(items, split.sequences.items)
    with pytest.raises(IndexError, match=r"user: 4 leaves 0\.\.3"):
        split.sequences[4]


def test_the_last_item_tests_the_one_before_validates_and_neither_is_trained_on(split):
    assert split.test.users.tolist() == split.validation.users.tolist() == [0, 2]
    assert split.targets("test").tolist() == [7, 1]
    assert split.targets("validation").tolist() == [6, 3]
    assert split.test.positions.tolist() == [3, 2]
    assert split.validation.positions.tolist() == [2, 1]


def test_users_of_fewer_than_three_events_are_trained_on_whole(split):
    assert split.train_ends.tolist() == [2, 2, 1, 1]


def test_the_test_input_holds_the_validation_item_and_the_validation_input_does_not(split):
    assert [items.tolist() for items, _ in split.past("test")] == [[4, 5, 6], [3, 3]]
    assert [items.tolist() for items, _ in split.past("validation")] == [[4, 5], [3]]
    assert [times.tolist() for _, times in split.past("test")] == [[0, 1, 2], [6, 7]]


def test_seen_is_everything_known_before_the_target(split):
    offsets, items = split.seen("test")
    assert (offsets.tolist(), items.tolist()) == ([0, 3, 5], [4, 5, 6, 3, 3])


@pytest.mark.parametrize("split", ["kept"], indirect=True)
def test_nothing_is_left_out_where_seen_items_are_kept(split):
    assert split.seen("test") is None


def test_popularity_counts_the_training_part_alone(split):
    # trained on: 4 5 | 1 2 | 3 | 2
    assert split.train_counts().tolist() == [0, 1, 2, 1, 1, 1, 0, 0]


def test_an_unknown_part_is_refused(split):
    with pytest.raises(ValueError, match="part: unknown 'train'; known: validation, test"):
        split.targets("train")


# The temporal split

DAY = 86_400


def dated(days, *, protocol=None, items=None):
    """A log of users whose events lie on these days; None is an unknown time."""
    lengths = [len(of_user) for of_user in days]
    flat = [0 if day is None else day * DAY + 60 for of_user in days for day in of_user]
    return InteractionLog(
        name="x",
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=np.arange(1, len(flat) + 1) if items is None else np.array(items),
        times=np.array(flat),
        num_items=len(flat) + 1,
        protocol=protocol or Protocol(),
        item_texts=None,
        item_categories=None,
        digest="d",
    )


def day(number):
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=number)


CUT = Protocol(validation_from=day(10), test_from=day(12))


def test_a_day_parts_all_users_and_each_target_is_predicted_from_all_before():
    data = temporal(dated([[8, 9, 10, 12, 13], [1, 2], [11, 11], [12]], protocol=CUT))
    assert data.days == ("1970-01-11", "1970-01-13")
    assert data.train_ends.tolist() == [2, 2, 0, 0]
    assert (data.validation.users.tolist(), data.validation.positions.tolist()) == ([0, 2], [2, 1])
    assert (data.test.users.tolist(), data.test.positions.tolist()) == ([0, 0], [3, 4])
    assert data.targets("test").tolist() == [4, 5]
    assert [items.tolist() for items, _ in data.past("test")] == [[1, 2, 3], [1, 2, 3, 4]]
    assert data.train_counts().tolist() == [0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0]


def test_an_event_without_a_time_counts_as_of_the_one_before():
    data = temporal(dated([[None, 9, None, 11, None, 12]], protocol=CUT))
    assert data.train_ends.tolist() == [3]
    assert data.validation.positions.tolist() == [3, 4]
    assert data.test.positions.tolist() == [5]


def test_a_user_has_a_few_targets_at_most_and_the_protocols_history_before_them():
    many = [1] + [12] * 20
    data = temporal(dated([many, [9, 10, 12]], protocol=CUT))
    assert np.bincount(data.test.users).tolist() == [8, 1]
    longer = dataclasses.replace(CUT, minimum_history=3)
    data = temporal(dated([many, [9, 10, 12]], protocol=longer))
    assert (data.test.users.tolist(), data.test.positions.tolist()) == ([0] * 8, list(range(3, 11)))
    with pytest.raises(ValueError, match="no target of the validation from 1970-01-11 on"):
        data.check_evaluated()


@settings(max_examples=50)
@given(users=st.lists(st.lists(st.one_of(st.none(), st.integers(1, 30)), min_size=1, max_size=12), min_size=1, max_size=8))
def test_no_event_is_trained_on_that_lies_behind_the_day(users):
    users = [sorted(day for day in of_user if day is not None) for of_user in users]
    users = [of_user for of_user in users if of_user]
    log = dated(users) if users else None
    if log is None or len({day for of_user in users for day in of_user}) < 3:
        if log is not None:
            with pytest.raises(ValueError, match="split: temporal, yet the known times lie in"):
                temporal(log)
        return
    data = temporal(log)
    first, second = (datetime.date.fromisoformat(text).toordinal() - datetime.date(1970, 1, 1).toordinal() for text in data.days)
    assert first < second
    for user, of_user in enumerate(users):
        assert data.train_ends[user] == sum(day < first for day in of_user)
        for part, wanted in (("validation", lambda day: first <= day < second), ("test", lambda day: second <= day)):
            places = [place for place, day in enumerate(of_user) if wanted(day) and place >= 1][:8]
            assert data.of(part).positions[data.of(part).users == user].tolist() == places
    total = sum(map(len, users))
    before = sum(day < first for of_user in users for day in of_user)
    assert before >= 1
    assert before >= 0.8 * total or first == sorted({day for of_user in users for day in of_user})[-2]


def test_times_that_are_unknown_carry_no_temporal_split():
    with pytest.raises(ValueError, match="known times lie in 0 days"):
        temporal(dated([[None, None]]))


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_blocks_change_no_split(monkeypatch, rows):
    random = np.random.default_rng(0)
    log = dated([sorted(random.integers(1, 40, random.integers(1, 9)).tolist()) for _ in range(30)])
    whole = temporal(log), leave_one_out(log).train_counts()
    monkeypatch.setattr(splits, "ROWS_AT_ONCE", rows)
    parts = temporal(log), leave_one_out(log).train_counts()
    for name in ("train_ends", "days"):
        assert np.array_equal(getattr(whole[0], name), getattr(parts[0], name))
    assert np.array_equal(whole[0].test.positions, parts[0].test.positions)
    assert np.array_equal(whole[1], parts[1])


def test_of_many_users_the_protocols_number_is_drawn_once_for_all():
    log = dated([[1, 2, 3]] * 50, protocol=Protocol(most_users=7))
    drawn = leave_one_out(log).test.users
    assert len(drawn) == 7
    assert np.all(np.diff(drawn) > 0)
    assert np.array_equal(drawn, leave_one_out(log).test.users)
    assert leave_one_out(log).train_ends.tolist() == [1] * 50


def test_of_many_users_as_many_are_evaluated_on_a_temporal_split():
    log = dated([[1, 2, 3, 4, 5, 6]] * 50, protocol=Protocol(most_users=7))
    drawn = temporal(log).test.users
    assert len(np.unique(drawn)) == 7
    assert np.array_equal(drawn, temporal(log).test.users)


def test_a_user_of_less_history_than_the_protocol_asks_for_is_not_evaluated():
    data = leave_one_out(dated([[1] * 5, [1] * 6, [1] * 7], protocol=Protocol(minimum_history=4)))
    assert data.test.users.tolist() == data.validation.users.tolist() == [1, 2]
    assert data.train_ends.tolist() == [3, 4, 5]


def test_a_temporal_split_trains_on_four_fifths_of_the_events_and_tests_on_a_tenth():
    data = temporal(dated([list(range(1, 101))]))
    assert data.days == (str(day(81)), str(day(91)))
    assert data.train_ends.tolist() == [80]


def test_a_split_is_found_by_its_name():
    log = dated([[1, 2, 3], [4, 5, 6]])
    assert split_of(log, "leave-one-out").name == "leave-one-out"
    assert split_of(log, "temporal").name == "temporal"
    with pytest.raises(ValueError, match="split: unknown 'random'; known: leave-one-out, temporal"):
        split_of(log, "random")
