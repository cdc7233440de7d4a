"""HSTU's pointwise attention of one segment (arXiv 2402.17152, section 3.2), block by block (`persrec.nn.attention.blocks`).

The backward pass computes the scores again. Tests hold outputs and gradients against
`persrec.nn.attention.naive`.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
              G = B * H users' heads, users first   r rows of a block   c keys of a block
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from persrec.nn.attention.bias import Bias, TableGradients
from persrec.nn.attention.blocks import Block, blocks, grouped, room_for, room_for_output, ungrouped


def _scores(q: torch.Tensor, k: torch.Tensor, block: Block, bias: Bias | None, room: torch.Tensor) -> torch.Tensor:
    """``[G, r, c]`` from ``q`` ``[G, n, d]`` and ``k`` ``[G, m, d]``, written to ``room``."""
    scores = block.within(room)
    rows, keys = q[block.groups, block.rows], k[block.groups, block.keys].transpose(1, 2)
    if bias is None:
        return torch.bmm(rows, keys, out=scores)
    block.per_user(scores).copy_(bias.block(block.users, block.rows, block.keys)[:, None])
    return torch.baddbmm(scores, rows, keys, out=scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class PointwiseBlocks:
    """``silu(q k^T + bias) v`` over the prefix and, causally, the segment's own keys.

    Attributes:
        prefix: ``p``.
        bias: the layer's, or None.
    """

    prefix: int
    bias: Bias | None

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As `Attention` says; ``v`` is 0 at keys that nothing sees."""
        queries, keys, values = grouped(q, k, v)
        out, parts = room_for_output(q, v), blocks(q, self.prefix)
        room = room_for(parts, queries)
        for block in parts:
            weights = block.hide_later(F.silu(_scores(queries, keys, block, self.bias, room), inplace=True))
            out[block.users, block.heads, block.rows] = block.per_user(torch.bmm(weights, values[block.groups, block.keys]))
        return out

    def backward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """As `Attention` says, the bias tables last."""
        parts, heads = blocks(q, self.prefix), q.shape[1]
        q, k, v, grad_out = grouped(q, k, v, grad)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        tables = TableGradients(self.bias)
        room, room_of_gates, room_of_slopes = (room_for(parts, q) for _ in range(3))
        one = q.new_ones(())
        for block in parts:
            groups, rows, keys = block.groups, block.rows, block.keys
            scores, grad_rows = _scores(q, k, block, self.bias, room), grad_out[groups, rows]
            # d silu(s) / ds = sigmoid(s) + silu(s) (1 - sigmoid(s))
            gate = torch.sigmoid(scores, out=block.within(room_of_gates))
            weights = block.hide_later(scores.mul_(gate))
            slope = torch.bmm(grad_rows, v[groups, keys].transpose(1, 2), out=block.within(room_of_slopes))
            block.hide_later(slope.mul_(gate.lerp_(one, weights)))
            grad_v[groups, keys].add_(torch.bmm(weights.transpose(1, 2), grad_rows))
            grad_q[groups, rows] = torch.bmm(slope, k[groups, keys])
            grad_k[groups, keys].add_(torch.bmm(slope.transpose(1, 2), q[groups, rows]))
            tables.add(block.per_user(slope), block.users, block.rows, block.keys)
        return *(ungrouped(part, heads) for part in (grad_q, grad_k, grad_v)), tables.distance, tables.interval
