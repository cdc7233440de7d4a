"""One trained model under published protocols, against ranks written out over the items that a protocol has."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from persrec.data.interactions import InteractionLog
from persrec.data.named_protocols import PUBLISHED_PROTOCOLS
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out
from persrec.evaluation.protocols import ranks_under
from persrec.evaluation.ranks import target_ranks

pytestmark = pytest.mark.usefixtures("one_thread")
RECTOOLS, FIVE_CORE = PUBLISHED_PROTOCOLS


def log_of(sequences, items):
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sequences])])
    flat = np.concatenate(sequences)
    return InteractionLog(
        name="made",
        digest="d",
        items=flat.astype(np.int32),
        times=np.arange(1, len(flat) + 1, dtype=np.int64),
        offsets=offsets.astype(np.int64),
        num_items=items + 1,
        protocol=Protocol(seen_items="excluded"),
        item_texts=None,
        item_categories=None,
    )


@pytest.fixture
def split():
    """Users who take items 1 to 6 in turn; item 7 twice, by users 0 and 3; user 4 has three events."""
    common = [np.roll(np.arange(1, 7), turn) for turn in range(6)]
    common[0] = np.append(common[0], 7)  # its test target is a rare item
    common[3] = np.insert(common[3], 0, 7)
    return leave_one_out(log_of([*common[:4], np.array([1, 2, 3]), *common[4:]], items=7))


def vectors(split, seed=0):
    generator = torch.Generator().manual_seed(seed)
    users = normalize(torch.randn(len(split.test), 4, generator=generator), dim=1)
    return users, normalize(torch.randn(split.num_items, 4, generator=generator), dim=1)


def test_all_items_give_our_own_ranks(split):
    users, features = vectors(split)
    found = ranks_under(RECTOOLS, users, features, split)
    assert found.items == 7
    assert found.ranks.tolist() == target_ranks(users, features, split.targets("test"), split.seen("test")).tolist()


def test_ranks_of_a_core_are_among_its_items_and_of_its_targets(split):
    users, features = vectors(split)
    found = ranks_under(FIVE_CORE, users, features, split)
    assert found.items == 6
    assert found.rows.tolist() == [1, 2, 3, 5, 6]  # user 0's target is rare, user 4 has too few events
    seen_offsets, seen = split.seen("test")
    for row, rank in zip(found.rows, found.ranks, strict=True):
        target, known = split.targets("test")[row], set(seen[seen_offsets[row] : seen_offsets[row + 1]].tolist())
        scores = features @ users[row]
        others = [item for item in range(1, 7) if item != target and item not in known]
        assert rank == 1 + sum(bool(scores[item] > scores[target]) for item in others)


def test_the_protocols_say_what_their_rows_know():
    assert [(one.name, one.core, one.request_time) for one in PUBLISHED_PROTOCOLS] == [("rectools", 1, True), ("5-core", 5, False)]
