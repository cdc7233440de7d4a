"""HSTU's relative attention bias (arXiv 2402.17152), block by block: by slot distance and by bucketed time difference.

Where pairs are few, their buckets and distances are kept; else nothing is kept per pair. A query's entries by distance lie side by side
in the table, those of the next query one further, so a block is read as one view. Times ascend along a window, so the buckets along a
query's keys come in runs: the end of each run is found once for all layers, and a block's buckets are counted from these ends. Where
times do not ascend, buckets are computed pair by pair, as the definition says.

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
MOST_KEPT_BUCKETS = 1 << 20  # pairs whose buckets are kept: with more, runs are long enough to be worth finding
MOST_KEPT_DISTANCES = 1 << 17  # pairs whose distances are kept for blocks: with more, a view of the table is quicker
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
    for unknown in ((query_times == 0)[:, :, None], (key_times == 0)[:, None, :]):
        if not _is_known_empty(unknown):
            buckets.masked_fill_(unknown, UNKNOWN_TIME)
    return buckets


def _is_known_empty(mask: torch.Tensor) -> bool:
    """Whether no entry is True; asked on the CPU alone, since a GPU would have to wait for the answer and a graph has none."""
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(mask.any())


def _bucket(difference: torch.Tensor) -> torch.Tensor:
    return difference.clamp(min=1).float().log_().div_(BUCKET_WIDTH).clamp_(max=TIME_BUCKETS - 1).to(torch.uint8)


@functools.cache
def bucket_starts() -> tuple[int, ...]:
    """The smallest difference of each bucket, in seconds, by the very function above; found by bisection."""
    buckets = torch.arange(TIME_BUCKETS)
    low, high = torch.zeros(TIME_BUCKETS, dtype=torch.int64), torch.full((TIME_BUCKETS,), LONGEST)
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        large_enough = _bucket(middle).long() >= buckets
        low, high = torch.where(large_enough, low, middle), torch.where(large_enough, middle, high)
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
        key_timed = key_times != 0
        latest = key_times.cummax(dim=1).values
        queries = query_times.shape[1]
        query_timed = query_times != 0
        ascend = ((latest == key_times) | ~key_timed).all() & ((latest[:, prefix : prefix + queries] <= query_times) | ~query_timed).all()
        if not bool(ascend & (query_times >= 0).all() & (key_times >= 0).all()):
            return None
        leading_unknown = (latest == 0).sum(dim=1)[:, None, None]
        oldest = torch.where(key_timed, key_times, LONGEST).amin(dim=1) if key_times.shape[1] else query_times.amax(dim=1)
        count = 1 + int(_bucket((query_times.amax(dim=1) - oldest).clamp(min=0).amax()[None]))
        starts = torch.tensor(bucket_starts()[1:count][::-1], device=key_times.device, dtype=torch.int64)
        time_limits = (query_times[:, :, None] - starts).flatten(1)
        ends = torch.searchsorted(latest.contiguous(), time_limits, right=True).view(*query_times.shape, len(starts))
        ends = torch.cat([leading_unknown.expand(-1, queries, 1), torch.maximum(ends, leading_unknown)], dim=2)
        ends = ends.masked_fill(~query_timed[:, :, None], key_times.shape[1])  # of an unknown query every pair is unknown
        holes = ~key_timed & (latest > 0)
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
        entries = _at_least_float32(torch.cat([interval.new_zeros(1), interval[: self.count].flip(0)])).expand(lengths.shape)
        bias = torch.from_numpy(np.repeat(entries.flatten().numpy(), lengths.flatten().numpy())).to(interval.dtype)
        bias = bias.view(*lengths.shape[:2], keys.stop)
        return bias if self.unknown is None else bias.masked_fill_(self.unknown[users, None, keys], 0)

    def summed(self, slope: torch.Tensor, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """``[K]`` sums of ``[b, r, c]`` by bucket, from bucket 0 on; what is of an unknown time is left out."""
        lengths = self._lengths(users, rows, keys).flatten()
        if self.unknown is not None:
            slope = slope.masked_fill(self.unknown[users, None, keys], 0)
        nonempty_runs = torch.nonzero(lengths).flatten()
        starts = (lengths.cumsum(0) - lengths)[nonempty_runs]
        sums = torch.from_numpy(np.add.reduceat(_at_least_float32(slope).flatten().numpy(), starts.numpy()))
        return torch.bincount(nonempty_runs % (self.count + 1), weights=sums, minlength=self.count + 1)[1:].flip(0)

    def _lengths(self, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """``[b, r, K + 1]`` how many of the block's keys are of each run: of unknown time, then of the buckets ``K - 1``, ..., 0."""
        ends = self.ends[users, rows].clamp(max=keys.stop)
        return torch.diff(ends, dim=2, prepend=ends.new_zeros(*ends.shape[:2], 1), append=ends.new_full((*ends.shape[:2], 1), keys.stop))


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """In a precision that NumPy has, and that sums may be taken in."""
    return tensor.float() if tensor.element_size() < 4 else tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """What a bias depends on: facts of queries and of keys, which are the prefix and, behind it, the queries' own.

    What follows from the facts is computed once for all layers; what only blocks need, when the first of them needs it.

    Attributes:
        query_positions: ``[n]`` slot indices.
        key_positions: ``[m]`` slot indices.
        query_times: ``[B, n]`` seconds, 0 unknown, or None without times.
        key_times: ``[B, m]`` seconds, or None.
        kept_buckets: ``[B, n, m]`` where pairs are few, else None; also None without times and on a GPU, whose kernel computes them
            where it needs them.
    """

    query_positions: torch.Tensor
    key_positions: torch.Tensor
    query_times: torch.Tensor | None
    key_times: torch.Tensor | None
    kept_buckets: torch.Tensor | None

    @classmethod
    def of(
        cls,
        query_positions: torch.Tensor,
        key_positions: torch.Tensor,
        query_times: torch.Tensor | None = None,
        key_times: torch.Tensor | None = None,
    ) -> "Pairs":
        """The pairs of these facts; without the times of either side they have no times."""
        buckets = None
        if query_times is None or key_times is None:
            query_times = key_times = None
        elif key_times.device.type == "cpu" and query_times.numel() * key_times.shape[1] <= MOST_KEPT_BUCKETS:
            buckets = time_buckets(query_times, key_times)
        return cls(
            query_positions=query_positions,
            key_positions=key_positions,
            query_times=query_times,
            key_times=key_times,
            kept_buckets=buckets,
        )

    @functools.cached_property
    def strided(self) -> int:
        """The key from which on positions follow each other by 1, as the queries' positions do; ``m`` where the queries' do not."""
        if len(self.query_positions) > 1 and not bool((self.query_positions.diff() == 1).all()):
            return len(self.key_positions)
        gaps = torch.nonzero(self.key_positions.diff() != 1).flatten()
        return int(gaps[-1]) + 1 if len(gaps) else 0

    @functools.cached_property
    def runs(self) -> TimeRuns | None:
        """The runs of time buckets; None without times, where times do not ascend, where pairs are few, and on a GPU."""
        if self.query_times is None or self.key_times is None or self.key_times.device.type != "cpu" or self.kept_buckets is not None:
            return None
        return TimeRuns.of(self.query_times, self.key_times, prefix=len(self.key_positions) - len(self.query_positions))

    @property
    def has_few_distances(self) -> bool:
        """Whether the distances of all pairs are kept, and looked up pair by pair: fewer calls than a view of the table takes."""
        return len(self.query_positions) * len(self.key_positions) <= MOST_KEPT_DISTANCES

    @functools.cached_property
    def all_distances(self) -> torch.Tensor:
        """``[n, m]`` `distances` of every pair."""
        return (self.query_positions[:, None] - self.key_positions).clamp_(min=0).int()

    @functools.cached_property
    def bucket_places(self) -> torch.Tensor | None:
        """``[B, n, m]`` int32, the place of every pair in a table by buckets, or None without times."""
        buckets = self.buckets(slice(None), slice(None), slice(None))
        return None if buckets is None else buckets.int()

    def distances(self, rows: slice, keys: slice) -> torch.Tensor:
        """``[r, c]`` int32 slots from key to query, 0 where the key lies later."""
        if self.has_few_distances:
            return self.all_distances[rows, keys]
        return (self.query_positions[rows, None] - self.key_positions[keys]).clamp_(min=0).int()

    def buckets(self, users: slice, rows: slice, keys: slice) -> torch.Tensor | None:
        """``[b, r, c]`` uint8 by the definition, or None without times."""
        if self.kept_buckets is not None:
            return self.kept_buckets[users, rows, keys]
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
        """``[B or 1, n, m]`` by the definition, pair by pair: the reference for blocks."""
        whole = slice(None)
        distances = (self.pairs.query_positions[:, None] - self.pairs.key_positions).clamp(min=0)
        distance_bias = self.distance[distances][None]
        buckets = self.pairs.buckets(whole, whole, whole)
        if self.interval is None or buckets is None:
            return distance_bias
        return self.interval[buckets.long()] + distance_bias

    def looked_up(self) -> torch.Tensor:
        """As `dense`, for few pairs: their places in the tables are found once for all layers."""
        distance_bias = _entries(self.distance, self.pairs.all_distances)[None]
        if self.interval is None or self.pairs.bucket_places is None:
            return distance_bias
        return _entries(self.interval, self.pairs.bucket_places).add_(distance_bias)

    def block(self, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        """The bias of some users' query rows against the first keys, ``[b or 1, r, c]``; gradients are `TableGradients`' to sum."""
        distance_bias = self._distance_bias(rows, keys)[None]
        if self.interval is None or self.pairs.key_times is None:
            return distance_bias
        return self._time_bias(self.interval, users, rows, keys).add_(distance_bias)

    def _distance_bias(self, rows: slice, keys: slice) -> torch.Tensor:
        if self.pairs.has_few_distances:
            return _entries(self.distance, self.pairs.distances(rows, keys))
        first_strided = min(self.pairs.strided, keys.stop)
        irregular = _entries(self.distance, self.pairs.distances(rows, slice(0, first_strided)))
        if first_strided == keys.stop:
            return irregular
        band = _band(self.distance, self._offset(rows, first_strided), rows.stop - rows.start, keys.stop - first_strided)
        return torch.cat([irregular, band], dim=1) if first_strided else band

    def _offset(self, rows: slice, first_strided: int) -> int:
        """Distance of the block's last row from its first key whose positions follow each other."""
        return int(self.pairs.query_positions[rows.stop - 1] - self.pairs.key_positions[first_strided])

    def _time_bias(self, interval: torch.Tensor, users: slice, rows: slice, keys: slice) -> torch.Tensor:
        runs = self.pairs.runs
        if runs is None:
            buckets = self.pairs.buckets(users, rows, keys)
            assert buckets is not None  # noqa: S101 - there are times
            return _entries(interval, buckets.int())
        return runs.spread(interval, users, rows, keys)


def _band(distance: torch.Tensor, offset: int, rows: int, keys: int) -> torch.Tensor:
    """``[rows, keys]`` of a table, where the last row's first key is ``offset`` slots away and a key further or a row up is one nearer."""
    padding = max(0, keys - 1 - offset + rows)  # for keys behind their query, whose entry nobody looks at
    flipped = F.pad(distance[: offset + 1].flip(0), (0, padding))
    row_order = torch.arange(rows - 1, -1, -1, device=distance.device)
    return flipped.as_strided((rows, keys), (1, 1)).index_select(0, row_order)  # a flip would lay columns side by side


def _entries(table: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
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

    def _add_by_time(self, grad: torch.Tensor, slope: torch.Tensor, users: slice, rows: slice, keys: slice) -> None:
        assert self._bias is not None  # noqa: S101 - there is one where there are tables
        runs = self._bias.pairs.runs
        if runs is None:
            buckets = self._bias.pairs.buckets(users, rows, keys)
            assert buckets is not None  # noqa: S101 - there are times
            grad += torch.bincount(buckets.flatten(), weights=slope.flatten(), minlength=len(grad)).to(grad.dtype)
            return
        grad[: runs.count] += runs.summed(slope, users, rows, keys).to(grad.dtype)

    def _add_by_distance(self, grad: torch.Tensor, slope: torch.Tensor, rows: slice, keys: slice) -> None:
        assert self._bias is not None  # noqa: S101 - as above
        pairs, first_strided = self._bias.pairs, min(self._bias.pairs.strided, keys.stop)
        if first_strided:
            grad.index_add_(0, pairs.distances(rows, slice(0, first_strided)).flatten(), slope[:, :first_strided].flatten().to(grad.dtype))
        if first_strided < keys.stop:
            offset = self._bias._offset(rows, first_strided)
            sums = _band_sums(slope[:, first_strided:])[: offset + 1]
            grad[offset + 1 - len(sums) : offset + 1] += sums.flip(0).to(grad.dtype)


def _band_sums(slope: torch.Tensor) -> torch.Tensor:
    """``[r + c - 1]`` sums of ``[r, c]`` along the lines of equal distance, the most distant first."""
    rows, keys = slope.shape
    width = rows + keys
    skewed = slope.new_zeros(rows, width)
    skewed.as_strided((rows, keys), (width + 1, 1)).copy_(slope.flip(0))
    return skewed.sum(0)[: width - 1]
