"""The log of a published protocol, against what its words say written out."""

import numpy as np
import pytest

from persrec import names
from persrec.data.interactions import InteractionLog
from persrec.data.named_protocols import PUBLISHED_PROTOCOLS, core, log_under
from persrec.data.protocol import Protocol


def log_of(sequences, *, items, seen="excluded", texts=True):
    flat = np.concatenate(sequences)
    return InteractionLog(
        name="made",
        digest="d",
        items=flat.astype(np.int32),
        times=np.arange(1, len(flat) + 1, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in sequences])]).astype(np.int64),
        num_items=items + 1,
        protocol=Protocol(seen_items=seen),
        item_texts=("", *(f"item {number}" for number in range(1, items + 1))) if texts else None,
        item_categories=np.arange(items + 1),
        notes={"statistics": {"of": "all events"}, "source": "made"},
    )


@pytest.fixture
def log():
    """Users who take items 2 to 7 in turn; item 1 twice, by users 0 and 3; user 4 has three events."""
    common = [np.roll(np.arange(2, 8), turn) for turn in range(6)]
    common[0] = np.append(common[0], 1)
    common[3] = np.insert(common[3], 0, 1)
    return log_of([*common[:4], np.array([2, 3, 4]), *common[4:]], items=7)


def test_the_core_is_taken_until_all_that_are_left_have_as_many(log):
    items, users = core(log.offsets, log.items, num_items=log.num_items, least=5)
    assert items.tolist() == [False, False, *[True] * 6]
    assert users.tolist() == [True] * 4 + [False] + [True] * 2
    everything = core(log.offsets, log.items, num_items=log.num_items, least=1)
    assert all(everything[0][1:])
    assert all(everything[1])
    assert not core(log.offsets, log.items, num_items=log.num_items, least=8)[0].any()


def test_a_log_of_a_core_holds_its_events_in_order_and_numbers_them_anew(log):
    five = log_under(log, "5-core")
    assert (five.num_users, five.num_items, len(five)) == (6, 7, 36)
    kept_users, row = [0, 1, 2, 3, 5, 6], 0
    for new, old in enumerate(kept_users):
        events = [event for event in range(log.offsets[old], log.offsets[old + 1]) if log.items[event] != 1]
        assert five.items[five.offsets[new] : five.offsets[new + 1]].tolist() == [log.items[event] - 1 for event in events]
        assert five.times[five.offsets[new] : five.offsets[new + 1]].tolist() == [log.times[event] for event in events]
        row += len(events)
    assert row == len(five)
    assert five.item_texts == ("", *(f"item {number}" for number in range(2, 8)))
    assert five.item_categories.tolist() == [0, 2, 3, 4, 5, 6, 7]


def test_a_log_of_a_core_says_what_it_is_and_no_figure_of_the_whole(log):
    five = log_under(log, "5-core")
    assert five.digest == log.digest
    assert five.notes == {"source": "made", "rows": 36, "users": 6, "items": 6, "protocol": "5-core"}


def test_all_events_are_the_log_itself(log):
    assert log_under(log, names.OWN_PROTOCOL) is log
    assert log_under(log, "rectools") is log


def test_what_a_protocol_cannot_take_is_refused_in_a_line(log):
    with pytest.raises(ValueError, match=r"protocol: unknown '5core' \(did you mean '5-core'\?\)"):
        log_under(log, "5core")
    with pytest.raises(ValueError, match="protocol: '5-core' on dataset made, whose seen items stay in the ranking"):
        log_under(log_of([np.array([1, 1, 1])], items=1, seen="kept"), "5-core")
    with pytest.raises(ValueError, match="protocol: '5-core' leaves nothing of the 3 events"):
        log_under(log_of([np.array([1, 2, 3])], items=3), "5-core")


def test_every_name_is_declared_once():
    assert [one.name for one in PUBLISHED_PROTOCOLS] == [name for name in names.PROTOCOLS if name != names.OWN_PROTOCOL]
