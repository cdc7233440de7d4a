"""Attention whose backward pass computes the scores again, in place of keeping ``[n, m]`` of them a head.

Axis legend:  B users or `Context` rows   H heads   n queries   m keys   d width of a head
"""

from typing import Any, Protocol

import torch


class Attention(Protocol):
    """One way to compute a segment's attention, and its gradients from its inputs alone."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """``[B, H, n, d_v]`` from ``q`` ``[B, H, n, d]``, ``k`` ``[B, H, m, d]`` and ``v`` ``[B, H, m, d_v]``."""

    def backward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of q, k and v, then of what else was given to `recomputed`."""


def recomputed(attention: Attention, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *tables: torch.Tensor | None) -> torch.Tensor:
    """``attention`` of q, k and v; ``tables`` are what else gets a gradient of its backward pass.

    On a CPU it computes in float32 under autocast, too: it works in rooms of one type, and rotated keys have another than values.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return recomputed(attention, q.float(), k.float(), v.float(), *tables)
    if torch.is_grad_enabled():
        return _Recomputed.apply(attention, q, k, v, *tables)  # type: ignore[no-any-return, no-untyped-call]
    return attention.forward(q, k, v)


class _Recomputed(torch.autograd.Function):
    """Keeps q, k and v alone."""

    @staticmethod
    def forward(
        ctx: Any,
        attention: Attention,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *tables: torch.Tensor | None,  # noqa: ARG004 - autograd gives gradients to arguments alone
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.attention = attention
        return attention.forward(q, k, v)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        attention: Attention = ctx.attention
        q, k, v = ctx.saved_tensors
        return None, *attention.backward(q, k, v, grad)
