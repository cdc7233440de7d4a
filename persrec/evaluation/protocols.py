"""The same trained model ranked as others rank: under the protocols that they publish under (`persrec.data.named_protocols`).

Differs: the training part is ours. Others train their five-core rows without the few events of rare items, as a model of
`log_under` is trained.
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
    """Ranks under a protocol: ``rows`` ``[e]``, which of the test targets; ``ranks`` ``[e]``, theirs; ``items``, how many are ranked."""

    rows: Ints
    ranks: Ints
    items: int


def ranks_under(protocol: PublishedProtocol, users: torch.Tensor, features: torch.Tensor, data: Split) -> ProtocolRanks:
    """Ranks of the test targets that a protocol has, among the items that it has.

    Args:
        protocol: the protocol.
        users: ``[E, D]`` unit vectors before the test targets.
        features: ``[V, D]`` unit rows.
        data: the split; its seen items are left out, but for the target.
    """
    is_core_item, is_core_user = core(data.sequences.offsets, data.sequences.items, num_items=data.num_items, least=protocol.core)
    targets = data.targets("test")
    rows = np.flatnonzero(is_core_item[targets] & is_core_user[data.test.users])
    ids = np.concatenate([[0], np.flatnonzero(is_core_item)])  # padding stays the first
    new_ids = np.zeros(data.num_items, dtype=np.int64)
    new_ids[ids] = np.arange(len(ids))
    row_index = torch.from_numpy(rows).to(users.device)
    core_features = features[torch.from_numpy(ids).to(features.device)]
    ranks = target_ranks(users[row_index], core_features, new_ids[targets[rows]], _seen_items(data, rows, new_ids))
    return ProtocolRanks(rows=rows, ranks=ranks, items=len(ids) - 1)


def _seen_items(data: Split, rows: Ints, new_ids: Ints) -> tuple[Ints, Ints] | None:
    """The seen items of some targets by their new ids; an item that the protocol does not have becomes padding, which does no harm."""
    seen = data.seen("test")
    if seen is None:
        return None
    offsets, items = seen
    counts = np.diff(offsets)[rows]
    new_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    index = np.arange(new_offsets[-1]) + np.repeat(offsets[rows] - new_offsets[:-1], counts)
    return new_offsets, new_ids[items[index]]
