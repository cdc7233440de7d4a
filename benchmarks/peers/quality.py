"""Ranking quality of a peer's cell: its vectors, our ranks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cell import Cell
from benchmarks.probes.quality import quality_of_ranks, under_protocols
from persrec.data.splits import Split
from persrec.evaluation.ranks import target_ranks


def measure_peer(cell: Cell, vectors: Mapping[str, Tensor], data: Split) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """What `quality_of_ranks` says of a trained peer, also under published protocols, and the ranks of the test targets.

    Args:
        cell: the peer's.
        vectors: of `benchmarks.peers.training.PeerVectors`.
        data: the split that it was trained on.
    """
    ranks = target_ranks(vectors["test"], vectors["items"], data.targets("test"), data.seen("test"))
    quality = quality_of_ranks(ranks, data)
    quality["protocols"] = under_protocols(
        vectors["test"], vectors["items"], data, request_time=cell.time_bias, trained_under=cell.protocol
    )
    return quality, ranks
