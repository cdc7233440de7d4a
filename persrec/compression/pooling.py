"""Mean pooling: the history as the means of k chunks of its items' vectors."""

import torch

from persrec.compression.base import ItemSlots
from persrec.layout import Segment, SegmentLayout
from persrec.nn.cache import Chunk


class Pooling:
    """The user's items, padding apart, are cut into ``tokens`` chunks of nearly equal size; a chunk's mean is one input.

    The means stand before the recent items in the backbone, so a cache holds their keys and values. A mean takes the time
    of the latest item in it. Fewer items than chunks leave the first chunks empty and hidden.
    """

    def __init__(self, *, history: int, recent: int, tokens: int) -> None:
        self.layout = SegmentLayout(segments=(Segment(items=history, summaries=tokens),), recent=recent)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The means, all of them kept."""
        chunks = self.layout.segments[segment].carriers
        users, _, width = items.vectors.shape
        chunk_of = _chunk_of(items.valid, chunks)
        sums = items.vectors.new_zeros(users, chunks + 1, width).scatter_add(1, chunk_of[..., None].expand(-1, -1, width), items.vectors)
        counts = torch.zeros_like(chunk_of).new_zeros(users, chunks + 1).scatter_add(1, chunk_of, items.valid.long())[:, :chunks]
        times = None
        if items.times is not None:
            times = items.times.new_zeros(users, chunks + 1).scatter_reduce(1, chunk_of, items.times, "amax")[:, :chunks]
        return Chunk(
            inputs=sums[:, :chunks] / counts.clamp(min=1)[..., None],
            positions=torch.from_numpy(self.layout.positions(segment)).to(items.ids.device),
            valid=counts > 0,
            key_times=times,
            query_times=times,
            keep=chunks,
            items=0,
        )


def _chunk_of(valid: torch.Tensor, chunks: int) -> torch.Tensor:
    """``[B, s]``: the chunk of every item, right-aligned so that the last chunk is filled first; ``chunks`` for padding."""
    count = valid.sum(1, keepdim=True)
    from_end = (valid.flip(1).cumsum(1) - 1).flip(1)
    size = torch.clamp(count, min=chunks)
    return (chunks - 1 - from_end * chunks // size).masked_fill(~valid, chunks)
