"""Floors: what needs no training. Each gives scores ``[n, V]`` for `target_ranks_from_scores`, ties by its hash."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from persrec import names
from persrec.evaluation.ranks import Seen, target_ranks_from_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = Callable[[Ints, tuple[Ints, Ints]], Floats]  # of the training counts and of users' pasts

USERS_AT_ONCE = 512
NUMBERS_AT_ONCE = 2**25  # of a block's scores: of a large catalogue fewer users at once


def popularity(train_counts: Ints, past: tuple[Ints, Ints]) -> Floats:
    """Items by how often they occur in the training part of all users, the same for everyone; below 1."""
    n = len(past[0]) - 1
    return np.tile(train_counts / (train_counts.max() + 1), (n, 1))


def repeat_last(train_counts: Ints, past: tuple[Ints, Ints]) -> Floats:
    """The user's own items first, the most recently taken one at the top; after them the others by popularity."""
    offsets, items = past
    scores = popularity(train_counts, past)
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    place = np.arange(len(items)) - offsets[rows] + 1.0  # 1 for the oldest: above any popularity
    np.maximum.at(scores, (rows, items), place)
    return scores


def frequency(train_counts: Ints, past: tuple[Ints, Ints]) -> Floats:
    """The user's own items first, by how often the user took them; ties, and after them the others, by popularity."""
    offsets, items = past
    n, V = len(offsets) - 1, len(train_counts)
    rows = np.repeat(np.arange(n), np.diff(offsets))
    own_counts = np.bincount(rows * V + items, minlength=n * V).reshape(n, V)
    return own_counts + popularity(train_counts, past)


def floor_ranks(
    name: str,
    *,
    train_counts: Ints,
    past: tuple[Ints, Ints],
    targets: Ints,
    seen: Seen | None = None,
    block: int = USERS_AT_ONCE,
) -> Ints:
    """Rank of each target by a floor; arguments and errors as of `ranks_by`, and an unknown name is a ValueError that lists the known."""
    scores_of: Scores = names.find(names.floors(), name).load()
    return ranks_by(scores_of, train_counts=train_counts, past=past, targets=targets, seen=seen, block=block)


def ranks_by(
    scores_of: Scores,
    *,
    train_counts: Ints,
    past: tuple[Ints, Ints],
    targets: Ints,
    seen: Seen | None = None,
    block: int = USERS_AT_ONCE,
) -> Ints:
    """Rank of each target by scores that need no training, a block of users at a time.

    Where seen items are left out of the ranking, a target that is a repeat stays in it, and to put it first among items that the user has
    not had would be to know the answer. So there the scores are not told that the user had the target.

    Args:
        scores_of: gives the scores of some users, as the floors above.
        train_counts: int64 ``[V]``, occurrences in the training part, as `persrec.data.splits.Split.train_counts`.
        past: the users' events before their targets, (offsets ``[n + 1]``, items), oldest first.
        targets: int64 ``[n]``.
        seen: what is left out of each user's ranking, as in `target_ranks`.
        block: users at once, at most.

    Raises:
        ValueError: as `target_ranks`.
    """
    if seen is not None:
        past = _without_targets(past, targets)
    ranks = [np.empty(0, dtype=np.int64)]
    block = max(1, min(block, NUMBERS_AT_ONCE // len(train_counts)))
    for first in range(0, len(targets), block):
        last = min(first + block, len(targets))
        scores = scores_of(train_counts, _slice_users(past, first, last))
        block_seen = None if seen is None else _slice_users(seen, first, last)
        ranks.append(target_ranks_from_scores(scores, targets[first:last], block_seen))
    return np.concatenate(ranks)


def _without_targets(past: tuple[Ints, Ints], targets: Ints) -> tuple[Ints, Ints]:
    """The pasts without the events of each row's own target."""
    offsets, items = np.asarray(past[0]), np.asarray(past[1])
    rows = np.repeat(np.arange(len(targets)), np.diff(offsets))
    stay = items != np.asarray(targets)[rows]
    counts = np.bincount(rows[stay], minlength=len(targets))
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]), items[stay]


def _slice_users(flat: Seen, first: int, last: int) -> tuple[Ints, Ints]:
    offsets, items = np.asarray(flat[0]), np.asarray(flat[1])
    return offsets[first : last + 1] - offsets[first], items[offsets[first] : offsets[last]]
