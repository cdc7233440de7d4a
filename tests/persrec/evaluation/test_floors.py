from types import SimpleNamespace

import numpy as np
import pytest

from persrec import names
from persrec.evaluation import floors
from persrec.evaluation.floors import floor_ranks, frequency, popularity, ranks_by, repeat_last

COUNTS = np.array([0, 5, 2, 9, 0])
PAST = (np.array([0, 4, 4]), np.array([2, 4, 2, 1]))  # the second user has no past


def best_first(scores):
    return (np.argsort(-scores[:, 1:], axis=1, kind="stable") + 1).tolist()


def test_popularity_is_the_order_of_the_training_counts_for_everyone():
    assert best_first(popularity(COUNTS, PAST)) == [[3, 1, 2, 4], [3, 1, 2, 4]]


def test_repeat_last_ranks_own_items_from_the_latest_back_then_by_popularity():
    assert best_first(repeat_last(COUNTS, PAST)) == [[1, 2, 4, 3], [3, 1, 2, 4]]


def test_frequency_ranks_own_items_by_their_number_then_by_popularity():
    # 2 twice; 1 and 4 once, 1 is the more popular; then 3
    assert best_first(frequency(COUNTS, PAST)) == [[2, 1, 4, 3], [3, 1, 2, 4]]


@pytest.mark.parametrize("block", [1, 2, 3, 512])
@pytest.mark.parametrize("name", names.floors())
def test_ranks_do_not_depend_on_the_block(name, block):
    random = np.random.Generator(np.random.PCG64(1))
    lengths = random.integers(0, 9, size=7)
    past = (np.concatenate([[0], np.cumsum(lengths)]), random.integers(1, 30, size=lengths.sum()))
    counts, targets = random.integers(0, 99, size=30), random.integers(1, 30, size=7)
    arguments = {"train_counts": counts, "past": past, "targets": targets, "seen": past}
    assert floor_ranks(name, **arguments, block=block).tolist() == floor_ranks(name, **arguments).tolist()


def test_ranks_by_hand():
    targets = np.array([4, 4])
    ranks = {name: floor_ranks(name, train_counts=COUNTS, past=PAST, targets=targets).tolist() for name in names.floors()}
    assert ranks == {"popularity": [4, 4], "repeat_last": [3, 4], "frequency": [3, 4]}


def test_where_seen_items_are_left_out_every_floor_is_popularity_among_the_rest():
    for name in names.floors():
        # of the first user's items only 3 is new
        assert floor_ranks(name, train_counts=COUNTS, past=PAST, targets=np.array([3, 1]), seen=PAST).tolist() == [1, 2]
        # a target that is a repeat, 4, is no better known than the other items: the first user took it, and nobody in training
        assert floor_ranks(name, train_counts=COUNTS, past=PAST, targets=np.array([4, 1]), seen=PAST).tolist() == [2, 2]


def test_where_seen_items_are_left_out_a_floor_is_told_of_every_own_item_but_the_target(monkeypatch):
    told = []

    def scores_of(train_counts, past):
        told.append([part.tolist() for part in past])
        return popularity(train_counts, past)

    part = SimpleNamespace(load=lambda: scores_of)
    monkeypatch.setattr(names, "floors", lambda: {"own": part})
    for seen in (PAST, None):
        floor_ranks("own", train_counts=COUNTS, past=PAST, targets=np.array([2, 1]), seen=seen)
    assert told == [[[0, 2, 2], [4, 1]], [[0, 4, 4], [2, 4, 2, 1]]]


def test_a_large_catalogue_takes_fewer_users_at_once(monkeypatch):
    monkeypatch.setattr(floors, "NUMBERS_AT_ONCE", 7)
    taken = []

    def scores_of(train_counts, past):
        taken.append(len(past[0]) - 1)
        return popularity(train_counts, past)

    ranks_by(scores_of, train_counts=COUNTS, past=PAST, targets=np.array([4, 4]))
    assert taken == [1, 1]


def test_no_users_have_no_ranks():
    nothing = np.zeros(0, dtype=np.int64)
    assert floor_ranks("popularity", train_counts=COUNTS, past=(np.zeros(1, dtype=np.int64), nothing), targets=nothing).tolist() == []


def test_an_unknown_floor_lists_the_known():
    with pytest.raises(ValueError, match="floor: unknown 'pop'; known: popularity, repeat_last, frequency"):
        floor_ranks("pop", train_counts=COUNTS, past=PAST, targets=np.array([1, 1]))
