"""Attention in blocks: a few query rows at a time against the keys that they see, and no pair beyond a block's edge.

A block's scores are worked on in place, so that they stay in a core's cache from the first product to the last.

Axis legend:  B users   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
              G = B * H users' heads, users first   r rows of a block   c keys of a block
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

QUERY_ROWS = 32
# scores of a block, by device: on a CPU few enough for its caches, on a GPU bounded in memory alone
BLOCK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}


def row_blocks(queries: int) -> Iterator[tuple[int, int]]:
    """First and last query row of every block."""
    return ((start, min(start + QUERY_ROWS, queries)) for start in range(0, queries, QUERY_ROWS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Some users' heads, query rows and the keys that they see: all keys before the block's last row."""

    users: slice
    groups: slice
    heads: int
    rows: slice
    prefix: int

    @property
    def keys(self) -> int:
        """Keys that the block's last row sees, ``c``."""
        return self.prefix + int(self.rows.stop)

    @property
    def size(self) -> int:
        """Query rows, ``r``: the block's own keys are the last so many."""
        return int(self.rows.stop) - int(self.rows.start)

    @property
    def scores(self) -> int:
        """How many scores it has."""
        return (int(self.groups.stop) - int(self.groups.start)) * self.size * self.keys

    def within(self, room: torch.Tensor) -> torch.Tensor:
        """``[G, r, c]`` for the block's scores at the start of memory that blocks share (`room_for`)."""
        return room[: self.scores].view(-1, self.size, self.keys)

    def per_user(self, values: torch.Tensor) -> torch.Tensor:
        """``[G, r, c]`` as ``[B, H, r, c]``."""
        return values.view(-1, self.heads, *values.shape[1:])

    def hide_later(self, values: torch.Tensor) -> torch.Tensor:
        """Puts 0 where a key lies behind its query; such keys are among the block's own alone."""
        values[..., self.keys - self.size :].tril_()
        return values

    def later(self, device: torch.device) -> torch.Tensor:
        """``[r, r]`` over the block's own keys, True where the key lies behind its query."""
        return torch.ones(self.size, self.size, dtype=torch.bool, device=device).triu_(1)


def blocks(q: torch.Tensor, prefix: int) -> Iterator[Block]:
    """Blocks of about `BLOCK_ELEMENTS` scores: rows of whole users, or of some heads of one user."""
    users, heads, queries, _ = q.shape
    room = BLOCK_ELEMENTS.get(q.device.type, BLOCK_ELEMENTS["cpu"])
    for start, stop in row_blocks(queries):
        rows, scores = slice(start, stop), (stop - start) * (prefix + stop)
        step = max(1, room // (scores * heads))
        head_step = heads if room >= scores * heads else max(1, room // scores)
        for user in range(0, users, step):
            last = min(user + step, users)
            for head in range(0, heads, head_step):
                upto = min(head + head_step, heads)
                groups = slice(user * heads + head, (last - 1) * heads + upto)
                yield Block(users=slice(user, last), groups=groups, heads=upto - head, rows=rows, prefix=prefix)


def room_for(parts: Sequence[Block], like: torch.Tensor) -> torch.Tensor:
    """Memory for the scores of any of the blocks: memory of its own for each would not stay in a core's cache."""
    return like.new_empty(max((part.scores for part in parts), default=0))


def grouped(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """``[B, H, n, d]`` as ``[G, d, n]``: products with a narrow head then run along the keys, several times faster."""
    return [tensor.transpose(2, 3).flatten(0, 1).contiguous() for tensor in tensors]


def ungrouped(grouped: torch.Tensor, heads: int) -> torch.Tensor:
    """``[G, d, n]`` as ``[B, H, n, d]``."""
    return grouped.view(-1, heads, *grouped.shape[1:]).transpose(2, 3)
