"""Attention of few queries, as a request has: one product for all pairs, and what depends on no layer computed once for all of them.

A small request takes its time for calls and not for numbers, so here are few calls: no blocks, no copies into rows without gaps, a mask
and places of bias entries that every layer shares. For passes without gradients on a CPU; tests hold it against
`persrec.nn.attention.naive`.

Axis legend:  R `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
"""

import torch
import torch.nn.functional as F

from persrec.nn.attention.bias import Bias
from persrec.nn.attention.blocks import row_blocks
from persrec.nn.attention.naive import causal_mask, self_pairs

# pairs of one head over all rows. With more, blocks are faster, since their scores stay in a core's cache. Pointwise blocks first copy the
# values to weigh them, so their limit is higher
SOFTMAX_PAIRS, POINTWISE_PAIRS = 1 << 18, 1 << 20


def are_few(valid: torch.Tensor, queries: int, device: torch.device, *, pairs: int) -> bool:
    """Whether a pass of ``queries`` a row over keys ``valid`` ``[R, m]`` has at most so many pairs, and is one of these.

    Of several blocks of query rows (`persrec.nn.attention.blocks`) it would be none: blocks leave out hidden pairs, and FLOPs are counted
    so. ``device`` is that of the numbers: ``meta`` where they have no storage, while facts such as ``valid`` lie on the CPU.
    """
    is_plain = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")) and device.type in ("cpu", "meta")
    in_one_block = len(tuple(row_blocks(queries))) <= 1
    return is_plain and in_one_block and valid.shape[0] * queries * valid.shape[1] <= pairs


def few_weights(valid: torch.Tensor, divisor: float, like: torch.Tensor) -> torch.Tensor:
    """What `few_pointwise` multiplies by: ``[R, 1, n, m]``, 1 / divisor where a query sees a key, else 0.

    ``like`` ``[R, H, n, d]`` are the queries; their own keys are the last ``n`` of ``valid`` ``[R, m]``.
    """
    return _visible(valid, like.shape[2])[:, None].to(device=like.device, dtype=like.dtype) / divisor


def few_mask(valid: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What `few_softmax` adds: ``[R, 1, n, m]``, 0 where a query sees a key or itself, so that a padded one is finite, else minus infinity.

    ``valid`` and ``like`` are as `few_weights` takes them.
    """
    queries, keys = like.shape[2], valid.shape[1]
    visible = _visible(valid, queries) | self_pairs(queries, keys - queries, valid.device)
    hidden = torch.zeros(visible.shape, dtype=like.dtype, device=valid.device).masked_fill_(~visible, -torch.inf)
    return hidden[:, None].to(like.device)


def _visible(valid: torch.Tensor, queries: int) -> torch.Tensor:
    """``[R, n, m]``."""
    return causal_mask(queries, valid.shape[1] - queries, valid.device) & valid[:, None]


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
        by_row.add_(bias.looked_up()[:, None])
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
