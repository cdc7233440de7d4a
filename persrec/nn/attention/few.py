"""Attention of few queries, as a request has: one product for all pairs, and what depends on no layer computed once for all of them.

A small request takes its time for calls and not for numbers, so here are few calls: no blocks, no copies into rows without gaps, a mask
and places of bias entries that every layer shares. For passes without gradients on a CPU; tests hold it against
`persrec.nn.attention.naive`.

Axis legend:  R `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
"""

import torch
import torch.nn.functional as F

from persrec.nn.attention.bias import Bias
from persrec.nn.attention.naive import causal_mask

FEW_QUERIES = 48  # of a row: `persrec.nn.attention.blocks` takes more in several blocks, which leave out hidden pairs
# of all rows, a head. With more, blocks are faster, whose scores stay in a core's cache; but pointwise blocks copy the values to weigh
# them, so they are later
SOFTMAX_PAIRS, POINTWISE_PAIRS = 1 << 18, 1 << 20


def are_few(valid: torch.Tensor, queries: int, device: torch.device, *, pairs: int) -> bool:
    """Whether a pass of ``queries`` a row over keys ``valid`` ``[R, m]`` has at most so many pairs, and is one of these.

    ``device`` is that of the numbers: ``meta`` where they have no storage, while facts such as ``valid`` lie on the CPU.
    """
    is_plain = not torch.is_grad_enabled() and device.type in ("cpu", "meta")
    return is_plain and queries <= FEW_QUERIES and valid.shape[0] * queries * valid.shape[1] <= pairs


def few_weights(valid: torch.Tensor, divisor: float, like: torch.Tensor) -> torch.Tensor:
    """What `few_pointwise` multiplies by: of ``valid`` ``[R, m]``, for queries ``like`` ``[R, H, n, d]``, those of the last ``n`` keys."""
    queries = like.shape[2]
    visible = causal_mask(queries, valid.shape[1] - queries, valid.device) & valid[:, None]
    return visible[:, None].to(device=like.device, dtype=like.dtype) / divisor


def few_mask(valid: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What `few_softmax` adds; see `few_weights`. A query that is padding sees itself, so that its row stays finite."""
    queries, keys = like.shape[2], valid.shape[1]
    self_pairs = torch.eye(queries, keys, dtype=torch.bool).roll(keys - queries, 1)
    visible = (causal_mask(queries, keys - queries, valid.device) & valid[:, None]) | self_pairs
    hidden = torch.zeros(visible.shape, dtype=like.dtype).masked_fill_(~visible, -torch.inf)
    return hidden[:, None].to(like.device)


def few_pointwise(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, weights: torch.Tensor, bias: Bias | None) -> torch.Tensor:
    """HSTU's pointwise attention (`persrec.nn.attention.naive.naive_pointwise`), ``[R, H, n, d]``.

    Args:
        q: ``[R, H, n, d]``.
        k: ``[R, H, m, d]``.
        v: ``[R, H, m, d]``.
        weights: ``[R, 1, n, m]``, 0 at a pair that is hidden and the inverse of the divisor elsewhere.
        bias: the layer's, or None.
    """
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    by_row = scores.view(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if bias is not None:
        by_row.add_(bias.few()[:, None])
    F.silu(scores, inplace=True)
    by_row.mul_(weights)
    return torch.bmm(scores, v.flatten(0, 1)).view(v.shape[0], v.shape[1], q.shape[2], v.shape[3])


def few_softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax attention (`persrec.nn.attention.naive.naive_softmax`), ``[R, H, n, d]``.

    Args:
        q: ``[R, H, n, d]``.
        k: ``[R, H, m, d]``.
        v: ``[R, H, m, d]``.
        mask: ``[R, 1, n, m]``, 0 at a pair that is visible and minus infinity elsewhere; each query sees a key.
    """
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    by_row = scores.view(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    torch.add(mask, by_row, alpha=q.shape[3] ** -0.5, out=by_row)
    torch.softmax(scores, dim=2, out=scores)
    return torch.bmm(scores, v.flatten(0, 1)).view(v.shape[0], v.shape[1], q.shape[2], v.shape[3])
