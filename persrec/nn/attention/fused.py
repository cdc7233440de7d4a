"""Softmax attention of one segment by the framework's fused kernels, which skip what is behind a query, forward and backward.

Padding needs no mask: keys are one number wider, far below 0 where nothing may see them, and queries have a 1 there. So a
fused kernel with a causal mask serves any padding, and no ``[n, m]`` is kept.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
"""

import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right

from persrec.nn.attention.visible import keys_seen

HIDDEN = -3e4  # after the scale of the widest head, exp of it is still 0; float16 holds it
WIDTH_MULTIPLE = 8  # fused kernels take heads of such widths


def fused_softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, prefix: int, valid: torch.Tensor) -> torch.Tensor:
    """``softmax(q k^T / sqrt(d)) v`` over the prefix and, causally, the segment's own keys.

    Args:
        q: ``[B, H, n, d]``.
        k: ``[B, H, m, d]``.
        v: ``[B, H, m, d_v]``.
        prefix: ``p``.
        valid: ``[B, m]``.

    Differs: a query that is padding gives its own value; in the reference it also sees what is valid before it. Nothing
    sees its row.
    """
    if torch.is_autocast_enabled(q.device.type):  # autocast does not reach past the mask's class, and rotated keys are wider than values
        q, k, v = (tensor.to(torch.get_autocast_dtype(q.device.type)) for tensor in (q, k, v))
    queries, width, value_width = q.shape[2], q.shape[3], v.shape[3]
    padded_width = WIDTH_MULTIPLE * -(-max(width + 1, value_width) // WIDTH_MULTIPLE)
    hidden = torch.zeros(valid.shape, dtype=k.dtype, device=k.device).masked_fill_(~valid, HIDDEN)[:, None]
    out = F.scaled_dot_product_attention(
        _with_column(q, torch.ones_like(hidden[..., prefix:]), padded_width),
        _with_column(k, hidden, padded_width),
        F.pad(v, (0, padded_width - value_width)),
        attn_mask=causal_lower_right(queries, keys_seen(queries - 1, prefix)),
        scale=width**-0.5,
    )
    return torch.where(valid[:, None, prefix:, None], out[..., :value_width], v[:, :, prefix:])


def _with_column(x: torch.Tensor, column: torch.Tensor, width: int) -> torch.Tensor:
    """``x`` ``[B, H, n, d]`` with ``column`` ``[B, 1, n]`` behind, then zeros up to ``width``."""
    columns = x.new_zeros(*x.shape[:3], width - x.shape[3])
    columns[..., 0] = column
    return torch.cat([x, columns], dim=3)
