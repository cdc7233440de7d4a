"""The same trained model ranked as others rank: under the protocols that they publish under (`persrec.data.named_protocols`).

Differs: the training part is ours. Five-core rows of others are trained without the rare items' few events, as a model of
`log_under` is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from persrec.data.named_protocols import PublishedProtocol, core
from persrec.data.splits import Split
from persrec.evaluation.ranks import target_ranks

Ints = NDArray[np.int64]


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
    kept_items, kept_users = core(data.sequences.offsets, data.sequences.items, num_items=data.num_items, least=protocol.core)
    targets = data.targets("test")
    rows = np.flatnonzero(kept_items[targets] & kept_users[data.test.users])
    ids = np.concatenate([[0], np.flatnonzero(kept_items)])  # padding stays the first
    place = np.zeros(data.num_items, dtype=np.int64)
    place[ids] = np.arange(len(ids))
    at = torch.from_numpy(rows).to(users.device)
    of_items = features[torch.from_numpy(ids).to(features.device)]
    ranks = target_ranks(users[at], of_items, place[targets[rows]], _seen(data, rows, place))
    return ProtocolRanks(rows=rows, ranks=ranks, items=len(ids) - 1)


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
