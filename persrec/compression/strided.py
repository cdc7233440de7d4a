"""Strided sampling: every so many items of the history."""

from persrec.compression.base import CompressionSettings, ItemSlots
from persrec.compression.summaries import back_from_latest, sample_chunk, summary_layout, take
from persrec.nn.cache import Chunk


class Strided:
    """``tokens`` items at nearly equal gaps, the latest among them: the latest of each of pooling's chunks.

    The gaps follow from how many items the user has, padding apart; fewer items than ``tokens`` are all taken.
    """

    def __init__(self, *, history: int, recent: int, tokens: int) -> None:
        self.layout = summary_layout(history=history, recent=recent, tokens=tokens)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The sample, all of it kept."""
        tokens, back = self.layout.segments[segment].item_positions, back_from_latest(items.valid)
        size = items.valid.sum(1, keepdim=True).clamp(min=tokens)
        # a chunk's latest item is the one behind which another chunk begins
        is_latest = (back == 0) | (back * tokens // size != (back - 1) * tokens // size)
        return sample_chunk(self.layout, segment, take(items, is_latest & items.valid, tokens))


def build(settings: CompressionSettings) -> Strided:
    """As many items as ``settings.tokens`` says."""
    return Strided(history=settings.history, recent=settings.recent, tokens=settings.tokens)
