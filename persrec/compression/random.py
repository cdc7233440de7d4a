"""A random sample of the history, the same one for the same history."""

import torch

from persrec.compression.base import CompressionSettings, ItemSlots
from persrec.compression.summaries import back_from_latest, highest, sample_chunk, summary_layout, take
from persrec.nn.cache import Chunk

# odd multipliers of 64 bits: Knuth's of the linear congruential generator MMIX, and its increment
MULTIPLIER = 6364136223846793005
INCREMENT = 1442695040888963407


class Random:
    """``tokens`` items drawn without replacement, in time order; fewer items than ``tokens`` are all taken.

    The draw is a fixed hash of an item's id and of how many items come behind it. So the same history gives the same
    sample in training, when it is compressed and when it is recomputed, and every history a sample of its own.
    """

    def __init__(self, *, history: int, recent: int, tokens: int) -> None:
        self.layout = summary_layout(history=history, recent=recent, tokens=tokens)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The sample, all of it kept."""
        tokens = self.layout.segments[segment].item_positions
        sample = highest(draw(items.ids, back_from_latest(items.valid)), items.valid, tokens)
        return sample_chunk(self.layout, segment, take(items, sample, tokens))


def build(settings: CompressionSettings) -> Random:
    """As many items as ``settings.tokens`` says."""
    return Random(history=settings.history, recent=settings.recent, tokens=settings.tokens)


def draw(ids: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """A fixed hash of ids and places, int64 of the same shape: products modulo 2^64, mixed by shifts."""
    state = (ids * MULTIPLIER + back + 1) * INCREMENT
    for shift in (29, 32):
        state = (state ^ (state >> shift)) * MULTIPLIER
    return state ^ (state >> 31)
