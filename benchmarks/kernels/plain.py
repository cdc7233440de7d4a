"""Plain forms of HSTU's attention, as a reader would write them: what the kernels have to beat, not our own reference alone.

Each takes what `persrec.nn.attention.naive.naive_pointwise` takes and gives the same. Without gradients they work in place and use
their buffers again; with them, as autograd needs it. The loops over row blocks take from the mask which keys are valid alone: that
the rest of it is causal they know. Every form gets its bias from a view of the table (`banded`), not by a look-up of each pair.

Axis legend:  B users   H heads   n queries   m keys   d width of a head   G = B * H   r rows of a block   c keys of a block
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from persrec.nn.attention.bias import Bias
from persrec.nn.attention.naive import naive_pointwise

ROWS = 4  # blocks of query rows, of which each sees the keys up to its own end: 5/8 of the pairs
BLOCK_ROWS = 64  # query rows of a block in the loops over row blocks: at 1,280 items 20 blocks, 21/40 of the pairs
COMPILED = "dense, compiled"
IN_PLACE_LOOP = "in-place loop over row blocks, causal"
AUTOGRAD_LOOP = "loop over row blocks, causal, by autograd"
Form = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, float], torch.Tensor]


def einsum(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """The public code's form: dense products by einsum, masked behind the activation."""
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k)
    weights = F.silu(scores if bias is None else scores + bias) / divisor * mask
    return torch.einsum("bhnm,bhmd->bhnd", weights, v)


def batched(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """All heads at once, in place."""
    return _weighted(q @ k.transpose(-1, -2), mask, bias) @ (v / divisor)


def head_by_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """A loop over heads, in place: a head's scores are small enough to stay near the processor."""
    scaled, heads = v / divisor, range(q.shape[1])
    of_heads = [None if bias is None else bias[:, min(head, bias.shape[1] - 1)] for head in heads]
    masked = mask.expand(-1, 1, -1, -1)[:, 0]
    return torch.stack([_weighted(q[:, head] @ k[:, head].mT, masked, of_heads[head]) @ scaled[:, head] for head in heads], dim=1)


def causal_half(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """The loop over heads in blocks of rows, each with the keys up to its own last row: little more than the visible half."""
    queries, keys = q.shape[2], k.shape[2]
    edges = [round(queries * part / ROWS) for part in range(ROWS + 1)]
    blocks = []
    for start, stop in itertools.pairwise(edges):
        seen = keys - queries + stop
        own = None if bias is None else bias[:, :, start:stop, :seen]
        blocks.append(head_by_head(q[:, :, start:stop], k[:, :, :seen], v[:, :, :seen], mask[:, :, start:stop, :seen], own, divisor))
    return torch.cat(blocks, dim=2)


def compiled(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """The dense form by `torch.compile`, which joins what lies between the products."""
    out: torch.Tensor = _compiled()(q, k, v, mask, bias, divisor)
    return out


def in_place_loop(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """All heads at once, a block of rows at a time with the keys up to its end, in one buffer; its gradients compute the scores again."""
    groups = _grouped(q, k, v, mask, divisor)
    return _InPlaceLoop.apply(*groups, bias, q.shape[1]).view(*q.shape[:3], -1)  # type: ignore[no-any-return, no-untyped-call]


def autograd_loop(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """The same loop, with a buffer for each block, which autograd keeps: it computes nothing again."""
    queries, keys, values = _grouped(q, k, v, mask, divisor)
    out = []
    for rows, seen, own in _row_blocks(queries, keys):
        scores = _scores(queries[:, rows], keys[:, seen], _part(bias, rows, seen, q.shape[1], len(queries)))
        out.append(F.silu(scores).tril(own.start) @ values[:, seen])
    return torch.cat(out, dim=1).view(*q.shape[:3], -1)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "dense einsum": einsum,
        "dense reference": naive_pointwise,
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
    """While it lasts, models whose kernel is ``naive`` attend by this form."""
    with patch("persrec.nn.attention.naive_pointwise", form), patch.object(Bias, "dense", banded):
        yield


def banded(bias: Bias, dense: Callable[[Bias], torch.Tensor] = Bias.dense) -> torch.Tensor:
    """``[1, n, m]`` the bias by distance, a row of its table one further for each query; ``dense`` where positions have gaps or times."""
    pairs = bias.pairs
    if (bias.interval is not None and pairs.key_times is not None) or pairs.strided:
        return dense(bias)
    queries, keys = len(pairs.query_positions), len(pairs.key_positions)
    return F.pad(bias.distance[:keys].flip(0), (0, queries - 1)).unfold(0, keys, 1).flip(0)[None]


def _weighted(scores: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``silu(scores + bias)`` where visible, else 0; written over the scores where no gradient needs them."""
    if torch.is_grad_enabled():
        return F.silu(scores if bias is None else scores + bias) * mask
    if bias is not None:
        scores += bias
    return F.silu(scores, inplace=True).mul_(mask)


@functools.cache
def _compiled() -> Form:
    return torch.compile(naive_pointwise, dynamic=False)


class _InPlaceLoop(torch.autograd.Function):
    """``silu(q k^T + bias) v`` of ``[G, n, d]``, causal. A buffer holds any block's scores, a second one, backward, their gradients."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, heads: int) -> torch.Tensor:
        ctx.save_for_backward(q, k, v, bias)
        ctx.heads = heads
        room, out = _room(q, k), q.new_empty(*q.shape[:2], v.shape[2])
        for rows, seen, own in _row_blocks(q, k):
            scores = _scores(q[:, rows], k[:, seen], _part(bias, rows, seen, heads, len(q)), room)
            F.silu(scores, inplace=True)[:, :, own].tril_()
            out[:, rows] = scores @ v[:, seen]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, bias = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        grad_bias = torch.zeros_like(bias) if ctx.needs_input_grad[3] else None
        room, room_of_slopes, grad = _room(q, k), _room(q, k), grad.contiguous()
        for rows, seen, own in _row_blocks(q, k):
            scores = _scores(q[:, rows], k[:, seen], _part(bias, rows, seen, ctx.heads, len(q)), room)
            slope = _scores(grad[:, rows], v[:, seen], None, room_of_slopes)
            torch.ops.aten.silu_backward.grad_input(slope, scores, grad_input=slope)
            for values in (slope, F.silu(scores, inplace=True)):
                values[:, :, own].tril_()
            grad_v[:, seen] += scores.mT @ grad[:, rows]
            grad_k[:, seen] += slope.mT @ q[:, rows]
            grad_q[:, rows] = slope @ k[:, seen]
            if grad_bias is not None:
                part = grad_bias[:, :, rows, seen]
                part.copy_(slope.view(-1, ctx.heads, *slope.shape[1:]).sum_to_size(part.shape))
        return grad_q, grad_k, grad_v, grad_bias, None


def _grouped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, divisor: float) -> list[torch.Tensor]:
    """``[G, n or m, d]`` without gaps; the last query sees every valid key, and values of the others become 0."""
    return [tensor.flatten(0, 1).contiguous() for tensor in (q, k, v * (mask[:, :, -1, :, None] / divisor))]


def _row_blocks(q: torch.Tensor, k: torch.Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Query rows of a block, the keys up to its end, and those among them that are the rows' own."""
    queries, prefix = q.shape[1], k.shape[1] - q.shape[1]
    for start in range(0, queries, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, queries)
        yield slice(start, stop), slice(0, prefix + stop), slice(prefix + start, prefix + stop)


def _room(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Memory for the scores of any block."""
    return q.new_empty(len(q) * min(BLOCK_ROWS, q.shape[1]) * k.shape[1])


def _part(bias: torch.Tensor | None, rows: slice, seen: slice, heads: int, groups: int) -> torch.Tensor | None:
    """``[G, r, c]`` of the bias; a view where users and heads share it."""
    return None if bias is None else bias[:, :, rows, seen].expand(groups // heads, heads, -1, -1).flatten(0, 1)


def _scores(rows: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor | None, room: torch.Tensor | None = None) -> torch.Tensor:
    """``[G, r, c]``, written to ``room`` where there is one."""
    shape = len(rows), rows.shape[1], keys.shape[1]
    out = None if room is None else room[: math.prod(shape)].view(shape)
    return torch.bmm(rows, keys.mT, out=out) if bias is None else torch.baddbmm(bias, rows, keys.mT, out=out)
