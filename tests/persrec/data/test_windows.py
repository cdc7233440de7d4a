from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persrec.data.interactions import InteractionLog
from persrec.data.splits import Sequences, leave_one_out
from persrec.data.windows import WindowShape, batches, build_windows, epoch_plan
from persrec.layout import SegmentLayout

shapes = st.builds(WindowShape, segments=st.lists(st.integers(1, 5), max_size=3).map(tuple), recent=st.integers(1, 5))


def sequences_of(lengths):
    """Event ``e`` of user ``u`` is item ``100 u + e + 1`` at time ``10 item``: an item tells whose it is and which."""
    items = np.concatenate([100 * user + np.arange(length) + 1 for user, length in enumerate(lengths)])
    return Sequences(offsets=np.concatenate([[0], np.cumsum(lengths)]), items=items, times=10 * items)


def naive_window(items, end, shape, gap=0):
    """One user's window, slot by slot: column -> place in the user's sequence."""
    recent = list(range(end))[-shape.recent :]
    older = list(range(end))[: max(0, end - len(recent) - gap)]
    older = older[-shape.history :] if shape.history else []
    column_of_end = 0
    for size in shape.segments:  # as few segments as hold what is older
        if column_of_end < len(older):
            column_of_end += size
    placed = {column_of_end - back: place for back, place in enumerate(reversed(older), start=1)}
    return placed | {shape.width - back: place for back, place in enumerate(reversed(recent), start=1)}


@st.composite
def users_and_ends(draw):
    lengths = draw(st.lists(st.integers(2, 25), min_size=1, max_size=5))
    picks = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    return lengths, np.array(picks), np.array([draw(st.integers(1, lengths[user] - 1)) for user in picks])


@given(asked=users_and_ends(), shape=shapes, trim=st.booleans(), gap=st.integers(0, 8))
def test_windows_are_those_of_a_loop_over_users_and_slots(asked, shape, trim, gap):
    lengths, users, ends = asked
    sequences = sequences_of(lengths)
    expected = np.zeros((3, len(users), shape.width), dtype=np.int64)
    for row, (user, end) in enumerate(zip(users, ends, strict=True)):
        items, times = sequences[user]
        for column, place in naive_window(items, end, shape, gap).items():
            expected[:, row, column] = items[place], times[place], items[place + 1]
    empty = int(np.cumprod((expected[0] == 0).all(axis=0)).sum())
    lead = min(empty, shape.segments[0] - 1) if trim and shape.segments else 0
    batch = build_windows(sequences, users, ends, shape, trim=trim, gap=gap)
    for found, wanted in zip((batch.items, batch.times, batch.targets), expected, strict=True):
        assert found.tolist() == wanted[:, lead:].tolist()
    assert batch.query_times.tolist() == [sequences[user][1][end] for user, end in zip(users, ends, strict=True)]


@given(asked=users_and_ends(), shape=shapes, gap=st.integers(1, 8))
def test_a_gap_moves_the_history_and_leaves_target_and_recent_items_where_they_are(asked, shape, gap):
    lengths, users, ends = asked
    sequences = sequences_of(lengths)
    fresh, stale = (build_windows(sequences, users, ends, shape, gap=g) for g in (0, gap))
    recent = slice(shape.history, None)
    assert np.array_equal(stale.items[:, recent], fresh.items[:, recent])
    assert np.array_equal(stale.targets[:, recent], fresh.targets[:, recent])
    assert np.array_equal(stale.query_times, fresh.query_times)
    # what the history holds is what a request that came so many items earlier would have had as its history
    earlier = np.maximum(ends - gap, np.minimum(ends, shape.recent))
    for row, (user, end) in enumerate(zip(users, earlier, strict=True)):
        before = build_windows(sequences, np.array([user]), np.array([end]), shape).items[0, : shape.history]
        assert stale.items[row, : shape.history].tolist() == (before.tolist() if end == ends[row] - gap else [0] * shape.history)


@given(asked=users_and_ends(), shape=shapes)
def test_every_item_in_a_window_has_the_next_item_of_its_user_as_target(asked, shape):
    lengths, users, ends = asked
    batch = build_windows(sequences_of(lengths), users, ends, shape)
    assert np.array_equal(batch.targets, np.where(batch.items > 0, batch.items + 1, 0))
    assert np.array_equal(batch.targets[:, -1], 100 * users + ends + 1)  # the item at the end, which no window holds
    assert (batch.items < 100 * users[:, None] + ends[:, None] + 1).all()


def test_the_last_item_before_an_expert_block_predicts_the_first_item_behind_it():
    layout = SegmentLayout.from_plan([(3, 2), (5, 1)], window=8)
    shape = WindowShape(segments=tuple(segment.items for segment in layout.segments), recent=layout.recent)
    batch = build_windows(sequences_of([9]), np.array([0]), np.array([8]), shape)
    for offset in layout.offsets:
        assert offset - 1 in layout.predicting_columns
        assert batch.targets[0, offset - 1] == batch.items[0, offset]


def test_a_history_that_grows_keeps_every_earlier_position():
    shape = WindowShape(segments=(3, 2), recent=2)
    ends = np.array([4, 5, 6, 7])  # 2, 3, 4 and 5 items of history
    batch = build_windows(sequences_of([9]), np.zeros(4, dtype=np.int64), ends, shape)
    assert batch.items.tolist() == [
        [0, 1, 2, 0, 0, 3, 4],
        [1, 2, 3, 0, 0, 4, 5],
        [0, 1, 2, 3, 4, 5, 6],  # as few segments as hold it: 4 items are right-aligned before column 5
        [1, 2, 3, 4, 5, 6, 7],
    ]
    layout = SegmentLayout.from_plan([(3, 1), (5, 1)], window=7)
    assert [layout.fill(end - 2) for end in ends] == [3, 3, 5, 5]


# What an epoch trains on


def targets_of(users, ends, *, stride):
    """Places that the windows of a plan carry a target for."""
    return Counter(
        (user, place) for user, end in zip(users.tolist(), ends.tolist(), strict=True) for place in range(max(1, end - stride + 1), end + 1)
    )


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    stride=st.integers(1, 8),
    history=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_an_epoch_carries_every_target_at_most_once_and_leaves_out_less_than_a_window_of_the_newest(lengths, stride, history, seed):
    users, ends = epoch_plan(np.array(lengths), shortest=stride + history, stride=stride, rng=np.random.default_rng(seed))
    carried = targets_of(users, ends, stride=stride)
    assert set(carried.values()) <= {1}
    for user, length in enumerate(lengths):
        places = sorted(place for owner, place in carried if owner == user)
        assert places == list(range(1, len(places) + 1))
        left_out = max(0, length - 1) - len(places)
        assert 0 <= left_out < stride
        if length - 1 <= stride + history:  # it fits a window
            assert left_out == 0


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4), stride=st.integers(1, 6), history=st.integers(0, 6))
def test_over_epochs_every_training_target_has_its_turn(lengths, stride, history):
    rng = np.random.default_rng(0)
    carried = Counter()
    for _ in range(60):
        carried += targets_of(*epoch_plan(np.array(lengths), shortest=stride + history, stride=stride, rng=rng), stride=stride)
    assert set(carried) == {(user, place) for user, length in enumerate(lengths) for place in range(1, length)}


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    shape=shapes,
    every_column_predicts=st.booleans(),
    seed=st.integers(0, 99),
)
def test_training_windows_hold_no_validation_and_no_test_item(lengths, shape, every_column_predicts, seed):
    sequences = sequences_of(lengths)
    log = InteractionLog(
        name="x",
        users=np.repeat(np.arange(len(lengths)), lengths),
        items=sequences.items,
        times=sequences.times,
        num_users=len(lengths),
        num_items=1000,
        exclude_seen=False,
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    data = leave_one_out(log)
    stride = shape.width if every_column_predicts else shape.recent
    users, ends = epoch_plan(data.train_ends, shortest=shape.width, stride=stride, rng=np.random.default_rng(seed))
    held_out = {*data.targets("validation").tolist(), *data.targets("test").tolist()}
    batch = build_windows(data.sequences, users, ends, shape)
    assert not held_out & {*batch.items.flatten().tolist(), *batch.targets.flatten().tolist()}
    predicted = Counter(batch.targets[:, shape.width - stride :][batch.targets[:, shape.width - stride :] > 0].tolist())
    assert set(predicted.values()) <= {1}
    trained = {100 * user + place + 1 for user, end in enumerate(data.train_ends.tolist()) for place in range(1, end)}
    assert set(predicted) <= trained
    if not (data.train_ends - 1 > shape.width).any():
        assert set(predicted) == trained


def test_a_user_of_one_training_item_has_nothing_to_predict():
    users, ends = epoch_plan(np.array([1, 0, 2]), shortest=4, stride=4, rng=np.random.default_rng(0))
    assert (users.tolist(), ends.tolist()) == ([2], [1])


@given(count=st.integers(0, 40), batch_size=st.integers(1, 7), pool=st.integers(1, 4), seed=st.integers(0, 99))
def test_batches_hold_every_window_once_and_all_but_one_are_full(count, batch_size, pool, seed):
    rng = np.random.default_rng(seed)
    users, ends = np.arange(count), rng.integers(1, 12, count)
    cut = list(batches(users, ends, width=8, batch_size=batch_size, rng=rng, pool=pool))
    assert sorted(np.concatenate([np.zeros(0), *(rows for rows, _ in cut)]).tolist()) == users.tolist()
    assert all(np.array_equal(ends[rows], own) for rows, own in cut)
    assert sum(len(rows) < batch_size for rows, _ in cut) <= 1
    assert len(cut) == -(-count // batch_size)


def test_a_batch_holds_windows_of_like_length():
    ends = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 17), 4))
    for _, own in batches(np.arange(64), ends, width=100, batch_size=4, rng=np.random.default_rng(1)):
        assert len(set(own.tolist())) == 1  # all 64 windows are one pool, which is sorted and cut
    spread = [
        np.ptp(np.minimum(own, 5)) for _, own in batches(np.arange(64), ends, width=5, batch_size=4, rng=np.random.default_rng(1), pool=16)
    ]
    assert max(spread) == 0  # what is longer than a window is as long as a window


@pytest.mark.parametrize("stride", [1, 3])
def test_the_plan_of_a_long_sequence_moves_from_epoch_to_epoch(stride):
    rng = np.random.default_rng(0)
    first_ends = {int(epoch_plan(np.array([50]), shortest=6, stride=stride, rng=rng)[1][0]) for _ in range(40)}
    assert first_ends == set(range(49 - stride + 1, 50))


def test_newest_windows_end_at_the_last_places_that_leave_them_the_shortest():
    rng, lengths = np.random.default_rng(0), np.array([3, 6, 9, 30])
    newest = [set() for _ in lengths]
    for _ in range(400):
        users, ends = epoch_plan(lengths, shortest=4, stride=12, rng=rng)
        for user in range(len(lengths)):
            own = ends[users == user]
            newest[user].add(int(own.max()))
            assert (np.diff(own) == -12).all()  # back to back, down to the first target
            assert own.min() <= 12
    assert newest == [{2}, {4, 5}, {4, 5, 6, 7, 8}, set(range(18, 30))]
