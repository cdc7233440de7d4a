"""Protocols that others publish under, by name: the same trained model ranked as they rank, so that a row can stand beside theirs.

Each is leave-one-out over a catalogue whose seen items are left out. They differ in which items are ranked, and in whether the time of
the request is known, which a trained model either reads or not.

- ``rectools``: all items; RecTools' HSTU reads the request's time (RecTools 0.19). On MovieLens-1M 3,706 items.
- ``5-core``: items and users of five events or more, over and over until all have them; the repositories that list it read no time
  (antklen's SASRec, gSASRec). On MovieLens-1M 3,416 items.

Differs: the training part is ours in both. Five-core rows of others are trained without the rare items' few events.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from persrec.data.splits import Split
from persrec.evaluation.ranks import target_ranks

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedProtocol:
    """What a protocol asks for.

    Attributes:
        name: as rows name it.
        core: events that an item and a user need at least; 1 keeps all.
        request_time: whether its rows know the time of the request.
    """

    name: str
    core: int
    request_time: bool


PUBLISHED_PROTOCOLS = (
    PublishedProtocol(name="rectools", core=1, request_time=True),
    PublishedProtocol(name="5-core", core=5, request_time=False),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProtocolRanks:
    """Ranks under a protocol: of which of the test targets, ``[e]``, ``ranks`` ``[e]``, among how many ``items``."""

    rows: Ints
    ranks: Ints
    items: int


def ranks_under(protocol: PublishedProtocol, users: torch.Tensor, features: torch.Tensor, data: Split) -> ProtocolRanks:
    """Ranks of the test targets that a protocol has, among the items that it has.

    What a counting output adds is left aside: it adds to a user's own items alone, and these are left out.

    Args:
        protocol: the protocol.
        users: ``[E, D]`` unit vectors before the test targets.
        features: ``[V, D]`` unit rows.
        data: the split; its seen items are left out.
    """
    kept_items, kept_users = core(data, protocol.core)
    targets = data.targets("test")
    rows = np.flatnonzero(kept_items[targets] & kept_users[data.test.users])
    ids = np.concatenate([[0], np.flatnonzero(kept_items)])  # padding stays the first
    place = np.zeros(data.num_items, dtype=np.int64)
    place[ids] = np.arange(len(ids))
    at = torch.from_numpy(rows).to(users.device)
    of_items = features[torch.from_numpy(ids).to(features.device)]
    ranks = target_ranks(users[at], of_items, place[targets[rows]], _seen(data, rows, place))
    return ProtocolRanks(rows=rows, ranks=ranks, items=len(ids) - 1)


def core(data: Split, least: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which items ``[V]`` and users ``[U]`` have ``least`` events or more among those of each other; padding is no item."""
    items = np.asarray(data.sequences.items)
    users = np.repeat(np.arange(len(data.sequences)), data.sequences.lengths)
    kept_items, kept_users = np.ones(data.num_items, dtype=bool), np.ones(len(data.sequences), dtype=bool)
    kept_items[0] = False
    while least > 1:
        inside = kept_items[items] & kept_users[users]
        of_items = np.bincount(items[inside], minlength=data.num_items) >= least
        of_users = np.bincount(users[inside], minlength=len(kept_users)) >= least
        if np.array_equal(of_items & kept_items, kept_items) and np.array_equal(of_users & kept_users, kept_users):
            break
        kept_items, kept_users = kept_items & of_items, kept_users & of_users
    return kept_items, kept_users


def _seen(data: Split, rows: Ints, place: Ints) -> tuple[Ints, Ints] | None:
    """The seen items of some targets by their new ids; what the protocol has not becomes padding, which does no harm."""
    seen = data.seen("test")
    if seen is None:
        return None
    offsets, items = seen
    counts = np.diff(offsets)[rows]
    new = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    index = np.arange(new[-1]) + np.repeat(offsets[rows] - new[:-1], counts)
    return new, place[items[index]]
