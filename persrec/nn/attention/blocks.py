"""Attention in blocks: a few query rows at a time against the keys that they see, and no pair beyond a block's edge.

A block's scores are worked on in place, so that they stay in a core's cache from the first product to the last.

Axis legend:  B users or `Context` rows   H heads   n queries   p prefix keys, seen by every query   m = p + n keys   d width of a head
              G = B * H users' heads, users first   r rows of a block   c keys of a block
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from persrec.nn.attention.visible import keys_seen

QUERY_ROWS = 48
# scores of a block: on a GPU memory alone bounds them; on a CPU they are few enough for the caches of its cores. Of several threads
# each takes twice as many, since threads wait for one another at the end of every product
GPU_SCORES, CPU_SCORES = 1 << 26, 1 << 19


def row_blocks(queries: int) -> Iterator[tuple[int, int]]:
    """Start and stop of the query rows of every block."""
    return _row_ranges(queries, QUERY_ROWS)


def _row_ranges(queries: int, rows: int) -> Iterator[tuple[int, int]]:
    """Blocks of about ``rows`` rows, all alike but the last: a narrow rest would cost as much time as a whole block."""
    block_rows = -(-queries // max(1, round(queries / rows)))
    return ((start, min(start + block_rows, queries)) for start in range(0, queries, max(1, block_rows)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Some users' heads, query rows and the keys that they see, one more for each row (`persrec.nn.attention.visible.keys_seen`).

    Attributes:
        users: whose.
        groups: their heads, or those of one user's that the block has.
        heads: which heads of each user.
        rows: query rows, ``r`` of them.
        keys: the keys that the last row sees, ``c``.
        own: the last ``r`` of them, which are the rows' own.
        shape: ``(G, r, c)``.
        scores: how many scores it has.
    """

    users: slice
    groups: slice
    heads: slice
    rows: slice
    keys: slice
    own: slice
    shape: tuple[int, int, int]
    scores: int

    def within(self, room: torch.Tensor) -> torch.Tensor:
        """``[G, r, c]`` for the block's scores at the start of memory that blocks share (`room_for`)."""
        return room[: self.scores].view(self.shape)

    def per_user(self, values: torch.Tensor) -> torch.Tensor:
        """``[G, r, ...]`` as ``[B, H, r, ...]``."""
        return values.view(-1, self.heads.stop - self.heads.start, *values.shape[1:])

    def hide_later(self, values: torch.Tensor) -> torch.Tensor:
        """Puts 0 where a key lies behind its query; such keys are among the block's own alone, of which row ``i`` sees ``i + 1``."""
        values[..., self.own].tril_()
        return values


def blocks(q: torch.Tensor, prefix: int) -> tuple[Block, ...]:
    """Blocks of about as many scores as `most_scores`: rows of whole users, or of some heads of one user."""
    users, heads, queries = (int(size) for size in q.shape[:3])  # of a traced tensor they are tensors
    return _blocks(users, heads, queries, prefix, QUERY_ROWS, most_scores(q.device.type))


def most_scores(device: str) -> int:
    """How many scores a block may have; a row of one head is never cut."""
    if device == "cuda":
        return GPU_SCORES
    threads = torch.get_num_threads()
    return CPU_SCORES if threads == 1 else 2 * CPU_SCORES * threads


@lru_cache(maxsize=256)  # every layer of a model asks for the same ones, forward and backward
def _blocks(users: int, heads: int, queries: int, prefix: int, query_rows: int, max_scores: int) -> tuple[Block, ...]:
    parts = []
    for start, stop in _row_ranges(queries, query_rows):
        keys = keys_seen(stop - 1, prefix)
        scores = (stop - start) * keys
        user_step = max(1, max_scores // (scores * heads))
        head_step = heads if max_scores >= scores * heads else max(1, max_scores // scores)
        for user in range(0, users, user_step):
            user_stop = min(user + user_step, users)
            for head in range(0, heads, head_step):
                head_stop = min(head + head_step, heads)
                groups = slice(user * heads + head, (user_stop - 1) * heads + head_stop)
                shape = (groups.stop - groups.start, stop - start, keys)
                block = Block(
                    users=slice(user, user_stop), groups=groups, heads=slice(head, head_stop), rows=slice(start, stop),
                    keys=slice(0, keys), own=slice(keys - (stop - start), keys), shape=shape, scores=shape[0] * scores,
                )  # fmt: skip
                parts.append(block)
    return tuple(parts)


def room_for(parts: Sequence[Block], like: torch.Tensor) -> torch.Tensor:
    """Memory for the scores of any of the blocks: memory of its own for each would not stay in a core's cache."""
    return like.new_empty(max((part.scores for part in parts), default=0))


def grouped(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """``[B, H, n, d]`` as ``[G, n, d]``, without gaps between the rows of a head: products read these a third slower."""
    return [tensor if _has_no_gaps(tensor) else tensor.contiguous() for tensor in (tensor.flatten(0, 1) for tensor in tensors)]


def _has_no_gaps(heads: torch.Tensor) -> bool:
    """Whether the rows of each head lie side by side, as they do in a cache with room behind the kept positions of each head."""
    return heads.stride(2) == 1 and heads.stride(1) == heads.shape[2]


def ungrouped(grouped: torch.Tensor, heads: int) -> torch.Tensor:
    """``[G, n, d]`` as ``[B, H, n, d]``."""
    return grouped.view(-1, heads, *grouped.shape[1:])


def room_for_output(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """``[B, H, n, d_v]`` that lies in memory as ``[B, n, H, d_v]``: heads are merged without a copy."""
    users, heads, queries, _ = q.shape
    return q.new_empty(users, queries, heads, v.shape[3]).transpose(1, 2)
