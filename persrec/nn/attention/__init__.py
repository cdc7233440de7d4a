"""Attention of one segment: queries of the segment against the kept positions of earlier ones and, causally, its own.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head

Two kinds, pointwise (HSTU, arXiv 2402.17152, section 3.2) and softmax, each in a naive dense form, which is the
reference, and in forms that compute little more than what is visible: blocks, and on a GPU a kernel of its own. Tests
compare outputs and gradients.
"""

from functools import cache
from importlib.util import find_spec

import torch

from persrec.names import Kernel
from persrec.nn.attention.bias import Bias
from persrec.nn.attention.blocks import row_blocks
from persrec.nn.attention.fused import fused_softmax
from persrec.nn.attention.naive import causal_mask, naive_pointwise, naive_softmax, self_pairs
from persrec.nn.attention.pointwise import PointwiseBlocks
from persrec.nn.attention.recomputed import Attention, recomputed
from persrec.nn.attention.softmax import SoftmaxBlocks
from persrec.nn.attention.visible import keys_seen

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
        dense_bias = None if bias is None else bias.dense()[:, None]
        return naive_pointwise(q, k, v, mask, dense_bias, divisor)
    v = v * (valid[:, None, :, None].to(v.dtype) / divisor)  # an unseen key weighs nothing, so no mask is needed on the scores
    tables = (None, None) if bias is None else (bias.distance, bias.interval)
    attention = _pointwise(q, prefix, bias) if kernel == "segmented" else PointwiseBlocks(prefix=prefix, bias=bias)
    return recomputed(attention, q, k, v, *tables)


def softmax_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, prefix: int, valid: torch.Tensor, kernel: Kernel
) -> torch.Tensor:
    """Softmax attention of a segment's queries ``[B, H, n, d]`` over ``m = prefix + n`` keys, ``valid`` ``[B, m]``.

    A padded query sees itself, so that its row stays finite; nothing else sees it.
    """
    if kernel == "naive":
        mask = (causal_mask(q.shape[2], prefix, q.device) & valid[:, None, :]) | self_pairs(q.shape[2], prefix, q.device)
        return naive_softmax(q, k, v, mask[:, None])
    if kernel == "segmented" and on_gpu(q):
        return fused_softmax(q, k, v, prefix, valid)
    return recomputed(SoftmaxBlocks(prefix=prefix, valid=valid), q, k, v)


def on_gpu(tensor: torch.Tensor) -> bool:
    """Whether attention of ``tensor`` is a GPU's to compute."""
    return tensor.device.type == "cuda"


@cache
def has_triton() -> bool:
    """Whether Triton is installed; without it HSTU's attention takes the blocks on a GPU too."""
    return find_spec("triton") is not None


def _pointwise(q: torch.Tensor, prefix: int, bias: Bias | None) -> Attention:
    if on_gpu(q) and q.dtype in TRITON_DTYPES and has_triton():
        from persrec.nn.attention.triton import TritonPointwise  # noqa: PLC0415 - a machine without a GPU needs no Triton

        return TritonPointwise(prefix=prefix, bias=bias)
    return PointwiseBlocks(prefix=prefix, bias=bias)


def executed_pairs(queries: int, prefix: int, *, kernel: Kernel) -> int:
    """Query-key pairs that a kernel computes for one segment, hidden ones within its blocks included."""
    if kernel == "naive":
        return queries * (prefix + queries)
    return sum((stop - start) * keys_seen(stop - 1, prefix) for start, stop in row_blocks(queries))
