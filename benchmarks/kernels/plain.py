"""Plain forms of HSTU's attention, as a reader would write them: what the kernels have to beat, not our own reference alone.

Each takes what `persrec.nn.attention.naive.naive_pointwise` takes and gives the same. Without gradients they work in place and use
their buffers again; with them, as autograd needs it. The loops over row blocks read from the mask only which keys are valid; they know
that the rest of it is causal. What is the same in every layer, such as the mask, is made once a pass. The bias comes from a view of
its table (`Banded`), not from a look-up of each pair, and a loop makes only the bias of the block at hand.

Axis legend:  B users   H heads   n queries   m keys   d width of a head   G = B * H   r rows of a block   c keys of a block
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol
from unittest.mock import patch

import torch
import torch.nn.functional as F

from persrec.names import Kernel
from persrec.nn.attention.bias import Bias, Pairs
from persrec.nn.attention.naive import causal_mask, naive_pointwise

ROWS = 4  # blocks of query rows, of which each sees the keys up to its own end: 5/8 of the pairs
BLOCK_ROWS = 64  # query rows of a block in the loops over row blocks: at 1,280 items 20 blocks, 21/40 of the pairs
COMPILED = "dense, compiled"
IN_PLACE_LOOP = "in-place loop over row blocks, causal"
AUTOGRAD_LOOP = "loop over row blocks, causal, by autograd"


class BiasOf(Protocol):
    """The bias of any query rows, ``[B or 1, H or 1, r, c]``, from a tensor that has its gradients."""

    @property
    def table(self) -> torch.Tensor:
        """What has the gradients."""

    def rows_of(self, table: torch.Tensor, rows: slice, visible: slice) -> torch.Tensor:
        """The bias of some rows and of the first keys, up to the last row's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """A bias that is there for all pairs: ``table`` ``[B or 1, H or 1, n, m]``."""

    table: torch.Tensor

    def rows_of(self, table: torch.Tensor, rows: slice, visible: slice) -> torch.Tensor:
        """A view."""
        return table[:, :, rows, visible]


@dataclass(frozen=True, kw_only=True, slots=True)
class Banded:
    """The bias by distance: a row of its table one further for each query, and a look-up for keys before a gap of positions.

    Attributes:
        table: ``[N]``.
        ahead: ``[n, g]`` distances of the keys up to the last gap.
    """

    table: torch.Tensor
    ahead: torch.Tensor

    def rows_of(self, table: torch.Tensor, rows: slice, visible: slice) -> torch.Tensor:
        """The last row's entries are those of the distances ``c - 1``, ..., 0, and a row above has them one key earlier."""
        gap = min(self.ahead.shape[1], visible.stop)
        parts = [table[self.ahead[rows, :gap]]] if gap else []
        if width := visible.stop - gap:
            count = rows.stop - rows.start
            upwards = torch.arange(count - 1, -1, -1, device=table.device)  # a flip would lay the columns one behind the other
            parts.append(F.pad(table[:width].flip(0), (0, count - 1)).unfold(0, width, 1).index_select(0, upwards))
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))[None, None]


Form = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, BiasOf | None, float], torch.Tensor]


def einsum(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float) -> torch.Tensor:
    """The public code's form: dense products by einsum, masked after the activation."""
    scores, full_bias = torch.einsum("bhnd,bhmd->bhnm", q, k), _full_bias(bias, mask)
    weights = F.silu(scores if full_bias is None else scores + full_bias) / divisor * mask
    return torch.einsum("bhnm,bhmd->bhnd", weights, v)


def batched(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float) -> torch.Tensor:
    """All heads at once, in place."""
    return _weighted(q @ k.transpose(-1, -2), mask, _full_bias(bias, mask)) @ (v / divisor)


def head_by_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float
) -> torch.Tensor:
    """A loop over heads, in place: a head's scores are small enough to stay near the processor."""
    return _by_head(q, k, v, mask, _full_bias(bias, mask), divisor)


def _by_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    scaled, heads = v / divisor, range(q.shape[1])
    head_biases = [None if bias is None else bias[:, min(head, bias.shape[1] - 1)] for head in heads]
    head_mask = mask.expand(-1, 1, -1, -1)[:, 0]
    return torch.stack([_weighted(q[:, head] @ k[:, head].mT, head_mask, head_biases[head]) @ scaled[:, head] for head in heads], dim=1)


def causal_half(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float) -> torch.Tensor:
    """The loop over heads in blocks of rows, each with the keys up to its own last row: little more than the visible half."""
    queries, keys = q.shape[2], k.shape[2]
    edges = [round(queries * part / ROWS) for part in range(ROWS + 1)]
    blocks = []
    for start, stop in itertools.pairwise(edges):
        end = keys - queries + stop
        block_bias = None if bias is None else bias.rows_of(bias.table, slice(start, stop), slice(0, end))
        blocks.append(_by_head(q[:, :, start:stop], k[:, :, :end], v[:, :, :end], mask[:, :, start:stop, :end], block_bias, divisor))
    return torch.cat(blocks, dim=2)


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float) -> torch.Tensor:
    """Our own dense form."""
    return naive_pointwise(q, k, v, mask, _full_bias(bias, mask), divisor)


def compiled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float) -> torch.Tensor:
    """The dense form by `torch.compile`, which fuses what lies between the products."""
    out: torch.Tensor = _compiled()(q, k, v, mask, _full_bias(bias, mask), divisor)
    return out


def in_place_loop(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float
) -> torch.Tensor:
    """All heads at once, a block of rows at a time with the keys up to its end, in one buffer; its gradients compute the scores again."""
    groups = _grouped(q, k, v, mask, divisor)
    table = None if bias is None else bias.table
    return _InPlaceLoop.apply(*groups, table, bias, q.shape[1]).view(*q.shape[:3], -1)  # type: ignore[no-any-return, no-untyped-call]


def autograd_loop(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: BiasOf | None, divisor: float
) -> torch.Tensor:
    """The same loop, with a buffer for each block, which autograd keeps: it computes nothing again."""
    queries, keys, values = _grouped(q, k, v, mask, divisor)
    out = []
    for rows, visible, own_keys in _row_blocks(queries, keys):
        block_bias = None if bias is None else bias.rows_of(bias.table, rows, visible)
        scores = _scores(queries[:, rows], keys[:, visible], _grouped_bias(block_bias, q.shape[1], len(queries)))
        out.append(F.silu(scores).tril(own_keys.start) @ values[:, visible])
    return torch.cat(out, dim=1).view(*q.shape[:3], -1)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "dense einsum": einsum,
        "dense reference": reference,
        "batched, in place": batched,
        "head by head, in place": head_by_head,
        "head by head, causal half": causal_half,
        COMPILED: compiled,
        IN_PLACE_LOOP: in_place_loop,
        AUTOGRAD_LOOP: autograd_loop,
    }
)


@contextmanager
def plain(form: Form) -> Iterator[None]:
    """While it lasts, HSTUs whose kernel is ``naive`` attend by this form."""
    with patch("persrec.nn.context.pointwise_attention", _Attention(form=form)):
        yield


@dataclass(kw_only=True, slots=True)
class _Attention:
    """`persrec.nn.attention.pointwise_attention` by a plain form; what a pass's layers share is made by the first of them."""

    form: Form
    _masks: tuple[torch.Tensor, int, torch.Tensor] | None = field(default=None, init=False)
    _ahead: tuple[Pairs, torch.Tensor] | None = field(default=None, init=False)

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, prefix: int, valid: torch.Tensor, bias: Bias | None,
        divisor: float, kernel: Kernel,
    ) -> torch.Tensor:  # fmt: skip
        """As `pointwise_attention`, for the kernel ``naive`` alone."""
        if kernel != "naive":
            raise ValueError(f"kernel: {kernel!r}; expected 'naive', in whose place plain forms attend")
        return self.form(q, k, v, self._mask(q.shape[2], prefix, valid), None if bias is None else self._bias(bias), divisor)

    def _mask(self, queries: int, prefix: int, valid: torch.Tensor) -> torch.Tensor:
        if self._masks is None or self._masks[0] is not valid or self._masks[1] != queries:
            self._masks = valid, queries, causal_mask(queries, prefix, valid.device) & valid[:, None, None, :]
        return self._masks[2]

    def _bias(self, bias: Bias) -> BiasOf:
        if bias.interval is not None and bias.pairs.key_times is not None:
            return Whole(table=bias.dense()[:, None])
        if self._ahead is None or self._ahead[0] is not bias.pairs:
            self._ahead = bias.pairs, bias.pairs.distances(slice(None), slice(0, bias.pairs.strided)).long()
        return Banded(table=bias.distance, ahead=self._ahead[1])


def _full_bias(bias: BiasOf | None, mask: torch.Tensor) -> torch.Tensor | None:
    """``[B or 1, H or 1, n, m]``."""
    return None if bias is None else bias.rows_of(bias.table, slice(0, mask.shape[2]), slice(0, mask.shape[3]))


def _weighted(scores: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``silu(scores + bias)`` where visible, else 0; written over the scores where no gradient needs them."""
    if torch.is_grad_enabled():
        return F.silu(scores if bias is None else scores + bias) * mask
    if bias is not None:
        scores += bias
    return F.silu(scores, inplace=True).mul_(mask)


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(naive_pointwise, dynamic=False)


class _InPlaceLoop(torch.autograd.Function):
    """``silu(q k^T + bias) v`` of ``[G, n, d]``, causal. One buffer holds a block's scores; backward, another holds their gradients."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, table: torch.Tensor | None, bias: BiasOf | None, heads: int
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v, table)
        ctx.bias, ctx.heads = bias, heads
        buffer, out = _score_buffer(q, k), q.new_empty(*q.shape[:2], v.shape[2])
        for rows, visible, own_keys in _row_blocks(q, k):
            block_bias = None if bias is None or table is None else bias.rows_of(table, rows, visible)
            scores = _scores(q[:, rows], k[:, visible], _grouped_bias(block_bias, heads, len(q)), buffer)
            F.silu(scores, inplace=True)[:, :, own_keys].tril_()
            out[:, rows] = scores @ v[:, visible]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, table = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        table_leaf = None if table is None else table.detach().requires_grad_()
        grad_table = None if table is None else torch.zeros_like(table)
        buffer, slope_buffer, grad = _score_buffer(q, k), _score_buffer(q, k), grad.contiguous()
        for rows, visible, own_keys in _row_blocks(q, k):
            with torch.enable_grad():
                block_bias = None if table_leaf is None else ctx.bias.rows_of(table_leaf, rows, visible)
            bias_values = None if block_bias is None else block_bias.detach()
            scores = _scores(q[:, rows], k[:, visible], _grouped_bias(bias_values, ctx.heads, len(q)), buffer)
            slope = _scores(grad[:, rows], v[:, visible], None, slope_buffer)
            torch.ops.aten.silu_backward.grad_input(slope, scores, grad_input=slope)
            for block in (slope, F.silu(scores, inplace=True)):
                block[:, :, own_keys].tril_()
            grad_v[:, visible] += scores.mT @ grad[:, rows]
            grad_k[:, visible] += slope.mT @ q[:, rows]
            grad_q[:, rows] = slope @ k[:, visible]
            if block_bias is not None and table_leaf is not None:
                grad_bias = slope.view(-1, ctx.heads, *slope.shape[1:]).sum_to_size(block_bias.shape)
                grad_table += torch.autograd.grad(block_bias, table_leaf, grad_bias)[0]
        return grad_q, grad_k, grad_v, grad_table, None, None


def _grouped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, divisor: float) -> list[torch.Tensor]:
    """``[G, n or m, d]`` without gaps; the last query sees every valid key, and values of the others become 0."""
    return [tensor.flatten(0, 1).contiguous() for tensor in (q, k, v * (mask[:, :, -1, :, None] / divisor))]


def _row_blocks(q: torch.Tensor, k: torch.Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Query rows of a block, the keys up to its end, and those among them that are the rows' own."""
    queries, prefix = q.shape[1], k.shape[1] - q.shape[1]
    for start in range(0, queries, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, queries)
        yield slice(start, stop), slice(0, prefix + stop), slice(prefix + start, prefix + stop)


def _score_buffer(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Memory for the scores of any block."""
    return q.new_empty(len(q) * min(BLOCK_ROWS, q.shape[1]) * k.shape[1])


def _grouped_bias(bias: torch.Tensor | None, heads: int, groups: int) -> torch.Tensor | None:
    """``[G, r, c]`` of a block's bias; a view where users and heads share it."""
    return None if bias is None else bias.expand(groups // heads, heads, -1, -1).flatten(0, 1)


def _scores(rows: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor | None, buffer: torch.Tensor | None = None) -> torch.Tensor:
    """``[G, r, c]``, written to ``buffer`` where there is one."""
    shape = len(rows), rows.shape[1], keys.shape[1]
    out = None if buffer is None else buffer[: math.prod(shape)].view(shape)
    return torch.bmm(rows, keys.mT, out=out) if bias is None else torch.baddbmm(bias, rows, keys.mT, out=out)
