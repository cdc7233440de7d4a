"""Softmax attention of one segment, block by block (`persrec.nn.attention.blocks`).

A block of query rows holds all the keys that its rows see, so its softmax is whole. The backward pass computes the weights
again. Tests hold outputs and gradients against `persrec.nn.attention.naive`.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
              G = B * H users' heads, users first   r rows of a block   c keys of a block
"""

from dataclasses import dataclass

import torch

from persrec.nn.attention.blocks import Block, blocks, grouped, room_for, ungrouped


def _hidden_keys(valid: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """``[B, 1, 1, c]`` to add to the scores of the first ``c`` keys, behind which every key is valid; None where all are.

    How many these are is asked on the CPU alone.
    """
    if valid.device.type == "cpu":
        columns = torch.nonzero(~valid.all(0))
        if not len(columns):
            return None
        valid = valid[:, : int(columns[-1]) + 1]
    return torch.zeros(valid.shape, dtype=dtype, device=valid.device).masked_fill_(~valid, -torch.inf)[:, None, None]


def _weights(q: torch.Tensor, k: torch.Tensor, hidden: torch.Tensor | None, block: Block, room: torch.Tensor) -> torch.Tensor:
    """``[G, r, c]`` from ``q`` ``[G, d, n]``, divided by ``sqrt(d)`` already, and ``k`` ``[G, d, m]``, written to ``room``."""
    scores = block.within(room)
    torch.bmm(q[block.groups, :, block.rows].transpose(1, 2), k[block.groups, :, block.keys], out=scores)
    own_keys = scores[..., block.own]
    if hidden is not None:
        seen_by_itself = own_keys.diagonal(dim1=1, dim2=2)[:, : max(0, hidden.shape[3] - block.own.start)]
        own = seen_by_itself.clone()
        added = hidden[block.users, ..., block.keys]
        block.per_user(scores)[..., : added.shape[3]].add_(added)
        seen_by_itself.copy_(own)
    own_keys.masked_fill_(block.later(scores.device), -torch.inf)
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
        hidden = _hidden_keys(self.valid, q.dtype)
        out = queries.new_empty(len(queries), values.shape[1], queries.shape[2])
        parts = blocks(q, self.prefix)
        room = room_for(parts, queries)
        for block in parts:
            weights = _weights(queries, keys, hidden, block, room)
            out[block.groups, :, block.rows] = torch.bmm(values[block.groups, :, block.keys], weights.transpose(1, 2))
        return ungrouped(out, q.shape[1])

    def backward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `Attention` says."""
        parts, heads, scale = blocks(q, self.prefix), q.shape[1], q.shape[3] ** -0.5
        q, k, v, grad_out = grouped(q * scale, k, v, grad)
        hidden = _hidden_keys(self.valid, q.dtype)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        room, room_of_slopes = (room_for(parts, q) for _ in range(2))
        for block in parts:
            groups, rows, keys = block.groups, block.rows, block.keys
            weights, out = _weights(q, k, hidden, block, room), grad_out[groups, :, rows]
            slope = torch.bmm(out.transpose(1, 2), v[groups, :, keys], out=block.within(room_of_slopes)).mul_(weights)
            slope.addcmul_(weights, slope.sum(2, keepdim=True), value=-1)
            grad_v[groups, :, keys].add_(torch.bmm(out, weights))
            grad_q[groups, :, rows] = torch.bmm(k[groups, :, keys], slope.transpose(1, 2))
            grad_k[groups, :, keys].add_(torch.bmm(q[groups, :, rows], slope))
        return tuple(ungrouped(part, heads) for part in (grad_q.mul_(scale), grad_k, grad_v))
