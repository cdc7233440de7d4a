"""Softmax attention of one segment, block by block (`persrec.nn.attention.blocks`).

A block of query rows holds all the keys that its rows see, so its softmax is whole. The backward pass computes the weights
again. Tests hold outputs and gradients against `persrec.nn.attention.naive`.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
              G = B * H users' heads, users first   r rows of a block   c keys of a block
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from persrec.nn.attention.blocks import Block, blocks, grouped, room_for, room_for_output, ungrouped


class _AdditiveMask:
    """What scores start from: 0 where a query sees a key, else minus infinity.

    Args:
        valid: ``[B, m]``.
        parts: the blocks.
        like: gives the scores' type and device.
    """

    def __init__(self, valid: torch.Tensor, parts: Sequence[Block], like: torch.Tensor) -> None:
        rows = max((part.shape[1] for part in parts), default=0)
        self._largest_start = max((part.own.start for part in parts), default=0)
        mask = like.new_full((rows, self._largest_start + rows), -torch.inf)
        self._causal = mask.triu_(self._largest_start + 1)  # of the last block; those of the others are parts of it
        self._padding = None
        if valid.device.type != "cpu" or not bool(valid.all()):  # asked on the CPU alone, for a GPU would have to wait for the answer
            self._padding = like.new_zeros(valid.shape).masked_fill_(~valid.to(like.device), -torch.inf)[:, None, None]

    def write(self, block: Block, scores: torch.Tensor) -> torch.Tensor:
        """Writes a block's start to ``scores`` ``[G, r, c]``; a query sees itself, valid or not."""
        first = self._largest_start - block.own.start
        causal = self._causal[: block.shape[1], first : first + block.shape[2]]
        if self._padding is None:
            return scores.copy_(causal)
        by_user = block.per_user(scores)
        torch.add(self._padding[block.users, ..., block.keys].expand(-1, by_user.shape[1], -1, -1), causal, out=by_user)
        scores[..., block.own].diagonal(dim1=1, dim2=2).zero_()
        return scores


def _weights(q: torch.Tensor, k: torch.Tensor, mask: _AdditiveMask, block: Block, room: torch.Tensor) -> torch.Tensor:
    """``[G, r, c]`` from ``q`` ``[G, n, d]``, divided by ``sqrt(d)`` already, and ``k`` ``[G, m, d]``, written to ``room``."""
    scores = mask.write(block, block.within(room))
    torch.baddbmm(scores, q[block.groups, block.rows], k[block.groups, block.keys].transpose(1, 2), out=scores)
    return torch.softmax(scores, dim=2, out=scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftmaxBlocks:
    """``softmax(q k^T / sqrt(d)) v`` over the prefix and, causally, the segment's own keys.

    Attributes:
        prefix: ``p``.
        valid: ``[B, m]``; a key that is not is seen by its own query alone, so that its row stays finite.
    """

    prefix: int
    valid: torch.Tensor

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As `Attention` says."""
        queries, keys, values = grouped(q * q.shape[3] ** -0.5, k, v)
        out, parts = room_for_output(q, v), blocks(q, self.prefix)
        mask = _AdditiveMask(self.valid, parts, q)
        room = room_for(parts, queries)
        for block in parts:
            weights = _weights(queries, keys, mask, block, room)
            out[block.users, block.heads, block.rows] = block.per_user(torch.bmm(weights, values[block.groups, block.keys]))
        return out

    def backward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `Attention` says."""
        parts, heads, scale = blocks(q, self.prefix), q.shape[1], q.shape[3] ** -0.5
        q, k, v, grad_out = grouped(q * scale, k, v, grad)
        mask = _AdditiveMask(self.valid, parts, q)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        room, room_of_slopes = (room_for(parts, q) for _ in range(2))
        for block in parts:
            groups, rows, keys = block.groups, block.rows, block.keys
            weights, grad_rows = _weights(q, k, mask, block, room), grad_out[groups, rows]
            slope = torch.bmm(grad_rows, v[groups, keys].transpose(1, 2), out=block.within(room_of_slopes)).mul_(weights)
            slope.addcmul_(weights, slope.sum(2, keepdim=True), value=-1)
            grad_v[groups, keys].add_(torch.bmm(weights.transpose(1, 2), grad_rows))
            grad_q[groups, rows] = torch.bmm(slope, k[groups, keys])
            grad_k[groups, keys].add_(torch.bmm(slope.transpose(1, 2), q[groups, rows]))
        return tuple(ungrouped(part, heads) for part in (grad_q.mul_(scale), grad_k, grad_v))
