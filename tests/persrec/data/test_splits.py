import numpy as np
import pytest

from persrec.data.interactions import InteractionLog
from persrec.data.splits import leave_one_out

HISTORIES = [[4, 5, 6, 7], [1, 2], [3, 3, 1], [2]]  # users of 4, 2, 3 and 1 events


@pytest.fixture
def split(request):
    lengths = [len(history) for history in HISTORIES]
    log = InteractionLog(
        name="x",
        users=np.repeat(np.arange(4), lengths),
        items=np.concatenate([np.array(history) for history in HISTORIES]),
        times=np.arange(10),
        num_users=4,
        num_items=8,
        exclude_seen=getattr(request, "param", True),
        item_texts=None,
        item_categories=None,
        digest="d",
    )
    return leave_one_out(log)


def test_sequences_are_views_of_each_users_events(split):
    assert len(split.sequences) == 4
    assert [items.tolist() for items, _ in split.sequences] == HISTORIES
    items, times = split.sequences[2]
    assert times.tolist() == [6, 7, 8]
    assert np.shares_memory(items, split.sequences.items)
    with pytest.raises(IndexError, match=r"user: 4 leaves 0\.\.3"):
        split.sequences[4]


def test_the_last_item_tests_the_one_before_validates_and_neither_is_trained_on(split):
    assert split.evaluated.tolist() == [0, 2]
    assert split.targets("test").tolist() == [7, 1]
    assert split.targets("validation").tolist() == [6, 3]
    assert split.target_positions("test").tolist() == [3, 2]
    assert split.target_positions("validation").tolist() == [2, 1]
    for user in split.evaluated:
        assert split.train_end(user) == len(HISTORIES[user]) - 2


def test_users_of_fewer_than_three_events_are_trained_on_whole(split):
    assert split.train_ends.tolist() == [2, 2, 1, 1]
    assert [split.train_end(user) for user in range(4)] == [2, 2, 1, 1]


def test_the_test_input_holds_the_validation_item_and_the_validation_input_does_not(split):
    assert [items.tolist() for items, _ in split.past("test")] == [[4, 5, 6], [3, 3]]
    assert [items.tolist() for items, _ in split.past("validation")] == [[4, 5], [3]]
    assert [times.tolist() for _, times in split.past("test")] == [[0, 1, 2], [6, 7]]


def test_seen_is_everything_known_before_the_target(split):
    offsets, items = split.seen("test")
    assert (offsets.tolist(), items.tolist()) == ([0, 3, 5], [4, 5, 6, 3, 3])


@pytest.mark.parametrize("split", [False], indirect=True)
def test_nothing_is_left_out_where_seen_items_are_kept(split):
    assert split.seen("test") is None


def test_popularity_counts_the_training_part_alone(split):
    # trained on: 4 5 | 1 2 | 3 | 2
    assert split.train_counts().tolist() == [0, 1, 2, 1, 1, 1, 0, 0]


def test_an_unknown_part_is_refused(split):
    with pytest.raises(ValueError, match="part: unknown 'train'; known: validation, test"):
        split.targets("train")
