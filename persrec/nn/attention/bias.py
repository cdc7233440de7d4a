"""HSTU's relative attention bias (arXiv 2402.17152), block by block: by slot distance and by bucketed time difference.

Nothing is kept per pair, but of few pairs their buckets. A table's entries by distance lie in a row of it, one further for each query,
so a block is read as one view. Times ascend along a window, so along a query's keys its buckets come in runs: where each run ends is
found once for all layers, and a block's buckets are counted from these ends. Where times do not ascend, buckets are computed pair by
pair, as the definition says.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys
              r rows of a block   c keys of a block   b users of a block
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

TIME_BUCKETS = 128
UNKNOWN_TIME = TIME_BUCKETS
BUCKET_WIDTH = 0.301
FEW = 1 << 20  # pairs whose buckets are kept, a byte each: runs are too short there to be worth finding
LONGEST = 2**61  # seconds; a longer difference is in the last bucket, as this is


def time_buckets(query_times: torch.Tensor, key_times: torch.Tensor) -> torch.Tensor:
    """``floor(log(max(1, |difference|)) / 0.301)``, or `UNKNOWN_TIME` where either time is 0 (arXiv 2402.17152).

    Args:
        query_times: ``[B, n]`` seconds.
        key_times: ``[B, m]`` seconds.

    Returns:
        ``[B, n, m]`` uint8.
    """
    buckets = _bucket((query_times[:, :, None] - key_times[:, None, :]).abs_())
    unknown = (query_times == 0)[:, :, None] | (key_times == 0)[:, None, :]
    return buckets.masked_fill_(unknown, UNKNOWN_TIME)


def _bucket(difference: torch.Tensor) -> torch.Tensor:
    return difference.clamp(min=1).float().log_().div_(BUCKET_WIDTH).clamp_(max=TIME_BUCKETS - 1).to(torch.uint8)


@functools.cache
def bucket_starts() -> tuple[int, ...]:
    """The smallest difference of each bucket, in seconds, by the very function above; found by bisection."""
    wanted = torch.arange(TIME_BUCKETS)
    low, high = torch.zeros(TIME_BUCKETS, dtype=torch.int64), torch.full((TIME_BUCKETS,), LONGEST)
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        reached = _bucket(middle).long() >= wanted
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return (0, *high[1:].tolist())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimeRuns:
    """Where the runs of one bucket end along each query's keys, whose times ascend.

    Attributes:
        ends: ``[B, n, K + 1]`` int64, ascending: the number of keys before each run, the first the number of leading keys of unknown
            time. Before it a pair's time is unknown; behind it come the buckets ``K - 1``, ..., 0.
        unknown: ``[B, m]``, keys of unknown time behind known ones; None where there are none.
    """

    ends: torch.Tensor
    unknown: torch.Tensor | None

    @classmethod
    def of(cls, query_times: torch.Tensor, key_times: torch.Tensor, *, prefix: int) -> "TimeRuns | None":
        """The runs; None where a key's time lies before an earlier key's, or behind that of a query that sees it, or before 1970."""
        known = key_times != 0
        latest = key_times.cummax(dim=1).values
        queries = query_times.shape[1]
        asked = query_times != 0
        ascend = ((latest == key_times) | ~known).all() & ((latest[:, prefix : prefix + queries] <= query_times) | ~asked).all()
        if not bool(ascend & (query_times >= 0).all() & (key_times >= 0).all()):
            return None
        first = (latest == 0).sum(dim=1)[:, None, None]
        oldest = torch.where(known, key_times, LONGEST).amin(dim=1) if key_times.shape[1] else query_times.amax(dim=1)
        count = 1 + int(_bucket((query_times.amax(dim=1) - oldest).clamp(min=0).amax()[None]))
        starts = torch.tensor(bucket_starts()[1:count][::-1], device=key_times.device, dtype=torch.int64)
        before = (query_times[:, :, None] - starts).flatten(1)
        ends = torch.searchsorted(latest.contiguous(), before, right=True).view(*query_times.shape, len(starts))
        ends = torch.cat([first.expand(-1, queries, 1), torch.maximum(ends, first)], dim=2)
        ends = ends.masked_fill(~asked[:, :, None], key_times.shape[1])  # of an unknown query every pair is unknown
        holes = ~known & (latest > 0)
        return cls(ends=ends, unknown=holes if bool(holes.any()) else None)

    @property
    def count(self) -> int:
        """``K``: buckets that there are."""
        return self.ends.shape[2]

    def spread(self, interval: torch.Tensor, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """``[b, r, c]`` a table's entry for each pair; the block's keys begin with the first.

        NumPy copies an entry along its run at the speed of memory; torch would look up every pair.
        """
        lengths = self._lengths(users, rows, keys)
        entries = _wide(torch.cat([interval.new_zeros(1), interval[: self.count].flip(0)])).expand(lengths.shape)
        spread = torch.from_numpy(np.repeat(entries.flatten().numpy(), lengths.flatten().numpy())).to(interval.dtype)
        spread = spread.view(*lengths.shape[:2], keys.stop)
        return spread if self.unknown is None else spread.masked_fill_(self.unknown[users, None, keys], 0)

    def summed(self, slope: torch.Tensor, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """``[K]`` sums of ``[b, r, c]`` by bucket, from bucket 0 on; what is of an unknown time is left out."""
        lengths = self._lengths(users, rows, keys).flatten()
        if self.unknown is not None:
            slope = slope.masked_fill(self.unknown[users, None, keys], 0)
        filled = torch.nonzero(lengths).flatten()
        starts = (lengths.cumsum(0) - lengths)[filled]
        sums = torch.from_numpy(np.add.reduceat(_wide(slope).flatten().numpy(), starts.numpy()))
        return torch.bincount(filled % (self.count + 1), weights=sums, minlength=self.count + 1)[1:].flip(0)

    def _lengths(self, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """``[b, r, K + 1]`` how many of the block's keys are of each run: of unknown time, then of the buckets ``K - 1``, ..., 0."""
        ends = self.ends[users, rows].clamp(max=keys.stop)
        return torch.diff(ends, dim=2, prepend=ends.new_zeros(*ends.shape[:2], 1), append=ends.new_full((*ends.shape[:2], 1), keys.stop))


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """In a precision that NumPy has, and that sums may be taken in."""
    return tensor.float() if tensor.element_size() < 4 else tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """What a bias depends on: facts of queries and of keys, which are the prefix and, behind it, the queries' own.

    What follows from the facts is found once for all layers; what only blocks ask for, when they do.

    Attributes:
        query_positions: ``[n]`` slot indices.
        key_positions: ``[m]`` slot indices.
        query_times: ``[B, n]`` seconds, 0 unknown, or None without times.
        key_times: ``[B, m]`` seconds, or None.
        few: of few pairs, their buckets ``[B, n, m]``; None without times and on a GPU, whose kernel computes them where it needs them.
    """

    query_positions: torch.Tensor
    key_positions: torch.Tensor
    query_times: torch.Tensor | None
    key_times: torch.Tensor | None
    few: torch.Tensor | None

    @classmethod
    def of(
        cls,
        query_positions: torch.Tensor,
        key_positions: torch.Tensor,
        query_times: torch.Tensor | None = None,
        key_times: torch.Tensor | None = None,
    ) -> "Pairs":
        """Of these facts; without the times of either side there are none."""
        few = None
        if query_times is None or key_times is None:
            query_times = key_times = None
        elif key_times.device.type == "cpu" and query_times.numel() * key_times.shape[1] <= FEW:
            few = time_buckets(query_times, key_times)
        return cls(query_positions=query_positions, key_positions=key_positions, query_times=query_times, key_times=key_times, few=few)

    @functools.cached_property
    def strided(self) -> int:
        """From which key on positions follow each other by 1, as those of the queries do; ``m`` where they do not."""
        if len(self.query_positions) > 1 and not bool((self.query_positions.diff() == 1).all()):
            return len(self.key_positions)
        gaps = torch.nonzero(self.key_positions.diff() != 1).flatten()
        return int(gaps[-1]) + 1 if len(gaps) else 0

    @functools.cached_property
    def runs(self) -> TimeRuns | None:
        """Of time buckets; None without times, where these do not ascend, of few pairs, and on a GPU."""
        if self.query_times is None or self.key_times is None or self.key_times.device.type != "cpu" or self.few is not None:
            return None
        return TimeRuns.of(self.query_times, self.key_times, prefix=len(self.key_positions) - len(self.query_positions))

    def distances(self, rows: slice, keys: slice) -> torch.Tensor:
        """``[r, c]`` int32 slots from key to query, 0 where the key lies later."""
        return (self.query_positions[rows, None] - self.key_positions[keys]).clamp_(min=0).int()

    def buckets(self, users: slice, rows: slice, keys: slice) -> torch.Tensor | None:
        """``[b, r, c]`` uint8 by the definition, or None without times."""
        if self.few is not None:
            return self.few[users, rows, keys]
        if self.query_times is None or self.key_times is None:
            return None
        return time_buckets(self.query_times[users, rows], self.key_times[users, keys])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bias:
    """Relative attention bias of one layer, shared by its heads.

    Attributes:
        distance: ``[N]`` by the distance of slots.
        interval: ``[buckets + 1]`` by bucketed time difference, the last entry for an unknown time and 0; or None.
        pairs: what the entries are chosen by.
    """

    distance: torch.Tensor
    interval: torch.Tensor | None
    pairs: Pairs

    def dense(self) -> torch.Tensor:
        """``[B or 1, n, m]`` by the definition, pair by pair: what blocks are held against."""
        everything = slice(None)
        by_distance = self.distance[self.pairs.distances(everything, everything).long()][None]
        buckets = self.pairs.buckets(everything, everything, everything)
        if self.interval is None or buckets is None:
            return by_distance
        return self.interval[buckets.long()] + by_distance

    def block(self, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """The bias of some users' query rows against the first keys, ``[b or 1, r, c]``; gradients are `TableGradients`' to sum."""
        by_distance = self._by_distance(rows, keys)[None]
        if self.interval is None or self.pairs.key_times is None:
            return by_distance
        return self._by_time(self.interval, users, rows, keys).add_(by_distance)

    def _by_distance(self, rows: slice, keys: slice) -> torch.Tensor:
        strided = min(self.pairs.strided, keys.stop)
        far = _taken(self.distance, self.pairs.distances(rows, slice(0, strided)))
        if strided == keys.stop:
            return far
        own = _band(self.distance, self._offset(rows, strided), rows.stop - rows.start, keys.stop - strided)
        return torch.cat([far, own], dim=1) if strided else own

    def _offset(self, rows: slice, strided: int) -> int:
        """Distance of the block's last row from its first key whose positions follow each other."""
        return int(self.pairs.query_positions[rows.stop - 1] - self.pairs.key_positions[strided])

    def _by_time(self, interval: torch.Tensor, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        runs = self.pairs.runs
        if runs is None:
            buckets = self.pairs.buckets(users, rows, keys)
            assert buckets is not None  # noqa: S101 - there are times
            return _taken(interval, buckets.int())
        return runs.spread(interval, users, rows, keys)


def _band(distance: torch.Tensor, offset: int, rows: int, keys: int) -> torch.Tensor:
    """``[rows, keys]`` of a table, where the last row's first key is ``offset`` slots away and a key further or a row up is one nearer."""
    ahead = max(0, keys - 1 - offset + rows)  # keys behind their query, whose entry nobody looks at
    backwards = F.pad(distance[: offset + 1].flip(0), (0, ahead))
    upwards = torch.arange(rows - 1, -1, -1, device=distance.device)
    return backwards.as_strided((rows, keys), (1, 1)).index_select(0, upwards)  # a flip would lay columns side by side


def _taken(table: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Entries of a table ``[n]``, shaped as ``indices``; on a CPU several times faster than indexing."""
    return table.index_select(0, indices.flatten()).view(indices.shape)


class TableGradients:
    """Sums the scores' gradients into the bias tables."""

    def __init__(self, bias: Bias | None) -> None:
        """Of no block yet."""
        self._bias = bias
        self.distance = None if bias is None else torch.zeros_like(bias.distance)
        self.interval = None if bias is None or bias.interval is None else torch.zeros_like(bias.interval)

    def add(self, slope: torch.Tensor, users: slice, rows: slice, keys: slice) -> None:
        """Adds those of a block, ``[b, H, r, c]``, 0 where a key is not seen."""
        if self._bias is None or self.distance is None:
            return
        per_user = slope.sum(1)
        if self.interval is not None:
            self._add_by_time(self.interval, per_user, users, rows, keys)
        self._add_by_distance(self.distance, per_user.sum(0), rows, keys)

    def _add_by_time(self, into: torch.Tensor, slope: torch.Tensor, users: slice, rows: slice, keys: slice) -> None:
        assert self._bias is not None  # noqa: S101 - there is one where there are tables
        runs = self._bias.pairs.runs
        if runs is None:
            buckets = self._bias.pairs.buckets(users, rows, keys)
            assert buckets is not None  # noqa: S101 - there are times
            into += torch.bincount(buckets.flatten(), weights=slope.flatten(), minlength=len(into)).to(into.dtype)
            return
        into[: runs.count] += runs.summed(slope, users, rows, keys).to(into.dtype)

    def _add_by_distance(self, into: torch.Tensor, slope: torch.Tensor, rows: slice, keys: slice) -> None:
        assert self._bias is not None  # noqa: S101 - as above
        pairs, strided = self._bias.pairs, min(self._bias.pairs.strided, keys.stop)
        if strided:
            into.index_add_(0, pairs.distances(rows, slice(0, strided)).flatten(), slope[:, :strided].flatten().to(into.dtype))
        if strided < keys.stop:
            offset = self._bias._offset(rows, strided)
            sums = _band_sums(slope[:, strided:])[: offset + 1]
            into[offset + 1 - len(sums) : offset + 1] += sums.flip(0).to(into.dtype)


def _band_sums(slope: torch.Tensor) -> torch.Tensor:
    """``[r + c - 1]`` sums of ``[r, c]`` along the lines of equal distance, the most distant first."""
    rows, keys = slope.shape
    width = rows + keys
    skewed = slope.new_zeros(rows, width)
    skewed.as_strided((rows, keys), (width + 1, 1)).copy_(slope.flip(0))
    return skewed.sum(0)[: width - 1]
