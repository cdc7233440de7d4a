import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.splits import Sequences, leave_one_out
from persrec.data.windows import StepWindows, WindowShape, build_windows, rank_chances, target_counts, window_plan
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


@given(asked=users_and_ends(), shape=shapes, trim=st.booleans(), history=st.integers(0, 16))
def test_older_items_that_are_left_out_are_as_if_they_had_never_been(asked, shape, trim, history):
    lengths, users, ends = asked
    left_out = np.maximum(0, ends - shape.recent - history)
    sequences = sequences_of(lengths)
    shorter = [sequences[user] for user in users]
    shorter = [(items[start:], times[start:]) for (items, times), start in zip(shorter, left_out, strict=True)]
    offsets = np.concatenate([[0], np.cumsum([len(items) for items, _ in shorter])])
    of_shorter = Sequences(
        offsets=offsets, items=np.concatenate([items for items, _ in shorter]), times=np.concatenate([times for _, times in shorter])
    )
    batch = build_windows(sequences, users, ends, shape, trim=trim, history=history)
    expected = build_windows(of_shorter, np.arange(len(users)), ends - left_out, shape, trim=trim)
    for name in ("items", "times", "targets", "query_times"):
        assert np.array_equal(getattr(batch, name), getattr(expected, name)), name


@given(
    asked=users_and_ends(),
    shape=shapes,
    history=st.none() | st.integers(0, 16),
    predicts=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_targets_are_counted_without_building_the_windows(asked, shape, history, predicts):
    lengths, users, ends = asked
    predicting = np.flatnonzero(predicts[: shape.width])
    batch = build_windows(sequences_of(lengths), users, ends, shape, history=history)
    assert target_counts(ends, shape, predicting, history=history).tolist() == (batch.targets[:, predicting] > 0).sum(axis=1).tolist()


# What a round trains on


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
def test_a_round_carries_every_target_at_most_once_and_leaves_out_less_than_a_window_of_the_newest(lengths, stride, history, seed):
    users, ends = window_plan(np.array(lengths), shortest=stride + history, stride=stride, rng=np.random.default_rng(seed))
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
def test_over_rounds_every_training_target_has_its_turn(lengths, stride, history):
    rng = np.random.default_rng(0)
    carried = Counter()
    for _ in range(60):
        carried += targets_of(*window_plan(np.array(lengths), shortest=stride + history, stride=stride, rng=rng), stride=stride)
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
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=sequences.items,
        times=sequences.times,
        num_items=1000,
        protocol=Protocol(),
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    data = leave_one_out(log)
    stride = shape.width if every_column_predicts else shape.recent
    users, ends = window_plan(data.train_ends, shortest=shape.width, stride=stride, rng=np.random.default_rng(seed))
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
    users, ends = window_plan(np.array([1, 0, 2]), shortest=4, stride=4, rng=np.random.default_rng(0))
    assert (users.tolist(), ends.tolist()) == ([2], [1])


@pytest.mark.parametrize("stride", [1, 3])
def test_the_plan_of_a_long_sequence_moves_from_round_to_round(stride):
    rng = np.random.default_rng(0)
    first_ends = {int(window_plan(np.array([50]), shortest=6, stride=stride, rng=rng)[1][0]) for _ in range(40)}
    assert first_ends == set(range(49 - stride + 1, 50))


def test_newest_windows_end_at_the_last_places_that_leave_them_the_shortest():
    rng, lengths = np.random.default_rng(0), np.array([3, 6, 9, 30])
    newest = [set() for _ in lengths]
    for _ in range(400):
        users, ends = window_plan(lengths, shortest=4, stride=12, rng=rng)
        for user in range(len(lengths)):
            own = ends[users == user]
            newest[user].add(int(own.max()))
            assert (np.diff(own) == -12).all()  # back to back, down to the first target
            assert own.min() <= 12
    assert newest == [{2}, {4, 5}, {4, 5, 6, 7, 8}, set(range(18, 30))]


# What a step trains on


def step_windows(lengths, shape, *, targets_per_step, all_predict=True, **more):
    predicting = np.arange(0 if all_predict else shape.history, shape.width)
    return StepWindows(lengths=np.array(lengths), shape=shape, predicting=predicting, targets_per_step=targets_per_step, **more)


def first_steps(windows, count, *, behind=0):
    return list(itertools.islice(windows.after(behind), count))


steps_of_anything = st.builds(
    step_windows,
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6).map(lambda lengths: [*lengths, 9]),
    shape=shapes,
    targets_per_step=st.integers(1, 30),
    all_predict=st.booleans(),
    moving=st.booleans(),
    seed=st.integers(0, 99),
)


@given(windows=steps_of_anything)
def test_every_step_has_the_targets_of_the_recipe_within_a_window(windows):
    widest = len(windows.predicting)
    for users, ends, history in first_steps(windows, 10):
        counts = target_counts(ends, windows.shape, windows.predicting)
        assert history is None
        assert len(users) == 1 or abs(int(counts.sum()) - windows.targets_per_step) < widest
        assert (ends < windows.lengths[users]).all()
        assert (ends >= 1).all()


@given(lengths=st.lists(st.integers(2, 12), min_size=2, max_size=20), targets_per_step=st.integers(12, 40), seed=st.integers(0, 99))
def test_rounds_leave_no_window_out_and_their_steps_carry_their_number_of_targets(lengths, targets_per_step, seed):
    shape = WindowShape(segments=(8,), recent=4)  # all fit into a window: each user has one, at every round the same
    of_a_round = sum(lengths) - len(lengths)
    steps_after = [rounds * of_a_round // targets_per_step for rounds in range(6)]
    steps = first_steps(step_windows(lengths, shape, targets_per_step=targets_per_step, seed=seed), steps_after[-1])
    for rounds, taken in enumerate(steps_after):
        ends = np.concatenate([np.zeros(0, dtype=int), *(ends for _, ends, _ in steps[:taken])])
        users = np.concatenate([np.zeros(0, dtype=int), *(users for users, _, _ in steps[:taken])])
        assert ends.tolist() == [lengths[user] - 1 for user in users]
        assert 0 <= ends.sum() - taken * targets_per_step < 11
        uses = np.bincount(users, minlength=len(lengths))
        left_over = rounds * of_a_round - ends.sum()
        assert 0 <= left_over < targets_per_step
        assert uses.max() <= rounds  # what is left over is carried, and nothing else is missing
        assert ((rounds - uses) * (np.array(lengths) - 1)).sum() == left_over


def test_a_step_is_cut_and_what_is_left_over_is_carried_as_arithmetic_says():
    shape = WindowShape(segments=(), recent=4)
    # 5 windows of 4 targets, 10 a step: cuts behind 12, 20; then nothing is left over and 20 = 2 * 10
    steps = first_steps(step_windows([5] * 5, shape, targets_per_step=10), 4)
    assert sorted(len(users) for users, _, _ in steps[:2]) == sorted(len(users) for users, _, _ in steps[2:]) == [2, 3]
    # 3 windows of 4 targets, 10 a step: the first round fills one step, behind 12, with 2 too many; the second begins there and ends
    # at 24 behind the step of 12 to 20; the third begins with the window that is left over, and fills those to 32 and 36 but not 40
    steps = first_steps(step_windows([5] * 3, shape, targets_per_step=10), 6)
    assert [len(users) for users, _, _ in steps[:3]] == [3, 2, 3]
    # a step that more than a round fills
    users, _, _ = first_steps(step_windows([5, 5], shape, targets_per_step=20), 1)[0]
    assert sorted(users.tolist()) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_a_step_holds_windows_of_like_length():
    lengths = np.repeat(np.arange(2, 18), 4)  # 4 windows each of 1 to 16 targets, 544 together: 16 steps of 34, one pool
    windows = step_windows(lengths, WindowShape(segments=(), recent=16), targets_per_step=34)
    steps = [ends for _, ends, _ in first_steps(windows, 16)]
    by_length = sorted(steps, key=lambda ends: (ends.min(), ends.max()))
    assert np.concatenate(by_length).tolist() == (np.repeat(np.arange(1, 17), 4)).tolist()
    assert [ends[0] for ends in steps] != [ends[0] for ends in by_length]  # and the steps are shuffled


@given(windows=steps_of_anything, behind=st.integers(0, 8))
def test_the_steps_behind_some_are_those_of_a_run_from_the_start(windows, behind):
    found, expected = first_steps(windows, 5, behind=behind), first_steps(windows, behind + 5)[behind:]
    for one, other in zip(found, expected, strict=True):
        assert [part.tolist() for part in one[:2]] == [part.tolist() for part in other[:2]]


def test_nothing_to_predict_is_bad_input():
    with pytest.raises(ValueError, match="^data: no user has the 2 training items that "):
        step_windows([1, 0], WindowShape(segments=(), recent=4), targets_per_step=10).after(0)


# Histories of several lengths


def test_steps_of_every_length_of_the_history_have_the_same_targets():
    lengths, shape = [40, 30, 25, 9], WindowShape(segments=(6, 4), recent=3)
    windows = step_windows(lengths, shape, targets_per_step=26, histories=(0, 5, 10))
    steps = first_steps(windows, 60)
    assert {history for _, _, history in steps} == {0, 5, 10}
    for _, ends, history in steps:
        counts = target_counts(ends, shape, windows.predicting, history=history)
        assert int(counts.max()) <= 3 + history
        assert abs(int(counts.sum()) - 26) < 3 + history


def test_the_whole_history_alone_is_as_if_no_length_were_given():
    lengths, shape = [40, 30, 25, 9], WindowShape(segments=(6, 4), recent=3)
    for one, other in zip(
        first_steps(step_windows(lengths, shape, targets_per_step=26, histories=(10,)), 20),
        first_steps(step_windows(lengths, shape, targets_per_step=26), 20),
        strict=True,
    ):
        assert [part.tolist() for part in one[:2]] == [part.tolist() for part in other[:2]]


def test_a_longer_history_is_drawn_more_often_by_its_rank():
    assert rank_chances([16]) == [1]
    np.testing.assert_allclose(rank_chances([16, 64, 32, 0]), [0.2, 0.4, 0.3, 0.1])
    windows = step_windows([40, 30, 25, 9], WindowShape(segments=(6, 4), recent=3), targets_per_step=26, histories=(0, 5, 10))
    drawn = [history for _, _, history in first_steps(windows, 600)]
    shares = [drawn.count(history) / 600 for history in (0, 5, 10)]
    np.testing.assert_allclose(shares, [1 / 6, 2 / 6, 3 / 6], atol=0.06)


@pytest.mark.parametrize("history", [-1, 11])
def test_a_length_that_the_layout_does_not_have_is_refused(history):
    with pytest.raises(ValueError, match=f"^history_lengths: {history}; expected 0 to 10, "):
        step_windows([9], WindowShape(segments=(6, 4), recent=3), targets_per_step=26, histories=(0, history))
