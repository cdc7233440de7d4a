"""Plain forms of HSTU's attention, as a reader would write them: what the kernels have to beat, not our own reference alone.

Each takes what `persrec.nn.attention.naive.naive_pointwise` takes and gives the same. Without gradients they work in place and use
their buffers again; with them, as autograd needs it.

Axis legend:  B users   H heads   n queries   m keys   d width of a head
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from unittest.mock import patch

import torch
import torch.nn.functional as F

from persrec.nn.attention.naive import naive_pointwise

ROWS = 4  # blocks of query rows, of which each sees the keys up to its own end: 5/8 of the pairs
COMPILED = "dense, compiled"
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


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "dense einsum": einsum,
        "dense reference": naive_pointwise,
        "batched, in place": batched,
        "head by head, in place": head_by_head,
        "head by head, causal half": causal_half,
        COMPILED: compiled,
    }
)


@contextmanager
def plain(form: Form) -> Iterator[None]:
    """While it lasts, models whose kernel is ``naive`` attend by this form."""
    with patch("persrec.nn.attention.naive_pointwise", form):
        yield


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
