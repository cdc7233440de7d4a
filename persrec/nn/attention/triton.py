"""HSTU's pointwise attention of one segment as Triton kernels, over tiles that hold a visible pair alone.

Forward, and a backward pass that computes the scores again: a kernel by tiles of queries (gradients of q), one by tiles of keys
(of k and v), one by pairs of tiles (of the bias tables: summed over heads and users before anything is written). The distance and
the bucket of a pair are computed where they are used; nothing per pair is in memory. Sums are float32 whatever the inputs are. Under
``TRITON_INTERPRET=1`` the same kernels run on a CPU, slowly.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys
              d, e widths of a head's keys and values   G = B * H users' heads, users first   [ROWS, KEYS] a tile   D, E widths rounded up
"""

import functools
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
import triton
import triton.language as tl

from persrec.nn.attention.bias import BUCKET_WIDTH, TIME_BUCKETS, UNKNOWN_TIME, Bias, bucket_starts
from persrec.nn.attention.visible import first_query, keys_seen, sees

ROWS = 64
KEYS = 64
NARROW_BYTES = 256  # of a head: tiles of wider ones are half as high and wide, so that they fit a processor's memory
LEAST_WIDTH = 16  # of a product's inner side
TABLE_PROGRAMS = 1024  # about as many share out the tables' gradients: enough for every GPU's processors
LAUNCH = {"num_warps": 4, "num_stages": 2}
WIDTH, LAST, UNKNOWN = (tl.constexpr(number) for number in (BUCKET_WIDTH, TIME_BUCKETS - 1, UNKNOWN_TIME))

# the same code with this file's names around it: the interpreter looks for ``tl`` among them
_sees, _keys_seen, _first_query = (
    triton.jit(FunctionType(rule.__code__, globals(), rule.__name__)) for rule in (sees, keys_seen, first_query)
)


@triton.jit
def _tile(base, rows, columns, height, width):
    """A tile of a contiguous ``[height, width]``, 0 outside."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(base + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _put(base, rows, columns, height, width, values):
    """Stores a tile of a contiguous ``[height, width]``."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    tl.store(base + rows[:, None] * width + columns[None, :], values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def _visible(rows, keys, n, m, p):
    """Which pairs of a tile are visible."""
    return _sees(rows[:, None], keys[None, :], p) & (rows < n)[:, None] & (keys < m)[None, :]


@triton.jit
def _distances(query_positions, key_positions, rows, keys, n, m):
    """Slots from key to query of a tile, 0 where the key lies later."""
    query_slots, key_slots = tl.load(query_positions + rows, mask=rows < n, other=0), tl.load(key_positions + keys, mask=keys < m, other=0)
    return tl.maximum(query_slots[:, None] - key_slots[None, :], 0)


@triton.jit
def _buckets(query_times, key_times, starts, user, rows, keys, n, m):
    """Buckets of a tile's time differences: a logarithm's guess, made exact by where the buckets start."""
    query_seconds = tl.load(query_times + user * n + rows, mask=rows < n, other=0)
    key_seconds = tl.load(key_times + user * m + keys, mask=keys < m, other=0)
    gap = tl.abs(query_seconds[:, None] - key_seconds[None, :])
    guess = tl.minimum((tl.log(tl.maximum(gap, 1).to(tl.float32)) / WIDTH).to(tl.int32), LAST)
    guess -= (gap < tl.load(starts + guess)).to(tl.int32)
    guess += (gap >= tl.load(starts + guess + 1)).to(tl.int32)
    return tl.where((query_seconds == 0)[:, None] | (key_seconds == 0)[None, :], UNKNOWN, guess)


@triton.jit
def _scores(
    q, k, visible, user, rows, keys, distance, query_positions, key_positions, interval, query_times, key_times, starts, n, m,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """``q k^T + bias`` of a tile."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    if distance is not None:
        entries = _distances(query_positions, key_positions, rows, keys, n, m)
        scores += tl.load(distance + entries, mask=visible, other=0.0).to(tl.float32)
    if interval is not None:
        entries = _buckets(query_times, key_times, starts, user, rows, keys, n, m)
        scores += tl.load(interval + entries, mask=visible, other=0.0).to(tl.float32)
    return scores


@triton.jit
def _slope(scores, visible, grad, v, PRECISION: tl.constexpr):
    """The weights of a tile, and the gradient of its scores."""
    gate = tl.sigmoid(scores)
    weights = tl.where(visible, scores * gate, 0.0)
    # d silu(s) / ds = sigmoid(s) + silu(s) (1 - sigmoid(s))
    slope = tl.dot(grad, tl.trans(v), input_precision=PRECISION) * (gate + weights * (1.0 - gate))
    return weights, tl.where(visible, slope, 0.0)


@triton.jit
def _forward(
    q, k, v, out, distance, query_positions, key_positions, interval, query_times, key_times, starts, heads, n, m, p, d, e,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each tile of queries of a user's head."""
    group, first_row = tl.program_id(0).to(tl.int64), tl.program_id(1) * ROWS
    rows, d_columns, e_columns = first_row + tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, E)
    queries = _tile(q + group * n * d, rows, d_columns, n, d)
    total = tl.zeros([ROWS, E], dtype=tl.float32)
    for first_key in range(0, tl.minimum(_keys_seen(first_row + ROWS - 1, p), m), KEYS):
        keys = first_key + tl.arange(0, KEYS)
        key_tile, values = _tile(k + group * m * d, keys, d_columns, m, d), _tile(v + group * m * e, keys, e_columns, m, e)
        visible = _visible(rows, keys, n, m, p)
        scores = _scores(
            queries, key_tile, visible, group // heads, rows, keys,
            distance, query_positions, key_positions, interval, query_times, key_times, starts, n, m, PRECISION,
        )  # fmt: skip
        weights = tl.where(visible, scores * tl.sigmoid(scores), 0.0)
        total += tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    _put(out + group * n * e, rows, e_columns, n, e, total)


@triton.jit
def _backward_queries(
    q, k, v, grad, grad_q, distance, query_positions, key_positions, interval, query_times, key_times, starts, heads, n, m, p, d, e,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each tile of queries of a user's head."""
    group, first_row = tl.program_id(0).to(tl.int64), tl.program_id(1) * ROWS
    rows, d_columns, e_columns = first_row + tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, E)
    queries, grad_tile = _tile(q + group * n * d, rows, d_columns, n, d), _tile(grad + group * n * e, rows, e_columns, n, e)
    total = tl.zeros([ROWS, D], dtype=tl.float32)
    for first_key in range(0, tl.minimum(_keys_seen(first_row + ROWS - 1, p), m), KEYS):
        keys = first_key + tl.arange(0, KEYS)
        key_tile, values = _tile(k + group * m * d, keys, d_columns, m, d), _tile(v + group * m * e, keys, e_columns, m, e)
        visible = _visible(rows, keys, n, m, p)
        scores = _scores(
            queries, key_tile, visible, group // heads, rows, keys,
            distance, query_positions, key_positions, interval, query_times, key_times, starts, n, m, PRECISION,
        )  # fmt: skip
        _, slope = _slope(scores, visible, grad_tile, values, PRECISION)
        total += tl.dot(slope.to(key_tile.dtype), key_tile, input_precision=PRECISION)
    _put(grad_q + group * n * d, rows, d_columns, n, d, total)


@triton.jit
def _backward_keys(
    q, k, v, grad, grad_k, grad_v, distance, query_positions, key_positions, interval, query_times, key_times, starts, heads, n, m, p, d, e,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each tile of keys of a user's head; rows before the first that sees one of them are left out."""
    group, first_key = tl.program_id(0).to(tl.int64), tl.program_id(1) * KEYS
    keys, d_columns, e_columns = first_key + tl.arange(0, KEYS), tl.arange(0, D), tl.arange(0, E)
    key_tile, values = _tile(k + group * m * d, keys, d_columns, m, d), _tile(v + group * m * e, keys, e_columns, m, e)
    total_k, total_v = tl.zeros([KEYS, D], dtype=tl.float32), tl.zeros([KEYS, E], dtype=tl.float32)
    for first_row in range(tl.maximum(_first_query(first_key, p), 0) // ROWS * ROWS, n, ROWS):
        rows = first_row + tl.arange(0, ROWS)
        queries, grad_tile = _tile(q + group * n * d, rows, d_columns, n, d), _tile(grad + group * n * e, rows, e_columns, n, e)
        visible = _visible(rows, keys, n, m, p)
        scores = _scores(
            queries, key_tile, visible, group // heads, rows, keys,
            distance, query_positions, key_positions, interval, query_times, key_times, starts, n, m, PRECISION,
        )  # fmt: skip
        weights, slope = _slope(scores, visible, grad_tile, values, PRECISION)
        total_v += tl.dot(tl.trans(weights).to(grad_tile.dtype), grad_tile, input_precision=PRECISION)
        total_k += tl.dot(tl.trans(slope).to(queries.dtype), queries, input_precision=PRECISION)
    _put(grad_k + group * m * d, keys, d_columns, m, d, total_k)
    _put(grad_v + group * m * e, keys, e_columns, m, e, total_v)


@triton.jit
def _backward_tables(
    q, k, v, grad, grad_distance, grad_interval, distance, query_positions, key_positions, interval, query_times, key_times, starts,
    users, heads, n, m, p, d, e, entries,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, E: tl.constexpr, PRECISION: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """One program for each tile and each share of the users."""
    first_row, first_key = tl.program_id(0) * ROWS, tl.program_id(1) * KEYS
    rows, keys = first_row + tl.arange(0, ROWS), first_key + tl.arange(0, KEYS)
    d_columns, e_columns, table = tl.arange(0, D), tl.arange(0, E), tl.arange(0, ENTRIES)
    visible = _visible(rows, keys, n, m, p)
    total, by_entry = tl.zeros([ROWS, KEYS], dtype=tl.float32), tl.zeros([ENTRIES], dtype=tl.float32)
    share, shares = tl.program_id(2).to(tl.int64), tl.num_programs(2)
    turns = tl.where(_sees(first_row + ROWS - 1, first_key, p), tl.cdiv(users - share, shares), 0)  # else nothing of it is visible
    for turn in range(turns):
        user, user_total = share + turn * shares, tl.zeros([ROWS, KEYS], dtype=tl.float32)
        for head in range(heads):
            group = user * heads + head
            queries, grad_tile = _tile(q + group * n * d, rows, d_columns, n, d), _tile(grad + group * n * e, rows, e_columns, n, e)
            key_tile, values = _tile(k + group * m * d, keys, d_columns, m, d), _tile(v + group * m * e, keys, e_columns, m, e)
            scores = _scores(
                queries, key_tile, visible, user, rows, keys,
                distance, query_positions, key_positions, interval, query_times, key_times, starts, n, m, PRECISION,
            )  # fmt: skip
            _, slope = _slope(scores, visible, grad_tile, values, PRECISION)
            user_total += slope
        total += user_total
        if interval is not None:
            bucket_tile = tl.where(visible, _buckets(query_times, key_times, starts, user, rows, keys, n, m), ENTRIES)
            entry = tl.min(bucket_tile)
            while entry < ENTRIES:  # as often as there are buckets in the tile: few, away from the diagonal
                by_entry += tl.where(table == entry, tl.sum(tl.where(bucket_tile == entry, user_total, 0.0)), 0.0)
                entry = tl.min(tl.where(bucket_tile > entry, bucket_tile, ENTRIES))
    tl.atomic_add(grad_distance + _distances(query_positions, key_positions, rows, keys, n, m), total, mask=visible)
    if interval is not None:
        tl.atomic_add(grad_interval + table, by_entry, mask=table < entries)


@dataclass(frozen=True, kw_only=True, slots=True)
class TritonPointwise:
    """``silu(q k^T + bias) v`` over the prefix and, causally, the segment's own keys.

    Attributes:
        prefix: ``p``.
        bias: the layer's, or None.
    """

    prefix: int
    bias: Bias | None

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As `Attention` says; ``v`` is 0 at keys that nothing sees."""
        (users, heads, n, _), e, tiles = q.shape, v.shape[3], _tiles(q, v)
        out = q.new_empty(users * heads, n, e)
        with torch.cuda.device_of(q):
            grid = users * heads, triton.cdiv(n, tiles["ROWS"])
            _forward[grid](*_flat(q, k, v), out, *self._bias(), heads, *self._sizes(q, v), **tiles)
        return out.view(users, heads, n, e)

    def backward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """As `Attention` says, the bias tables last."""
        groups, flat, tiles = q.shape[0] * q.shape[1], _flat(q, k, v, grad), _tiles(q, v)
        sizes = (*self._bias(), q.shape[1], *self._sizes(q, v))
        grad_q, grad_k, grad_v = (torch.empty_like(part) for part in flat[:3])
        with torch.cuda.device_of(q):
            _backward_queries[groups, triton.cdiv(q.shape[2], tiles["ROWS"])](*flat, grad_q, *sizes, **tiles)
            _backward_keys[groups, triton.cdiv(k.shape[2], tiles["KEYS"])](*flat, grad_k, grad_v, *sizes, **tiles)
            tables = self._table_gradients(q, v, flat)
        return *(part.view(source.shape) for part, source in zip((grad_q, grad_k, grad_v), (q, k, v), strict=True)), *tables

    def _table_gradients(self, q: torch.Tensor, v: torch.Tensor, flat: list[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
        if self.bias is None:
            return None, None
        users, heads, n, _ = q.shape
        facts = self._bias()
        interval = facts[3]
        by_distance = torch.zeros_like(self.bias.distance, dtype=torch.float32)
        by_interval = None if interval is None else torch.zeros_like(interval, dtype=torch.float32)
        entries = 1 if interval is None else len(interval)
        tiles = _tiles(q, v)
        rows, keys = triton.cdiv(n, tiles["ROWS"]), triton.cdiv(v.shape[2], tiles["KEYS"])
        shares = max(1, min(users, TABLE_PROGRAMS // (rows * keys)))
        _backward_tables[rows, keys, shares](
            *flat, by_distance, by_interval, *facts,
            users, heads, *self._sizes(q, v), entries, **tiles, ENTRIES=triton.next_power_of_2(entries),
        )  # fmt: skip
        return by_distance.to(self.bias.distance.dtype), None if interval is None or by_interval is None else by_interval.to(interval.dtype)

    def _bias(self) -> tuple[torch.Tensor | None, ...]:
        """The tables, and the facts of queries and keys that choose their entries, as the kernels take them."""
        if self.bias is None:
            return (None,) * 7
        pairs, interval = self.bias.pairs, self.bias.interval
        slots = (self.bias.distance.contiguous(), pairs.query_positions.contiguous(), pairs.key_positions.contiguous())
        if interval is None or pairs.query_times is None or pairs.key_times is None:
            return *slots, None, None, None, None
        times = pairs.query_times.contiguous(), pairs.key_times.contiguous()
        return *slots, interval.contiguous(), *times, _starts(interval.device)

    def _sizes(self, q: torch.Tensor, v: torch.Tensor) -> tuple[int, ...]:
        return q.shape[2], v.shape[2], self.prefix, q.shape[3], v.shape[3]


@functools.cache
def _starts(device: torch.device) -> torch.Tensor:
    """Where each bucket starts, and a difference behind all buckets."""
    return torch.tensor([*bucket_starts(), torch.iinfo(torch.int64).max], device=device)


def _flat(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """``[B, H, n, d]`` as contiguous ``[G, n, d]``."""
    return [tensor.flatten(0, 1).contiguous() for tensor in tensors]


def _tiles(q: torch.Tensor, v: torch.Tensor) -> dict[str, Any]:
    """Sizes of the tiles; float32 products as exact as the framework's own are set to be."""
    key_width, value_width = (max(LEAST_WIDTH, triton.next_power_of_2(tensor.shape[3])) for tensor in (q, v))
    parts = 1 if max(key_width, value_width) * q.element_size() <= NARROW_BYTES else 2
    precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return {"ROWS": ROWS // parts, "KEYS": KEYS // parts, "D": key_width, "E": value_width, "PRECISION": precision, **LAUNCH}
