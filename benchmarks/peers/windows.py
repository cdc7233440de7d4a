"""The last items before each target in a peer's own numbers, as its models take them. Both interpreters could import it: numpy alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PeerWindows:
    """Left-padded windows, oldest first.

    Attributes:
        items: int64 ``[E, L]``, the peer's numbers, 0 where padded.
        times: int64 ``[E, L + 1]`` seconds; the last is the request's. Padding has the time of the first item.
    """

    items: NDArray[np.int64]
    times: NDArray[np.int64]


def windows_of(past: Mapping[str, NDArray[Any]], ids: NDArray[np.int64], length: int) -> PeerWindows:
    """The last ``length`` items that the peer knows of each user's past.

    Args:
        past: ``offsets`` ``[E + 1]``, ``items`` and ``times`` of all targets end to end, and ``query_times`` ``[E]``.
        ids: ``[V]``, the peer's number of each of our items, 0 for those that it does not know: they are left out before items are counted.
        length: ``L``.
    """
    rows = np.repeat(np.arange(len(past["offsets"]) - 1), np.diff(past["offsets"]))
    peer_ids = ids[past["items"]]
    is_known = peer_ids > 0
    rows, peer_ids, times = rows[is_known], peer_ids[is_known], past["times"][is_known]
    counts = np.bincount(rows, minlength=len(past["query_times"]))
    columns = length - (np.cumsum(counts)[rows] - np.arange(len(rows)))
    fits = columns >= 0
    rows, columns = rows[fits], columns[fits]
    items = np.zeros((len(counts), length), dtype=np.int64)
    items[rows, columns] = peer_ids[fits]
    window_times = np.zeros((len(counts), length + 1), dtype=np.int64)
    window_times[rows, columns] = times[fits]
    window_times[:, length] = past["query_times"]
    padding = length - np.minimum(counts, length)
    first_times = window_times[np.arange(len(counts)), padding]
    return PeerWindows(items=items, times=np.where(np.arange(length + 1) < padding[:, None], first_times[:, None], window_times))
