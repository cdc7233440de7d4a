"""Attention of one segment with a dense mask: the reference for every other way.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
"""

import torch
import torch.nn.functional as F

from persrec.nn.attention.visible import keys_seen


def causal_mask(queries: int, prefix: int, device: torch.device) -> torch.Tensor:
    """``[n, p + n]``, True where a query sees a key of the prefix or of its own past."""
    first_query_keys = keys_seen(0, prefix)
    return torch.ones(queries, prefix + queries, dtype=torch.bool, device=device).tril(first_query_keys - 1)


def self_pairs(queries: int, prefix: int, device: torch.device) -> torch.Tensor:
    """``[n, p + n]``, True where a query meets itself."""
    return torch.eye(queries, prefix + queries, dtype=torch.bool, device=device).roll(prefix, 1)


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
    visible_weights: torch.Tensor = weights.masked_fill(~mask, 0.0)
    return visible_weights @ v
