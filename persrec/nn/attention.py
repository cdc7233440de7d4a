"""Attention of one segment: queries of the segment against the kept positions of earlier ones and, causally, its own.

Axis legend:  B users   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head

Two kinds, pointwise (HSTU, arXiv 2402.17152, section 3.2) and softmax, each in a naive dense form, which is the
reference, and in a form that computes little more than what is visible. Tests compare outputs and gradients.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

Kernel = Literal["segmented", "naive"]

QUERY_ROWS = 64
# a block of scores that stays in a core's cache while it is worked on
BLOCK_ELEMENTS = 1 << 19


@dataclass(frozen=True, kw_only=True, slots=True)
class Bias:
    """Relative attention bias of one layer, shared by its heads.

    Attributes:
        distance: ``[N]`` by the distance of slots.
        distances: ``[n, m]`` slot distance of query and key; where the key lies later, any valid index.
        interval: ``[buckets + 1]`` by bucketed time difference, the last entry for an unknown time; or None.
        buckets: ``[B, n, m]`` uint8 indices into ``interval``; or None.
    """

    distance: torch.Tensor
    distances: torch.Tensor
    interval: torch.Tensor | None
    buckets: torch.Tensor | None

    def block(self, users: slice, rows: slice, keys: int) -> torch.Tensor:
        """The bias of some users' query rows against the first ``keys`` keys, ``[B or 1, 1, rows, keys]``."""
        by_distance = self.distance[self.distances[rows, :keys]][None, None]
        if self.interval is None or self.buckets is None:
            return by_distance
        buckets = self.buckets[users, rows, :keys].int()
        return self.interval.index_select(0, buckets.flatten()).view(buckets.shape)[:, None] + by_distance


def causal_mask(queries: int, prefix: int, device: torch.device) -> torch.Tensor:
    """``[n, p + n]``, True where a query sees a key of the prefix or of its own past."""
    return torch.ones(queries, prefix + queries, dtype=torch.bool, device=device).tril(prefix)


def naive_pointwise(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None, divisor: float
) -> torch.Tensor:
    """HSTU's attention with a dense mask: ``silu(q k^T + bias) / divisor`` where visible, else 0, times ``v``.

    Args:
        q: ``[B, H, n, d]``.
        k: ``[B, H, m, d]``.
        v: ``[B, H, m, d_v]``.
        mask: bool, broadcastable to ``[B, H, n, m]``.
        bias: broadcastable to ``[B, H, n, m]``.
        divisor: the joint layout's length, a constant.
    """
    scores = q @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    weights: torch.Tensor = F.silu(scores) * mask / divisor
    return weights @ v


def naive_softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention with a dense mask; a query that sees nothing gives 0."""
    scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    weights: torch.Tensor = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    seen: torch.Tensor = weights.masked_fill(~mask, 0.0)
    return seen @ v


def pointwise_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    prefix: int,
    valid: torch.Tensor,
    bias: Bias | None,
    divisor: float,
    kernel: Kernel,
) -> torch.Tensor:
    """Pointwise attention of a segment's queries ``[B, H, n, d]`` over ``m = prefix + n`` keys, ``valid`` ``[B, m]``."""
    if kernel == "naive":
        mask = causal_mask(q.shape[2], prefix, q.device) & valid[:, None, None, :]
        everything = None if bias is None else bias.block(slice(None), slice(None), k.shape[2])
        return naive_pointwise(q, k, v, mask, everything, divisor)
    v = v * (valid[:, None, :, None].to(v.dtype) / divisor)  # an unseen key weighs nothing, so no mask is needed on the scores
    if torch.is_grad_enabled():
        tables = (None, None) if bias is None else (bias.distance, bias.interval)
        return _Pointwise.apply(q, k, v, *tables, prefix, bias)  # type: ignore[no-any-return, no-untyped-call]
    return _pointwise_forward(q, k, v, prefix, bias)


def softmax_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, prefix: int, valid: torch.Tensor, kernel: Kernel
) -> torch.Tensor:
    """Softmax attention of a segment's queries ``[B, H, n, d]`` over ``m = prefix + n`` keys, ``valid`` ``[B, m]``.

    A padded query sees itself, so that its row stays finite; nothing else sees it.
    """
    own = torch.eye(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).roll(prefix, 1)
    mask = (causal_mask(q.shape[2], prefix, q.device) & valid[:, None, :]) | own
    if kernel == "naive":
        return naive_softmax(q, k, v, mask[:, None])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])


def executed_pairs(queries: int, prefix: int, *, kind: Literal["pointwise", "softmax"], kernel: Kernel) -> int:
    """Query-key pairs that a kernel computes for one segment, hidden ones within its blocks included."""
    if kernel == "naive" or kind == "softmax":
        return queries * (prefix + queries)
    return sum((stop - start) * (prefix + stop) for start, stop in _row_blocks(queries))


def _row_blocks(queries: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + QUERY_ROWS, queries)) for start in range(0, queries, QUERY_ROWS))


def _user_blocks(q: torch.Tensor, keys: int) -> list[slice]:
    users, heads, rows = q.shape[0], q.shape[1], min(q.shape[2], QUERY_ROWS)
    step = max(1, BLOCK_ELEMENTS // (heads * rows * keys))
    return [slice(start, min(start + step, users)) for start in range(0, max(users, 1), step)]


def _scores(q: torch.Tensor, k: torch.Tensor, users: slice, rows: slice, keys: int, bias: Bias | None) -> torch.Tensor:
    scores = q[users, :, rows] @ k[users, :, :keys].transpose(-1, -2)
    return scores if bias is None else scores.add_(bias.block(users, rows, keys).to(scores.dtype))


def _pointwise_forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, prefix: int, bias: Bias | None) -> torch.Tensor:
    triangle = torch.ones(QUERY_ROWS, QUERY_ROWS, dtype=q.dtype, device=q.device).tril_()
    per_users = []
    for users in _user_blocks(q, k.shape[2]):
        blocks = []
        for start, stop in _row_blocks(q.shape[2]):
            keys, size = prefix + stop, stop - start
            weights = F.silu(_scores(q, k, users, slice(start, stop), keys, bias), inplace=True)
            weights[..., prefix + start :].mul_(triangle[:size, :size])
            blocks.append(weights @ v[users, :, :keys])
        per_users.append(torch.cat(blocks, dim=2))
    return torch.cat(per_users)


class _Pointwise(torch.autograd.Function):
    """Keeps q, k and v alone; the backward pass computes the scores again, block by block."""

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        distance: torch.Tensor | None,  # noqa: ARG004 - autograd gives gradients to arguments alone
        interval: torch.Tensor | None,  # noqa: ARG004
        prefix: int,
        bias: Bias | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.prefix, ctx.bias = prefix, bias
        return _pointwise_forward(q, k, v, prefix, bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        q, k, v = ctx.saved_tensors
        prefix, bias = ctx.prefix, ctx.bias
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        tables = _TableGradients(bias)
        triangle = torch.ones(QUERY_ROWS, QUERY_ROWS, dtype=q.dtype, device=q.device).tril_()
        for users, (start, stop) in itertools.product(_user_blocks(q, k.shape[2]), _row_blocks(q.shape[2])):
            rows, keys, size = slice(start, stop), prefix + stop, stop - start
            scores = _scores(q, k, users, rows, keys, bias)
            gate = torch.sigmoid(scores)
            weights = scores.mul_(gate)
            # d silu(s) / ds = sigmoid(s) + silu(s) (1 - sigmoid(s))
            slope = torch.addcmul(gate, weights, 1 - gate)
            weights[..., prefix + start :].mul_(triangle[:size, :size])
            slope[..., prefix + start :].mul_(triangle[:size, :size])
            out = grad[users, :, rows]
            grad_v[users, :, :keys] += weights.transpose(-1, -2) @ out
            slope.mul_(out @ v[users, :, :keys].transpose(-1, -2))
            grad_q[users, :, rows] = slope @ k[users, :, :keys]
            grad_k[users, :, :keys] += slope.transpose(-1, -2) @ q[users, :, rows]
            tables.add(slope, users, rows, keys)
        return grad_q, grad_k, grad_v, tables.distance, tables.interval, None, None


class _TableGradients:
    """Sums the scores' gradients into the bias tables."""

    def __init__(self, bias: Bias | None) -> None:
        self.bias = bias
        self.distance = None if bias is None else torch.zeros_like(bias.distance)
        self.interval = None if bias is None or bias.interval is None else torch.zeros_like(bias.interval)

    def add(self, slope: torch.Tensor, users: slice, rows: slice, keys: int) -> None:
        if self.bias is None or self.distance is None:
            return
        per_pair = slope.sum(1)
        self.distance.index_add_(0, self.bias.distances[rows, :keys].flatten(), per_pair.sum(0).flatten().to(self.distance.dtype))
        if self.interval is not None and self.bias.buckets is not None:
            buckets = self.bias.buckets[users, rows, :keys].flatten()
            self.interval += torch.bincount(buckets, weights=per_pair.flatten(), minlength=len(self.interval)).to(self.interval.dtype)
